/* Makes the root file system of a container. A process does so in a mount namespace of its own, where it becomes "/". */
#ifndef ROOT_H
#define ROOT_H

#include "spec.h"

/* Called once at boot, in the agent: create the mount points. */
void root_init(void);

/* Called in the agent: create the /dev/shm that containers with `shared_memory` share, of so many MiB, unless it is there
 * or `size` is 0; remove it. False and `failure` if that fails. */
bool root_share_memory(uint64_t size);
void root_unshare_memory(void);

/* Called in a child, in a new mount namespace: mount the container's root with proc, sys, dev and its mounts; `pts` is a
 * devpts that is not attached yet. False and `failure` if that fails. */
bool root_make(const struct container_spec *spec, int pts);

/* Likewise, mount an empty root. */
bool root_make_empty(void);

/* Write settings of the kernel, in the namespaces of the caller; dots in a name stand for slashes, as in sysctl(8). False
 * and `failure` if that fails. */
bool set_sysctls(const struct variable *variable);

#endif
