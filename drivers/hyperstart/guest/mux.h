/* The stream channel: frames of all processes' streams, flow control, and the ends of processes. */
#ifndef MUX_H
#define MUX_H

#include "channel.h"
#include "process.h"

void mux_init(struct line line);

/* Receive and send; once per turn of the loop. */
void mux_turn(void);

/* Everything there is to send has been sent. */
bool mux_is_idle(void);

#endif
