/* From a request for a process to its execve. */
#ifndef LAUNCH_H
#define LAUNCH_H

#include "container.h"

#include <sys/types.h>

/* Start a process of the container, its first one if `init`; `stdio` are its ends of three streams. Returns its number,
 * or -1 and `failure`. Sets *report to a pipe's end if it is too early to tell whether the program runs: the pipe is
 * closed when it does, and else has the `struct failure`; otherwise to -1. */
pid_t launch_process(struct container *container, bool init, const struct process_spec *spec, const int stdio[3],
                     int *report);

#endif
