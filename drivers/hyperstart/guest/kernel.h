/* System calls for which libc has no functions: openat2(2), clone3(2), and those of the mount API with descriptors. */
#ifndef KERNEL_H
#define KERNEL_H

#include "util.h"

#include <sys/types.h>

enum { RESOLVE_NO_MAGICLINKS_ = 2, RESOLVE_BENEATH_ = 8, RESOLVE_IN_ROOT_ = 16 };

/* Open with O_PATH. No magic link of /proc is followed, because those lead out of any root. `resolve`: further flags of
 * openat2(2). -1 and errno if that fails. */
int open_path(int directory, const char *path, uint64_t resolve);

/* Open a file as if `root` were the root directory; also without magic links. -1 and errno if that fails. */
int open_file(int root, const char *path, int flags, unsigned mode);

/* Attributes of a mount (linux/mount.h). */
enum { MOUNT_ATTR_RDONLY_ = 1, MOUNT_ATTR_NOSUID_ = 2, MOUNT_ATTR_NODEV_ = 4, MOUNT_ATTR_NOEXEC_ = 8 };

/* Create a mount that is not attached yet: a new devpts; a new tmpfs of `size` bytes (0: half of the memory), in which no
 * device opens; a bind mount of `file` and what is mounted below it. -1 and errno if that fails. */
int make_pts(void);
int make_tmpfs(uint64_t size, unsigned mode, unsigned attributes);
int clone_mount(int file, unsigned attributes);

/* Attach a mount to `path` below `directory`, or if `path` is empty to that itself. False and errno if that fails. */
bool attach_mount(int mount, int directory, const char *path);

/* Make the mount at `path` read-only, or let no device open in it. False and errno if that fails. */
bool make_read_only(const char *path);
bool make_nodev(const char *path);

/* Create a child that calls run(data), which must not return, on a stack of `size` bytes. `flags` are those of clone(2);
 * `cgroup` is the directory of the control group in which it is created, or -1. Returns its pid, or -1 and errno. */
pid_t clone_child(uint64_t flags, int cgroup, void *stack, size_t size, void (*run)(void *), void *data);

#endif
