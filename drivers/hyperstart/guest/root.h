/* The root file system of a container, made by a process in a mount namespace of its own, which it then sees as "/". */
#ifndef ROOT_H
#define ROOT_H

#include "spec.h"

/* Make the directories that all this is mounted on. At boot, in the agent. */
void root_init(void);

/* Mount the container's root with proc, sys, dev and its mounts; `pts` is a devpts that is mounted nowhere yet. */
bool root_make(const struct container_spec *spec, int pts);

/* Mount a root with nothing in it. */
bool root_make_empty(void);

#endif
