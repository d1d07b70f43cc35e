/* What happens in the child between fork and execve. */
#ifndef LAUNCH_H
#define LAUNCH_H

#include "container.h"

struct launch {
	const struct container *container;
	const struct process_spec *spec;
	bool init;  /* make the container's root; otherwise enter it */
	int report; /* where a `struct failure` goes; closed by execve */
};

/* Become the process. Never returns: what goes wrong is reported, and ends the child. */
_Noreturn void launch_process(const struct launch *launch, const int stdio[3]);

#endif
