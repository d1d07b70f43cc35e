/* What a clone of a saved VM needs before anything runs in it: the time, and random numbers that no other clone has. */
#ifndef WAKE_H
#define WAKE_H

#include "spec.h"

/* Set the clock and reseed the kernel's random number generator. False and `failure` if that fails. */
bool wake(const struct wake_spec *spec);

#endif
