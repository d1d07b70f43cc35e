/* Starts containers and processes: their streams, terminals, control groups, roots and first processes. */
#ifndef START_H
#define START_H

#include "container.h"

/* Called once at boot. `started` is called for each start that was STARTING: then the process runs, or it is `hidden` and
 * `failure` has the reason. */
void start_init(void (*started)(struct process *process));

/* Start a process of a container (its first one if `init`, which also makes the container's root). STARTING: the outcome
 * comes later, see start_init. NOT_STARTED: `failure` has the reason. */
enum start { NOT_STARTED, STARTED, STARTING };
enum start process_start(struct container *container, bool init, const struct process_spec *spec);

/* Make a container and begin to start its first process. If `message` is not NULL, the container takes its memory over.
 * NULL and `failure` if that fails at once. */
struct container *container_start(const struct container_spec *spec, struct message *message);

/* Make a container that has a root, but no first process. NULL and `failure` if that fails. */
struct container *container_make(const struct container_spec *spec);

/* Make a container of the guest's own root, in which the agent runs. NULL and `failure` if that fails. */
struct container *container_of_guest(const char *id);

#endif
