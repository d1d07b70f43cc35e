/* The pod: the namespaces that its containers share, the shared directory, and the end of it all. */
#ifndef POD_H
#define POD_H

#include "container.h"

struct pod {
	bool started;
	pid_t init;             /* first process of the pod's pid namespace; 0: none, or it has ended */
	struct message message; /* owns what the containers' specifications point to */
};
extern struct pod pod;

/* Make namespaces and mount the share. False and `failure`, and nothing left, if that fails. */
bool pod_start(const struct pod_spec *spec);

/* Kill everything in the pod and forget it; a new one can be started. */
void pod_end(void);

/* What commands run in that name no container: the pod's own root, or else the guest's. NULL and `failure` if
 * there is no memory for it. */
struct container *pod_itself(void);

/* Ask everything to end, kill it after a while. pod_is_gone tells when nothing is left. */
void pod_destroy(void);
bool pod_is_gone(void);

/* Let go of all containers, whose processes have ended, so that their disks are unmounted. */
void pod_let_go(void);

/* A child of the agent has ended: one of the host's processes, or the pod's own. */
void pod_reaped(pid_t pid, int wait_status);

#endif
