/* How containers and processes are started. */
#ifndef START_H
#define START_H

#include "container.h"

/* At boot: `started` is called when a start that was STARTING has come to its end; then the process runs, or it is `unknown`
 * and `failure` says why. */
void start_init(void (*started)(struct process *process));

/* Start a process of a container (its first one if `init`, which also makes the container's root). STARTING: the outcome
 * comes later, see start_init. NOT_STARTED: `failure` says why. */
enum start { NOT_STARTED, STARTED, STARTING };
enum start process_start(struct container *container, bool init, const struct process_spec *spec);

/* Make a container and begin to start its first process; message may be NULL, else the container takes what it holds.
 * NULL and `failure` if that fails at once. */
struct container *container_start(const struct container_spec *spec, struct message *message);

/* Make a container that has a root, but no first process. NULL and `failure` if that fails. */
struct container *container_make(const struct container_spec *spec);

/* The same of the guest's own root, where the agent is. */
struct container *container_of_guest(const char *id);

#endif
