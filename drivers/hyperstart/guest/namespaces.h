/* The namespaces of the pod, and the mount namespaces of its containers. */
#ifndef NAMESPACES_H
#define NAMESPACES_H

#include "util.h"

#include <sys/types.h>

/* Sent to the pod's first process: end as soon as nothing is left to reap. */
#define END_WHEN_IDLE SIGUSR1

/* At boot: note the agent's own mount namespace. */
void namespaces_init(void);

/* Give the agent a new mount namespace, so that a child is born in it; `mounts` refers to it from then on. False and
 * `failure` if that fails. */
bool mounts_unshare(int *mounts);

/* Enter a mount namespace. False and `failure` if that fails. */
bool mounts_enter(int mounts);

/* Lead the agent back to its own. */
void mounts_leave(void);

/* A descriptor of the agent's own mount namespace; -1 and errno if that fails. */
int mounts_of_agent(void);

/* From here on children of the agent are born in the pod's namespaces, of which it shares two. `init` becomes the pod's first
 * process, 0 if there is none. False and `failure` if that fails. */
bool pod_namespaces_make(pid_t *init);

/* Forget them, once their processes have ended. */
void pod_namespaces_close(void);

/* Let children be born outside of the pod's pid namespace, and in it again. */
void pod_step_out(void);
void pod_step_in(void);

#endif
