/* Init of the test guest: loads its modules, sends READY on the channel "test", and executes commands from there.
 * A line of the host is a command: the name of a file is answered with its first line; see main for the others. */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <termios.h>
#include <unistd.h>

static void load_modules(void)
{
	char path[256];
	FILE *list = fopen("/lib/modules/load", "r");

	while (list && fgets(path, sizeof path, list)) {
		path[strcspn(path, "\n")] = 0;
		int module = open(path, O_RDONLY);
		syscall(SYS_finit_module, module, "", 0);
		close(module);
	}
}

/* Fills in the first line of a file, without its newline; empty if it cannot be read. */
static void first_line(const char *path, char *line, size_t size)
{
	FILE *file = fopen(path, "r");

	if (!file || !fgets(line, size, file))
		*line = 0;
	line[strcspn(line, "\n")] = 0;
	if (file)
		fclose(file);
}

static int open_port(const char *wanted)
{
	char path[64], name[64];

	for (int try = 0; try < 1000; try++, usleep(5000))
		for (int port = 1; port < 8; port++) {
			sprintf(path, "/sys/class/virtio-ports/vport1p%d/name", port);
			first_line(path, name, sizeof name);
			if (strcmp(name, wanted))
				continue;
			sprintf(path, "/dev/vport1p%d", port);
			int device = open(path, O_RDWR);
			if (device >= 0)
				return device;
		}
	return -1;
}

static struct sockaddr_in address_of(const char *ip, int port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = inet_addr(ip) };
}

/* Gives an interface its address, in a network of 24 bits. */
static void bring_up(const char *interface, const char *ip)
{
	int any = socket(AF_INET, SOCK_DGRAM, 0);
	struct ifreq request = { 0 };
	struct sockaddr_in address = address_of(ip, 0), mask = address_of("255.255.255.0", 0);

	strncpy(request.ifr_name, interface, IFNAMSIZ - 1);
	memcpy(&request.ifr_addr, &address, sizeof address);
	ioctl(any, SIOCSIFADDR, &request);
	memcpy(&request.ifr_netmask, &mask, sizeof mask);
	ioctl(any, SIOCSIFNETMASK, &request);
	ioctl(any, SIOCGIFFLAGS, &request);
	request.ifr_flags |= IFF_UP;
	ioctl(any, SIOCSIFFLAGS, &request);
	close(any);
}

/* Greets all who connect to a TCP port, from now on. */
static const char *listen_at(const char *ip, int port)
{
	struct sockaddr_in address = address_of(ip, port);
	int server = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(server, (struct sockaddr *)&address, sizeof address) || listen(server, 5))
		return strerror(errno);
	if (!fork())
		for (;;) {
			int client = accept(server, 0, 0);
			dprintf(client, "hello from port %d\n", port);
			close(client);
		}
	close(server);
	return "LISTENING";
}

/* Tries to connect; returns REACHED or the error within a second. */
static const char *reach(const char *ip, int port)
{
	struct sockaddr_in address = address_of(ip, port);
	struct timeval patience = { .tv_sec = 1 };
	int client = socket(AF_INET, SOCK_STREAM, 0);

	setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	const char *result = connect(client, (struct sockaddr *)&address, sizeof address) ? strerror(errno) : "REACHED";
	close(client);
	return result;
}

/* Writes the name of the disk at a SCSI target and unit once it can be opened, or "" once there is no such disk. */
static void find_disk(const char *address, int wanted, char *name, size_t size)
{
	char pattern[128], path[64];
	glob_t found;

	snprintf(pattern, sizeof pattern, "/sys/class/scsi_disk/*:0:%s/device/block/*", address);
	for (int try = 0; try < 1000; try++, usleep(5000)) {
		int there = !glob(pattern, 0, 0, &found);
		snprintf(name, size, "%s", there ? strrchr(found.gl_pathv[0], '/') + 1 : "");
		globfree(&found);
		snprintf(path, sizeof path, "/dev/%.32s", name);
		int disk = there ? open(path, O_RDONLY) : -1; /* the kernel shows a disk a moment before it lets one in */
		close(disk);
		if (wanted ? disk >= 0 : !there)
			return;
	}
}

int main(void)
{
	char command[256], line[4096], interface[16], ip[16];
	int port;

	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mkdir("/dev", 0755);
	mkdir("/share", 0755);
	mount("proc", "/proc", "proc", 0, 0);
	mount("sysfs", "/sys", "sysfs", 0, 0);
	mount("devtmpfs", "/dev", "devtmpfs", 0, 0);
	load_modules();
	mount("share,tag", "/share", "9p", 0, "trans=virtio,version=9p2000.L");

	int channel = open_port("test");
	dprintf(channel, "READY\n");
	for (;;) {
		ssize_t got = read(channel, command, sizeof command - 1);
		if (got <= 0) { /* the host has hung up */
			usleep(5000);
			continue;
		}
		command[got] = 0;
		command[strcspn(command, "\n")] = 0;
		if (!strcmp(command, "POWEROFF"))
			reboot(RB_POWER_OFF);
		else if (!strcmp(command, "REBOOT"))
			reboot(RB_AUTOBOOT);
		else if (!strcmp(command, "PANIC"))
			exit(1);
		else if (!strcmp(command, "SAY")) {
			int console = open("/dev/console", O_WRONLY);
			for (int i = 0; i < 30; i++)
				dprintf(console, "line %d \033[31mred\007\n", i);
			tcdrain(console);
			close(console);
			dprintf(channel, "SAID\n");
		} else if (!strncmp(command, "WRITE ", 6)) {
			int file = open(command + 6, O_WRONLY);
			int failed = file < 0 || write(file, "x", 1) != 1 || fsync(file);
			dprintf(channel, "%s\n", failed ? strerror(errno) : "WRITTEN");
			close(file);
		} else if (sscanf(command, "LISTEN %15s %15s %d", interface, ip, &port) == 3) {
			bring_up(interface, ip);
			dprintf(channel, "%s\n", listen_at(ip, port));
		} else if (!strncmp(command, "DISK ", 5)) {
			find_disk(command + 5, 1, line, sizeof line);
			dprintf(channel, "%s\n", line);
		} else if (!strncmp(command, "NODISK ", 7)) {
			find_disk(command + 7, 0, line, sizeof line);
			dprintf(channel, "%s\n", line);
		} else if (sscanf(command, "REACH %15s %d", ip, &port) == 2) {
			dprintf(channel, "%s\n", reach(ip, port));
		} else {
			first_line(command, line, sizeof line);
			dprintf(channel, "%s\n", line);
		}
	}
}
