/* What the agent did, and when, for a host that draws a start. The newest are dropped when the host asks for none. */
#ifndef PHASE_H
#define PHASE_H

#include "util.h"

/* Call once, before the others. */
void phase_init(void);

/* The time of the guest's monotonic clock, in nanoseconds. */
int64_t phase_clock(void);

/* Record that something took from `begin` until now. `name` is a constant. A child before its execve may call this. */
void phase_end(const char *name, int64_t begin);

void phases_forget(void);

/* Append {"now":n,"phases":[{"name":"...","begin":n,"end":n},...]}, and forget the phases. */
void phases_take(struct buffer *buffer);

#endif
