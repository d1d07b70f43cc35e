/* The first steps of pid 1: mounts, console, kernel modules, the kernel command line, and the devices of the channels. */
#ifndef BOOT_H
#define BOOT_H

#include "util.h"

/* Return VALUE of the argument `vc.KIND.NAME=VALUE` of the kernel command line, or of `vc.KIND=VALUE` if `name` is empty;
 * NULL if there is no such argument. */
const char *boot_option(const char *kind, const char *name);

/* Called once, first: mount proc, sysfs and devtmpfs, open the console, read the command line, load the modules of the
 * boot, and make the root a mount that pivot_root(2) can replace. */
void boot(void);

/* The device of a channel, open and non-blocking. The agent writes the count of bytes that it reads from `fd` to
 * `receipts`, unless that is -1. */
struct port {
	int fd, receipts;
};

/* Open the control and the stream channel. Waits up to 30 s for the devices, then powers off. */
void boot_open_channels(struct port *control, struct port *stream);

#endif
