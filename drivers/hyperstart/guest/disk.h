/* Finds disks by name or SCSI address, waits for them, and mounts them. */
#ifndef DISK_H
#define DISK_H

#include "util.h"

struct disk {
	const char *name;   /* of a device file below /dev */
	const char *addr;   /* instead, if not "": its SCSI "target:lun" */
	const char *fstype;
};

/* Its name in failures: the address if it has one, else the device. */
const char *disk_name(const struct disk *disk);

/* Mount a disk on `path` with `flags` of mount(2), and MS_RDONLY if the device is read-only. Waits up to 8 s for the
 * disk, so it is called in a child. False and `failure` if that fails. */
bool disk_mount(const struct disk *disk, const char *path, unsigned long flags);

#endif
