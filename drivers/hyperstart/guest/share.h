/* The host's directories in the guest, mounted when they are first needed. */
#ifndef SHARE_H
#define SHARE_H

#include "spec.h"

enum share {
	SHARE_ROOTS,    /* read-only after HELLO and cached without asking: the host changes no root that is in use */
	SHARE_LIVE,     /* the same directory for mounts: what the host changes is seen */
	SHARE_WRITABLE, /* mounts that containers can write to */
};

/* At boot: make the directories to mount on. */
void share_init(void);

/* Note what the pod may mount; the tags stay the caller's. */
void share_offer(const struct pod_spec *pod);

/* Mount it unless it is. False and `failure` if that fails. */
bool share_mount(enum share share);
void share_unmount_all(void);

/* Where the source of a container's mount is found. */
enum share share_of(const struct mapping *mapping);

/* Forget the names that are cached of roots: the host may have put others there. Those in use stay. */
void share_forget_names(void);

/* Open what `path` names below the share, only to refer to it; nothing leads out of it. -1 and `failure`, which calls it
 * `what`, if there is nothing. */
int share_open(enum share share, const char *what, const char *path);

#endif
