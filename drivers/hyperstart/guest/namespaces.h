/* The namespaces of the pod, of its isolated containers, and the mount namespaces of all. The agent enters them so that its children are
 * created in them, and leaves them. */
#ifndef NAMESPACES_H
#define NAMESPACES_H

#include "util.h"

#include <sys/types.h>

/* Sent to the pod's first process: end as soon as nothing is left to reap. */
#define END_WHEN_IDLE SIGUSR1

/* Called once at boot: open the agent's own mount namespace. */
void namespaces_init(void);

/* Create a mount namespace and enter it; `mounts` becomes a descriptor of it. False and `failure` if that fails. */
bool mounts_unshare(int *mounts);

/* Enter a mount namespace. False and `failure` if that fails. */
bool mounts_enter(int mounts);

/* Return to the agent's own mount namespace. */
void mounts_leave(void);

/* A descriptor of the agent's own mount namespace; -1 and errno if that fails. */
int mounts_of_agent(void);

/* Create the pod's namespaces: the agent enters those of host name and IPC, and its children are created in that of
 * pids. `init` becomes the pid of the pod's first process, 0 if there is none. False and `failure` if that fails. */
bool pod_namespaces_make(pid_t *init);

/* Close them, once their processes have ended. */
void pod_namespaces_close(void);

/* The namespaces of a container beside the pod's, each -1 where it has the pod's. `init` is the first process of the
 * agent's that keeps them, 0 if there is none. */
struct isolation {
	pid_t init;
	int pids, ipc, users;
};

extern const struct isolation not_isolated;

/* Create them, or end all of their processes and close them. False and `failure` if that fails. */
bool isolation_make(struct isolation *isolation);
void isolation_end(struct isolation *isolation);

/* Let children be created in the container's pid namespace, until pod_step_in; fatal if that fails. */
void isolation_step_in(const struct isolation *isolation);

/* Let the next child be the first process of a new pid namespace, which no process of the pod can see, until pod_step_in.
 * False and `failure` if that fails. */
bool pids_unshare(void);

/* Called then, when the child exists: the new pid namespace becomes that of the container. False and `failure` if that
 * fails. */
bool isolation_take_pids(struct isolation *isolation);

/* Called in a child: enter the container's IPC namespace, if it has one. False and `failure` if that fails. */
bool isolation_enter_ipc(const struct isolation *isolation);

/* Let children be created in the agent's own pid namespace, and in the pod's again. */
void pod_step_out(void);
void pod_step_in(void);

#endif
