#include "boot.h"

#include "devices.h"
#include "modules.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#define PORTS "/sys/class/virtio-ports"
#define CONTROL_PORT "sh.hyper.channel.0"
#define STREAM_PORT "sh.hyper.channel.1"

enum {
	CHANNEL_TIMEOUT = 30000, /* milliseconds */
	FILES_MAX = 65536,        /* descriptors of the agent: five for each process, four for each container */
};

/* COMMAND_LINE_SIZE of User Mode Linux' arch/um/include/asm/setup.h; other machines have less. */
enum { COMMAND_LINE_MAX = 4096 };

/* The arguments of the kernel command line, each ended by NUL; an empty one comes last. */
static char kernel_arguments[COMMAND_LINE_MAX + 2];

static void open_console(void)
{
	int fd = open("/dev/console", O_RDWR | O_NOCTTY);

	if (fd < 0)
		fd = open("/dev/null", O_RDWR);
	if (fd < 0)
		return;
	for (int i = 0; i < 3; i++)
		if (fd != i)
			dup2(fd, i);
	if (fd > 2)
		close(fd);
}

static void mount_basics(void)
{
	static const struct {
		const char *type, *target;
	} mounts[] = {{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}};

	for (size_t i = 0; i < COUNT(mounts); i++) {
		mkdir(mounts[i].target, 0755);
		if (mount(mounts[i].type, mounts[i].target, mounts[i].type, MS_NOSUID, NULL) && errno != EBUSY)
			console("guest agent: mount of %s: %s", mounts[i].target, strerror(errno));
	}
}

/* pivot_root(2) cannot replace the kernel's initramfs, because it is mounted on nothing. So bind-mount it on itself. */
static void stack_root(void)
{
	mkdir("/run", 0755);
	mkdir("/run/vc", 0700);
	if (mount("/", "/run/vc", NULL, MS_BIND, NULL) || chdir("/run/vc") || mount(".", "/", NULL, MS_MOVE, NULL) ||
	    chroot(".") || chdir("/"))
		fatal("guest agent: cannot make the root a mount: %s", strerror(errno));
}

static void read_options(void)
{
	char line[sizeof kernel_arguments - 1] = "";
	char *rest = line, *end = kernel_arguments;
	int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (read(fd, line, sizeof line - 1) < 0)
		*line = 0;
	close(fd);
	for (char *word; (word = strtok_r(rest, " \n", &rest));)
		end = stpcpy(end, word) + 1;
}

const char *boot_option(const char *kind, const char *name)
{
	char key[128];
	size_t length = (size_t)snprintf(key, sizeof key, "vc.%s%s%s=", kind, *name ? "." : "", name);

	for (const char *word = kernel_arguments; *word && length < sizeof key; word += strlen(word) + 1)
		if (!strncmp(word, key, length))
			return word + length;
	return NULL;
}

void boot(void)
{
	struct rlimit files = {FILES_MAX, FILES_MAX};

	umask(022);
	stack_root();
	mount_basics();
	open_console();
	read_options();
	modules_load("");
	setrlimit(RLIMIT_NOFILE, &files);
	prctl(PR_SET_DUMPABLE,
	      0); /* so that processes of a container cannot trace the agent's children before their execve */
}

static bool port_has_name(const char *port, const char *name)
{
	char path[300], found[64] = "";
	int fd;

	snprintf(path, sizeof path, PORTS "/%s/name", port);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false; /* the host has not yet sent the port's name to the kernel */
	if (read(fd, found, sizeof found - 1) < 0)
		*found = 0;
	close(fd);
	found[strcspn(found, "\n")] = 0;
	return !strcmp(found, name);
}

/* Write the path of the device file of the port with this name to `path`. False if there is no such port. */
static bool find_port(const char *name, char *path, size_t size)
{
	DIR *ports = opendir(PORTS);
	bool found = false;

	if (!ports)
		return false;
	for (struct dirent *entry; !found && (entry = readdir(ports));) {
		found = *entry->d_name != '.' && port_has_name(entry->d_name, name);
		if (found)
			snprintf(path, size, "/dev/%.48s", entry->d_name);
	}
	closedir(ports);
	return found;
}

/* Switch a terminal to raw mode, so that it passes all bytes unchanged; a virtio port does so anyway. */
static void make_raw(int fd)
{
	struct termios raw;

	if (tcgetattr(fd, &raw))
		return;
	cfmakeraw(&raw);
	tcsetattr(fd, TCSANOW, &raw);
}

static int open_device(const char *path)
{
	int fd = open(path, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	if (fd >= 0)
		make_raw(fd);
	return fd;
}

/* Open a channel: the device files that the kernel command line names, or else the virtio port of that name. Waits until
 * the device exists; powers off if it does not within CHANNEL_TIMEOUT. */
static struct port open_channel(int events, const char *name)
{
	const char *given = boot_option("channel", name);
	int64_t deadline = milliseconds() + CHANNEL_TIMEOUT;
	char path[64] = "", *receipts = NULL;

	if (given) {
		if ((size_t)snprintf(path, sizeof path, "%s", given) >= sizeof path)
			fatal("guest agent: the devices of channel %s have more than %zu bytes", name, sizeof path - 1);
		receipts = strchr(path, ',');
		if (receipts)
			*receipts++ = 0;
	}
	for (;;) {
		int fd = -1;

		if (given || find_port(name, path, sizeof path))
			fd = open_device(path);
		if (fd >= 0)
			return (struct port){fd, receipts ? open_device(receipts) : -1};
		if (!devices_wait(events, deadline))
			fatal("guest agent: the VM has no channel %s", given ? given : name);
	}
}

void boot_open_channels(struct port *control, struct port *stream)
{
	int events = devices_listen(); /* before the first look, so that no event is missed */

	if (events < 0)
		fatal("guest agent: %s", failure.reason);
	*control = open_channel(events, CONTROL_PORT);
	*stream = open_channel(events, STREAM_PORT);
	close(events);
}
