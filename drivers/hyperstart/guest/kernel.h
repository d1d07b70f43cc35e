/* System calls for which libc has no functions: openat2(2), clone3(2), and those on mounts apart from their place. */
#ifndef KERNEL_H
#define KERNEL_H

#include "util.h"

#include <sys/types.h>

enum { RESOLVE_NO_MAGICLINKS_ = 2, RESOLVE_BENEATH_ = 8, RESOLVE_IN_ROOT_ = 16 };

/* Open only to refer to it. No link of /proc is followed: those lead anywhere. `resolve`: how else to look. */
int open_path(int directory, const char *path, uint64_t resolve);

/* Open a file as if `root` were the root, likewise. */
int open_file(int root, const char *path, int flags, unsigned mode);

/* Mounts that are mounted nowhere yet: a new devpts, and what `file` refers to. -1 and errno if that fails. */
int make_pts(void);
int clone_mount(int file, bool read_only);

/* Mount it on `path` below `directory`, or if `path` is empty on that itself. False and errno if that fails. */
bool attach_mount(int mount, int directory, const char *path);

/* Make the mount at `path` read-only. False and errno if that fails. */
bool make_read_only(const char *path);

/* Make a child that runs `run`, which must not return, on a stack of that size. `flags` are those of clone(2); `cgroup` is
 * the directory of the control group to be born in, or -1. Returns its number, or -1 and errno. */
pid_t clone_child(uint64_t flags, int cgroup, void *stack, size_t size, void (*run)(void *), void *data);

#endif
