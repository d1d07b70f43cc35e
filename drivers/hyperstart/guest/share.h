/* The directories that the host shares; each is mounted at its first use. */
#ifndef SHARE_H
#define SHARE_H

#include "spec.h"

enum share {
	SHARE_ROOTS, /* read-only after HELLO, and cached without revalidation: the host changes no root that is in use */
	SHARE_LIVE, /* the same directory for mounts, not cached: changes on the host are visible */
	SHARE_WRITABLE, /* mounts that containers can write to */
	SHARE_WRITTEN_ROOTS, /* roots that containers write to, which the host reads and changes meanwhile */
};

/* Called once at boot: create the mount points. */
void share_init(void);

/* Set the mount tags of a pod; the strings stay the caller's, and must live as long as the pod. */
void share_offer(const struct pod_spec *pod);

/* Mount a share unless it is mounted. False and `failure` if that fails. */
bool share_mount(enum share share);
void share_unmount_all(void);

/* The share that has the source of a container's mount. */
enum share share_of(const struct mapping *mapping);

/* Drop the names in the cache of roots that are not in use: the host may have replaced their files. */
void share_forget_names(void);

/* Open a path below the share with O_PATH; neither `..` nor a link leads out of the share. -1 and `failure`, in which
 * the path is called `what`, if that fails. */
int share_open(enum share share, const char *what, const char *path);

#endif
