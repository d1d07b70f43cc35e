#include "devices.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int devices_listen(void)
{
	/* struct sockaddr_nl of linux/netlink.h, which musl does not have. */
	struct {
		uint16_t family, pad;
		uint32_t pid, groups;
	} address = {.family = AF_NETLINK, .groups = 1};
	int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 15 /* NETLINK_KOBJECT_UEVENT */);

	if (fd >= 0 && !bind(fd, (struct sockaddr *)&address, sizeof address))
		return fd;
	fail("cannot listen for devices: %s", strerror(errno));
	if (fd >= 0)
		close(fd);
	return -1;
}

bool devices_wait(int events, int64_t deadline)
{
	struct pollfd wait = {.fd = events, .events = POLLIN};
	int64_t left = deadline - milliseconds();
	char ignored[4096];

	if (left <= 0 || poll(&wait, 1, (int)left) == 0)
		return false;
	while (recv(events, ignored, sizeof ignored, 0) > 0)
		;
	return true;
}

bool devices_have(unsigned type)
{
	DIR *devices = opendir("/sys/bus/virtio/devices");
	bool found = false;

	if (!devices)
		return false;
	for (struct dirent *entry; !found && (entry = readdir(devices));) {
		char path[300];
		unsigned its;
		FILE *file;

		snprintf(path, sizeof path, "/sys/bus/virtio/devices/%s/device", entry->d_name);
		file = fopen(path, "re");
		if (!file)
			continue;
		found = fscanf(file, "%x", &its) == 1 && its == type;
		fclose(file);
	}
	closedir(devices);
	return found;
}

void devices_rescan(void)
{
	write_file("/sys/bus/pci/rescan", "1");
}

/* Write 1 to `online` of each entry, whose name is its kind and a number. On one that is online already this has no
 * effect. */
static void put_online(const char *kind)
{
	char path[300];
	DIR *entries;

	snprintf(path, sizeof path, "/sys/devices/system/%s", kind);
	entries = opendir(path);
	for (struct dirent *entry; entries && (entry = readdir(entries));) {
		size_t length = strlen(kind);
		char digit = strncmp(entry->d_name, kind, length) ? 0 : entry->d_name[length];

		if (digit < '0' || digit > '9')
			continue;
		snprintf(path, sizeof path, "/sys/devices/system/%s/%s/online", kind, entry->d_name);
		write_file(path, "1");
	}
	if (entries)
		closedir(entries);
}

void devices_online(void)
{
	put_online("cpu");
	put_online("memory");
}
