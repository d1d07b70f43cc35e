/* The control channel: reads the host's commands, and sends answers and events. */
#ifndef CONTROL_H
#define CONTROL_H

#include "boot.h"
#include "process.h"

void control_init(struct port port);

/* Receive commands and answer them; called once per turn of the loop, after mux_turn. */
void control_turn(void);

/* Called when a process has started, or has failed to, with the reason in `failure`: answer the command. */
void control_started(struct process *process);

/* Called when a process has ended: send PROCESSASYNCEVENT to a host of version 4243 or 4244. */
void control_ended(const struct process *process);

#endif
