/* From the kernel's hand to a system in which the agent can work. */
#ifndef BOOT_H
#define BOOT_H

#include "util.h"

/* What the kernel command line says of something in a word `vc.KIND.NAME=VALUE`, or `vc.KIND=VALUE` if `name` is empty;
 * NULL if it says nothing. */
const char *boot_option(const char *kind, const char *name);

/* Mounts, console, kernel modules, command line, a root that pivot_root can leave. */
void boot(void);

/* The device of a channel, open and non-blocking. What is read from it is told to `receipts`, unless that is -1. */
struct port {
	int fd, receipts;
};

/* The control and the stream channel; waits for the devices with a deadline. */
void boot_open_channels(struct port *control, struct port *stream);

#endif
