/* A container: its root file system in a mount namespace of its own, which processes enter. */
#ifndef CONTAINER_H
#define CONTAINER_H

#include "process.h"

/* Where the shared directory is mounted in the guest. */
#define SHARE "/run/vc/share"

struct container {
	struct container *next; /* in the order they were made */
	struct container_spec spec;
	struct message message; /* owns what spec points to, unless the pod's message does */
	struct process *init;   /* NULL once forgotten */
	bool running;
	uint8_t status;         /* of init, once it ended */
	int mounts;             /* the mount namespace */
	int pts;                /* its devpts, whose ptmx makes terminals */
};

extern struct container *containers;

/* Create what containers are made in. At boot. */
void container_init(void);

struct container *container_find(const char *id);

/* Make a container and begin to start its first process; message may be NULL, else the container takes what it holds.
 * NULL and `failure` if that fails at once. */
struct container *container_start(const struct container_spec *spec, struct message *message);

/* Its first process has ended. */
void container_ended(struct container *container, uint8_t status);

/* Forget a container; its processes have ended, or are about to. */
void container_free(struct container *container);

size_t containers_running(void);

/* For process_start: give the agent the container's new mount namespace, so that the child is born in it, and back. */
bool container_unshare(struct container *container);
void container_unshared(void);

/* In the child. Both set the process' root. */
bool container_make_root(const struct container *container);
bool container_enter(const struct container *container);

/* Make `path` the root of the calling process' mount namespace, and lose the one before. */
bool switch_root(const char *path);

#endif
