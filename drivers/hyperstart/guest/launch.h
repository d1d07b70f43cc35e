/* Creates a process of a container, up to its execve. */
#ifndef LAUNCH_H
#define LAUNCH_H

#include "container.h"

#include <sys/types.h>

/* Start a process of the container, its first one if `init`; `stdio` are its ends of three streams. Returns its pid, or
 * -1 and `failure`. Sets *report to -1 if the program runs when the function returns. Otherwise sets it to the end of a
 * pipe: execve closes the pipe, and a child that fails writes its `struct failure` into it. */
pid_t launch_process(struct container *container, bool init, const struct process_spec *spec, const int stdio[3],
                     int *report);

#endif
