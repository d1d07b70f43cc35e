/* The pod: its namespaces, network, shared directories and containers, from STARTPOD to the end of all its processes. */
#ifndef POD_H
#define POD_H

#include "container.h"

struct pod {
	bool started;
	pid_t init;             /* first process of the pod's pid namespace; 0: none, or it has ended */
	struct message message; /* owns what the containers' specifications point to */
};
extern struct pod pod;

/* Do of a start what depends on no host, if it is not done: make the namespaces and the first control group, and raise the
 * loopback interface. A clone then has it done. False and `failure` if that fails. */
bool pod_prepare(void);

/* Prepare what is not yet, configure the network and mount the share. False and `failure` if that fails; then all is undone. */
bool pod_start(const struct pod_spec *spec);

/* Kill all processes of the pod, wait for their end, and free it; a new one can be started. */
void pod_end(void);

/* The container for commands that name none: the pod's own root, or else the guest's. NULL and `failure` if that fails. */
struct container *pod_itself(void);

/* Send SIGTERM to all processes, if there are any, and SIGKILL to those that are left after 2 s. pod_is_gone returns true
 * once only the pod's first one is left, or none. */
void pod_destroy(void);
bool pod_is_gone(void);

/* Unmount the disks of containers, whose processes have ended, and write to the host what other mounts have not written.
 * Called before power-off, which ends all else. */
void pod_save(void);

/* Called when a child of the agent was reaped: a process that the host started, or the pod's first one. */
void pod_reaped(pid_t pid, int wait_status);

#endif
