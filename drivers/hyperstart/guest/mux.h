/* The stream channel: frames of all processes' streams, flow control, and the ends of processes. */
#ifndef MUX_H
#define MUX_H

#include "channel.h"
#include "process.h"

/* `ended` is called with a process whose output was sent and whose end a host of the later dialect hears of elsewhere. */
void mux_init(struct port port, void (*ended)(const struct process *process));

/* Receive and send; once per turn of the loop. */
void mux_turn(void);

/* Everything there is to send has been sent. */
bool mux_is_idle(void);

#endif
