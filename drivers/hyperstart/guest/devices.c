#include "devices.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int devices_listen(void)
{
	/* libc has no header for it: linux/netlink.h. */
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
