/* The containers of the pod: each a first process, and a mount namespace that further processes enter. */
#ifndef CONTAINER_H
#define CONTAINER_H

#include "cgroup.h"
#include "namespaces.h"
#include "process.h"

/* The id by which a host of version 4243 or 4244 runs commands in the guest's own root. */
#define VM_ITSELF "hyperstart"

struct container {
	struct container *next; /* in the order they were made */
	struct container_spec spec;
	struct message message; /* owns what spec points to, unless the pod's message does */
	bool running;
	bool frozen;            /* its processes are suspended */
	bool outside;           /* the guest's own root: its processes are in the agent's pid namespace */
	uint8_t status;         /* of its first process, once that has ended */
	struct cgroup cgroup;
	struct isolation isolation;
	int mounts;             /* the mount namespace */
	int pts;                /* its devpts, whose ptmx makes terminals */
};

extern struct container *containers;

/* Whether processes of containers that have ended may be left, because there are no control groups to find them by. */
extern bool container_strays;

struct container *container_find(const char *id);

/* Find its first process. NULL if it has none, or once that is forgotten. */
struct process *container_first_process(const struct container *container);

/* Make a container in which nothing runs, with a devpts that is mounted nowhere yet; in the list. NULL and `failure` if
 * that fails. */
struct container *container_new(const struct container_spec *spec);

/* Called when its first process has ended: kill the others. */
void container_ended(struct container *container, uint8_t status);

/* Kill what is left of a container and free it. */
void container_free(struct container *container);

/* Called when a child of the agent was reaped: it may have been the first process of a container's namespaces. */
void container_init_reaped(pid_t pid);

bool containers_running(void); /* any of them */

#endif
