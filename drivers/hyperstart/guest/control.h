/* The control channel: the host's commands and their answers. */
#ifndef CONTROL_H
#define CONTROL_H

#include "boot.h"
#include "process.h"

void control_init(struct port port);

/* Receive commands and answer them; once per turn of the loop, after the stream channel had its turn. */
void control_turn(void);

/* The start of a process came to its end: it runs, or `failure` says why not. */
void control_started(struct process *process);

/* Tell a host of the later dialect that a process has ended. */
void control_ended(const struct process *process);

#endif
