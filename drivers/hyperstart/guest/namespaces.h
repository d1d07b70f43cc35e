/* The namespaces of the pod, and the mount namespaces of its containers. */
#ifndef NAMESPACES_H
#define NAMESPACES_H

#include "container.h"

/* Sent to the pod's init: end as soon as nothing is left to reap. */
#define END_WHEN_IDLE SIGUSR1

extern int agent_mounts, pod_pids;

/* At boot: note the agent's own mount namespace. */
void container_init(void);

/* Give the agent the container's new mount namespace, so that a child is born in it. */
bool container_unshare(struct container *container);

/* Enter the container's mount namespace. */
bool container_enter(const struct container *container);

/* Lead the agent back to its own. */
void container_leave(void);

bool make_namespaces(void);

/* Let children be born outside of the pod's pid namespace, and in it again. */
void pod_step_out(void);
void pod_step_in(void);

#endif
