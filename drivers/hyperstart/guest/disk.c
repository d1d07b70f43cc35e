#include "disk.h"

#include "devices.h"
#include "modules.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define SCSI_DISKS "/sys/class/scsi_disk"
#define SCSI_HOSTS "/sys/class/scsi_host"

enum {
	TIMEOUT = 8000, /* milliseconds for a disk to appear: less than the 10 s in which the host expects an answer */
	NAME_SIZE = 64,
};

const char *disk_name(const struct disk *disk)
{
	return *disk->addr ? disk->addr : disk->name;
}

/* Find the first entry of a directory for which `wanted` returns true. */
static bool find_entry(const char *directory, bool (*wanted)(const char *name, const char *data), const char *data,
                       char name[NAME_SIZE])
{
	DIR *entries = opendir(directory);
	bool found = false;

	if (!entries)
		return false;
	for (struct dirent *entry; !found && (entry = readdir(entries));)
		if (*entry->d_name != '.' && wanted(entry->d_name, data))
			found = snprintf(name, NAME_SIZE, "%s", entry->d_name) < NAME_SIZE;
	closedir(entries);
	return found;
}

static bool any(const char *name, const char *data)
{
	(void)name;
	(void)data;
	return true;
}

/* Entries are named host:channel:target:lun. */
static bool has_address(const char *name, const char *addr)
{
	const char *channel = strchr(name, ':'), *target = channel ? strchr(channel + 1, ':') : NULL;

	return target && !strcmp(target + 1, addr);
}

/* Rescan a SCSI host for a disk whose hot-plug event was missed. Each has one channel. */
static bool scan(const char *host, const char *addr)
{
	char path[sizeof SCSI_HOSTS + NAME_SIZE + 8], where[NAME_SIZE];
	size_t target = strcspn(addr, ":");

	snprintf(path, sizeof path, SCSI_HOSTS "/%.32s/scan", host);
	snprintf(where, sizeof where, "0 %.*s %.16s", (int)MIN(target, 16), addr, addr + target + (addr[target] == ':'));
	write_file(path, where);
	return false; /* so that find_entry goes on to the next */
}

/* The kernel creates a disk's device before the disk can be opened, and then sends one more event. */
static bool opens(const char *path, bool *read_only)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), is_read_only = 0;

	if (fd < 0)
		return false;
	ioctl(fd, BLKROGET, &is_read_only);
	close(fd);
	*read_only = is_read_only;
	return true;
}

static bool look(const struct disk *disk, char path[NAME_SIZE], bool *read_only)
{
	char address[NAME_SIZE], blocks[2 * NAME_SIZE], name[NAME_SIZE];
	struct stat what;

	if (*disk->addr) {
		if (!find_entry(SCSI_DISKS, has_address, disk->addr, address))
			return false;
		snprintf(blocks, sizeof blocks, SCSI_DISKS "/%s/device/block", address);
		if (!find_entry(blocks, any, NULL, name))
			return false;
	} else {
		snprintf(name, sizeof name, "%s", disk->name);
	}
	return snprintf(path, NAME_SIZE, "/dev/%s", name) < NAME_SIZE && !lstat(path, &what) && S_ISBLK(what.st_mode) &&
	       opens(path, read_only);
}

static bool await(const struct disk *disk, char path[NAME_SIZE], bool *read_only)
{
	int64_t deadline = milliseconds() + TIMEOUT;
	int events = devices_listen();
	bool found;
	char ignored[NAME_SIZE];

	if (events < 0)
		return false;
	modules_load("disks");
	modules_load(disk->fstype);
	found = look(disk, path, read_only);
	if (!found && *disk->addr)
		find_entry(SCSI_HOSTS, scan, disk->addr, ignored);
	while (!found && devices_wait(events, deadline))
		found = look(disk, path, read_only);
	close(events);
	return found || fail("the VM has no disk '%s'", disk_name(disk));
}

bool disk_mount(const struct disk *disk, const char *path, unsigned long flags)
{
	/* Copies of one image have the same UUID. */
	const char *options = strcmp(disk->fstype, "xfs") ? NULL : "nouuid";
	char device[NAME_SIZE];
	bool read_only;

	if (!await(disk, device, &read_only))
		return false;
	if (read_only)
		flags |= MS_RDONLY;
	if (!mount(device, path, disk->fstype, flags, options))
		return true;
	if (errno == EROFS)
		return fail("disk '%s' was not closed properly, which cannot be repaired while it is read-only",
		            disk_name(disk));
	return fail(errno == ENODEV ? "disk '%s': the guest's kernel has no file system %s" : "disk '%s': mount as %s: %s",
	            disk_name(disk), disk->fstype, strerror(errno));
}
