/* What a VM that stood still needs: the time, and a clone of a saved one also random numbers that no other clone has. */
#ifndef WAKE_H
#define WAKE_H

#include "spec.h"

/* Set the clock and reseed the kernel's random number generator. False and `failure` if that fails. */
bool wake(const struct wake_spec *spec);

/* Set the clock, to nanoseconds since the epoch. False and `failure` if that fails. */
bool set_clock(uint64_t time);

#endif
