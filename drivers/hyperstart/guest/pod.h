/* The pod: the namespaces that its containers share, the shared directory, and the end of it all. */
#ifndef POD_H
#define POD_H

#include "container.h"

struct pod {
	bool started;
	pid_t init;             /* first process of the pod's pid namespace; 0: none, or it has ended */
	bool share_mounted;
	unsigned long share_flags; /* of its mount */
	struct message message; /* owns what the containers' specifications point to */
};
extern struct pod pod;

/* Make namespaces and mount the share. False and `failure`, and nothing left, if that fails. */
bool pod_start(const struct pod_spec *spec);

/* Kill everything in the pod and forget it; a new one can be started. */
void pod_end(void);

/* Forget a container that has ended, and what is cached of its root. */
void pod_forget_container(struct container *container);

/* Ask everything to end, kill it after a while. pod_is_gone tells when nothing is left. */
void pod_destroy(void);
bool pod_is_gone(void);

/* A child of the agent has ended: one of the host's processes, or the pod's own. */
void pod_reaped(pid_t pid, int wait_status);

#endif
