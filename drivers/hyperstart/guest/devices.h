/* Waiting for devices: the kernel says when one comes. */
#ifndef DEVICES_H
#define DEVICES_H

#include "util.h"

/* A socket that tells of devices which come from now on; -1 and `failure` if that fails. Look for a device after this. */
int devices_listen(void);

/* Wait until some device came or went. False once it is `deadline`, of milliseconds(). */
bool devices_wait(int events, int64_t deadline);

/* Look on the bus for devices that the host added. */
void devices_rescan(void);

/* Use the processors and the memory that the host added. */
void devices_online(void);

#endif
