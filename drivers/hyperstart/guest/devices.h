/* Waits for devices by the kernel's events, and takes new ones into use. */
#ifndef DEVICES_H
#define DEVICES_H

#include "util.h"

/* Open a socket that receives an event for each device that appears from now on. Look for a device only after this call, so
 * that none is missed. -1 and `failure` if that fails. */
int devices_listen(void);

/* Wait for the next event. False once milliseconds() has reached `deadline`. */
bool devices_wait(int events, int64_t deadline);

/* Whether there is a virtio device of a type, which is a number of the virtio specification ("Device Types"). */
bool devices_have(unsigned type);

/* Rescan the PCI bus for devices that the host added. */
void devices_rescan(void);

/* Bring processors and memory online that the host added. */
void devices_online(void);

#endif
