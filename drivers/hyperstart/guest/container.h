/* The containers of the pod: each a first process, and a mount namespace that further processes enter. */
#ifndef CONTAINER_H
#define CONTAINER_H

#include "cgroup.h"
#include "process.h"

/* The container that a host of the later dialect calls so is the VM itself. */
#define VM_ITSELF "hyperstart"

struct container {
	struct container *next; /* in the order they were made */
	struct container_spec spec;
	struct message message; /* owns what spec points to, unless the pod's message does */
	bool running;
	bool outside;           /* the guest's own root: its processes are numbered as the agent's are */
	uint8_t status;         /* of init, once it ended */
	struct cgroup cgroup;
	int mounts;             /* the mount namespace */
	int pts;                /* its devpts, whose ptmx makes terminals */
};

extern struct container *containers;

struct container *container_find(const char *id);

/* NULL once it is forgotten, or if it has none. */
struct process *container_first_process(const struct container *container);

/* Make a container in which nothing runs, with a devpts that is mounted nowhere yet; in the list. NULL and `failure` if that
 * fails. */
struct container *container_new(const struct container_spec *spec);

/* Its first process has ended. */
void container_ended(struct container *container, uint8_t status);

/* Forget a container; its processes have ended, or are about to. */
void container_free(struct container *container);

bool containers_running(void); /* any of them */

#endif
