/* How containers and processes are started. */
#ifndef START_H
#define START_H

#include "container.h"

/* Start a process of a container (its first one if `init`, which also makes the container's root). STARTING: the outcome
 * comes later by control_started. NOT_STARTED: `failure` says why. */
enum start { NOT_STARTED, STARTED, STARTING };
enum start process_start(struct container *container, bool init, const struct process_spec *spec);

void start_ready(struct watch *watch, uint32_t events);

/* Make a container and begin to start its first process; message may be NULL, else the container takes what it holds.
 * NULL and `failure` if that fails at once. */
struct container *container_start(const struct container_spec *spec, struct message *message);

/* Make a container that has a root, but no first process. NULL and `failure` if that fails. */
struct container *container_make(const struct container_spec *spec);

/* The same of the guest's own root, where the agent is. */
struct container *container_of_guest(const char *id);

#endif
