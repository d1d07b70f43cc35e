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
	struct process *init;   /* NULL once forgotten */
	bool running;
	bool outside;           /* the guest's own root: its processes are numbered as the agent's are */
	uint8_t status;         /* of init, once it ended */
	struct cgroup cgroup;
	int mounts;             /* the mount namespace */
	int pts;                /* its devpts, whose ptmx makes terminals */
};

extern struct container *containers;

/* At boot: note the agent's own mount namespace. */
void container_init(void);

struct container *container_find(const char *id);

/* Make a container and begin to start its first process; message may be NULL, else the container takes what it holds.
 * NULL and `failure` if that fails at once. */
struct container *container_start(const struct container_spec *spec, struct message *message);

/* Make a container that has a root, but no first process. NULL and `failure` if that fails. */
struct container *container_make(const struct container_spec *spec);

/* The same of the guest's own root, where the agent is. */
struct container *container_of_guest(const char *id);

/* Its first process has ended. */
void container_ended(struct container *container, uint8_t status);

/* Forget a container; its processes have ended, or are about to. */
void container_free(struct container *container);

size_t containers_running(void);

/* Give the agent the container's new mount namespace, so that a child is born in it. */
bool container_unshare(struct container *container);

/* Enter the container's mount namespace. */
bool container_enter(const struct container *container);

/* Lead the agent back to its own. */
void container_leave(void);

#endif
