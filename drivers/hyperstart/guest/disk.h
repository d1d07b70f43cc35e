/* Disks: found by name or SCSI address, waited for, and mounted. */
#ifndef DISK_H
#define DISK_H

#include "util.h"

struct disk {
	const char *name;   /* of a device file below /dev */
	const char *addr;   /* instead, if not "": its SCSI "target:lun" */
	const char *fstype;
};

/* What a disk is called. */
const char *disk_name(const struct disk *disk);

/* Mount a disk on `path`, by `flags` of mount(2) and MS_RDONLY if it cannot be written; wait until it is there. In a child:
 * that can take long. False and `failure` if that fails. */
bool disk_mount(const struct disk *disk, const char *path, unsigned long flags);

#endif
