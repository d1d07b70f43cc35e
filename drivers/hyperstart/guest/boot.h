/* From the kernel's hand to a system in which the agent can work. */
#ifndef BOOT_H
#define BOOT_H

#include "util.h"

/* What the kernel command line says to the agent; empty strings where it says nothing. */
struct boot_options {
	char control[64]; /* vc.control=/dev/...: the control channel, where channels have no names */
	char stream[64];  /* vc.stream=/dev/...: the stream channel */
	char share[160];  /* vc.share=hostfs:PATH: the shared directory, where there is no 9p */
	char api[16];     /* vc.api=4244: reserved */
};
extern struct boot_options boot_options;

/* Mounts, console, kernel modules, command line, a root that pivot_root can leave. */
void boot(void);

/* The control and the stream channel, open and non-blocking; waits for the devices with a deadline. */
void boot_open_channels(int *control, int *stream);

#endif
