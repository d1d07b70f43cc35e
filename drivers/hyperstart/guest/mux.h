/* The stream channel: it multiplexes the streams of all processes, with their flow control and exit codes. */
#ifndef MUX_H
#define MUX_H

#include "channel.h"
#include "process.h"

/* Called once at boot. For a host of version 4243 or 4244, `ended` is called when all output of a process has been sent. */
void mux_init(struct port port, void (*ended)(const struct process *process));

/* Receive and send; called once per turn of the loop. */
void mux_turn(void);

/* Send what the host takes now, without waiting for that turn. */
void mux_send(void);

/* Whether nothing is left to be sent. */
bool mux_is_idle(void);

#endif
