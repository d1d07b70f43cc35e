/* Init of the probing guest of vc_core.testing: on every channel it answers questions about the VM, and obeys commands.
 *
 * The host sends lines "NUMBER COMMAND WORDS"; each is answered by one line, "NUMBER ok TEXT" or "NUMBER error TEXT".
 * Channels and shares are found as by other guests (docs/reference/guest-protocol.md): virtio-serial ports by their
 * names and 9p by its tags, or as the kernel parameters vc.channel.NAME= and vc.share.TAG= say. */

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#if defined __x86_64__ || defined __i386__
#include <cpuid.h>
#endif

#define WORDS 4
#define CHANNELS 32
#define SHARES "/share"

/* A channel whose process runs. */
static char served[CHANNELS][64];
static size_t channels;

static char answer[8192];

static int succeed(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(answer, sizeof answer, format, arguments);
	va_end(arguments);
	return 1;
}

/* Answers with the error of the last system call. */
static int fail(const char *what)
{
	snprintf(answer, sizeof answer, "%s: %s", what, strerror(errno));
	return 0;
}

/* Fills in the first line of a file, without its newline; returns whether the file could be read. */
static int first_line(const char *path, char *line, size_t size)
{
	FILE *file = fopen(path, "re");
	int there = file && fgets(line, size, file);

	if (!there)
		*line = 0;
	line[strcspn(line, "\n")] = 0;
	if (file)
		fclose(file);
	return there;
}

/* Fills in the value of a kernel parameter PREFIX.NAME=; returns whether there is one. */
static int parameter(const char *prefix, const char *name, char *value, size_t size)
{
	static char line[8192];
	char wanted[160];

	snprintf(wanted, sizeof wanted, "%s.%s=", prefix, name);
	first_line("/proc/cmdline", line, sizeof line);
	for (char *word = strtok(line, " "); word; word = strtok(NULL, " "))
		if (!strncmp(word, wanted, strlen(wanted)))
			return snprintf(value, size, "%s", word + strlen(wanted)) > 0;
	return 0;
}

static void load_modules(void)
{
	char path[256];
	FILE *list = fopen("/lib/modules/load", "re");

	while (list && fgets(path, sizeof path, list)) {
		path[strcspn(path, "\n")] = 0;
		int module = open(path, O_RDONLY | O_CLOEXEC);
		syscall(SYS_finit_module, module, "", 0);
		close(module);
	}
}

/* -- questions ----------------------------------------------------------------------------------------------------- */

static int answer_memory(void)
{
	struct sysinfo info;

	sysinfo(&info);
	return succeed("%llu", (unsigned long long)info.totalram * info.mem_unit >> 20);
}

static int answer_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return succeed("%lld", (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000);
}

/* The signature of the hypervisor, CPUID leaf 0x40000000: "KVMKVMKVM", "TCGTCGTCGTCG"; "" if the CPU names none. */
static int answer_signature(void)
{
	char signature[13] = "";
#if defined __x86_64__ || defined __i386__
	unsigned int a, b, c, d;

	__cpuid(1, a, b, c, d);
	if (c >> 31) {
		__cpuid(0x40000000, a, b, c, d);
		memcpy(signature, &b, 4);
		memcpy(signature + 4, &c, 4);
		memcpy(signature + 8, &d, 4);
	}
#endif
	return succeed("%s", signature);
}

/* The names and MAC addresses of all interfaces but the loopback one. */
static int answer_links(void)
{
	DIR *directory = opendir("/sys/class/net");
	char path[300], mac[64];
	size_t length = 0;

	*answer = 0;
	for (struct dirent *entry; directory && (entry = readdir(directory));) {
		if (*entry->d_name == '.' || !strcmp(entry->d_name, "lo"))
			continue;
		snprintf(path, sizeof path, "/sys/class/net/%s/address", entry->d_name);
		if (first_line(path, mac, sizeof mac))
			length += snprintf(answer + length, sizeof answer - length, "%s %s ", entry->d_name, mac);
	}
	if (directory)
		closedir(directory);
	return 1;
}

/* Fills in the name of the disk at a place: a device file below /dev, or a SCSI target and unit. */
static int disk_at(const char *place, char *name, size_t size)
{
	char pattern[128];
	glob_t found;

	if (!strchr(place, ':'))
		return snprintf(name, size, "%s", place) > 0;
	snprintf(pattern, sizeof pattern, "/sys/class/scsi_disk/*:0:%.32s/device/block/*", place);
	if (glob(pattern, 0, 0, &found)) {
		errno = ENOENT;
		return 0;
	}
	snprintf(name, size, "%s", strrchr(found.gl_pathv[0], '/') + 1);
	globfree(&found);
	return 1;
}

/* The size of a disk in bytes, whether it is read-only (1, 0), and its first 16 bytes. */
static int answer_disk(const char *place)
{
	char name[64], path[128], sectors[32], read_only[8], start[33] = "";
	unsigned char bytes[16];

	if (!disk_at(place, name, sizeof name))
		return fail(place);
	snprintf(path, sizeof path, "/sys/block/%s/size", name);
	first_line(path, sectors, sizeof sectors);
	snprintf(path, sizeof path, "/sys/block/%s/ro", name);
	first_line(path, read_only, sizeof read_only);
	snprintf(path, sizeof path, "/dev/%s", name);
	int disk = open(path, O_RDONLY | O_CLOEXEC);
	if (disk < 0)
		return fail(path);
	if (read(disk, bytes, sizeof bytes) == sizeof bytes)
		for (int i = 0; i < 16; i++)
			sprintf(start + 2 * i, "%02x", bytes[i]);
	close(disk);
	return succeed("%lld %s %s", atoll(sectors) * 512, read_only, start);
}

/* -- commands ------------------------------------------------------------------------------------------------------ */

/* Writes text to a file or disk at an offset and waits until the device has it. */
static int write_text(const char *path, int flags, off_t offset, const char *text)
{
	int file = open(path, O_WRONLY | O_CLOEXEC | flags, 0644);
	int done = file >= 0 && pwrite(file, text, strlen(text), offset) == (ssize_t)strlen(text) && !fsync(file);

	if (!done)
		fail(path);
	if (file >= 0)
		close(file);
	return done && succeed("written");
}

static int write_disk(const char *place, const char *text)
{
	char name[64], path[128];

	if (!disk_at(place, name, sizeof name))
		return fail(place);
	snprintf(path, sizeof path, "/dev/%s", name);
	return write_text(path, 0, 0, text);
}

/* Mounts a share below SHARES, for writing too. */
static int mount_share(const char *tag)
{
	char path[128], given[1024];
	int mounted;

	snprintf(path, sizeof path, SHARES "/%s", tag);
	mkdir(path, 0755);
	if (parameter("vc.share", tag, given, sizeof given))
		mounted = !strncmp(given, "hostfs:", 7) && !mount(tag, path, "hostfs", 0, given + 7);
	else
		mounted = !mount(tag, path, "9p", 0, "trans=virtio,version=9p2000.L");
	return mounted ? succeed("%s", path) : fail(tag);
}

static int read_file(const char *path)
{
	char line[1024];

	return first_line(path, line, sizeof line) ? succeed("%s", line) : fail(path);
}

static int plant_program(const char *path)
{
	int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	int done = file >= 0 && !fchmod(file, 04755);

	if (!done)
		fail(path);
	if (file >= 0)
		close(file);
	return done && succeed("planted");
}

static int plant_device(const char *path)
{
	return mknod(path, S_IFCHR | 0666, makedev(1, 1)) ? fail(path) : succeed("planted");
}

static struct sockaddr_in address_of(const char *ip, const char *port)
{
	return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(port)), .sin_addr.s_addr = inet_addr(ip)};
}

/* Gives an interface its address, in a network of 24 bits. */
static int bring_up(const char *interface, const char *ip)
{
	int any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = {0};
	struct sockaddr_in address = address_of(ip, "0"), mask = address_of("255.255.255.0", "0");

	strncpy(request.ifr_name, interface, IFNAMSIZ - 1);
	memcpy(&request.ifr_addr, &address, sizeof address);
	int failed = ioctl(any, SIOCSIFADDR, &request);
	memcpy(&request.ifr_netmask, &mask, sizeof mask);
	failed = failed || ioctl(any, SIOCSIFNETMASK, &request) || ioctl(any, SIOCGIFFLAGS, &request);
	request.ifr_flags |= IFF_UP;
	failed = failed || ioctl(any, SIOCSIFFLAGS, &request);
	if (failed)
		fail(interface);
	close(any);
	return !failed && succeed("up");
}

/* Greets with a word all who connect to a TCP port, from now on. */
static int listen_at(const char *port, const char *word)
{
	struct sockaddr_in address = address_of("0.0.0.0", port);
	int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (bind(server, (struct sockaddr *)&address, sizeof address) || listen(server, 5))
		return fail(port);
	if (!fork())
		for (;;) {
			int client = accept(server, 0, 0);
			dprintf(client, "%s\n", word);
			close(client);
		}
	close(server);
	return succeed("listening");
}

static int connect_to(const char *ip, const char *port)
{
	struct sockaddr_in address = address_of(ip, port);
	struct timeval patience = {.tv_sec = 2};
	int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	int failed = connect(client, (struct sockaddr *)&address, sizeof address);
	if (failed)
		fail(ip);
	close(client);
	return !failed && succeed("reached");
}

static int say(const char *text)
{
	int console = open("/dev/console", O_WRONLY | O_CLOEXEC | O_NOCTTY);
	int done = console >= 0 && dprintf(console, "%s\n", text) > 0;

	if (!done)
		fail("/dev/console");
	if (console >= 0) {
		tcdrain(console);
		close(console);
	}
	return done && succeed("said");
}

static int power_off(void)
{
	sync();
	reboot(RB_POWER_OFF);
	return fail("reboot");
}

/* Obeys one command and fills in the answer; returns whether it succeeded. */
static int obey(const char *channel, char **words)
{
	const char *command = words[0], *one = words[1], *two = words[2];
	char line[4096];

#define IS(name, count) (!strcmp(command, name) && *words[count])
	if (IS("name", 0))
		return succeed("%s", channel);
	if (IS("cmdline", 0))
		return first_line("/proc/cmdline", line, sizeof line) ? succeed("%s", line) : fail("/proc/cmdline");
	if (IS("memory", 0))
		return answer_memory();
	if (IS("cpus", 0))
		return succeed("%ld", sysconf(_SC_NPROCESSORS_ONLN));
	if (IS("signature", 0))
		return answer_signature();
	if (IS("clock", 0))
		return answer_clock();
	if (IS("links", 0))
		return answer_links();
	if (IS("disk", 1))
		return answer_disk(one);
	if (IS("write-disk", 2))
		return write_disk(one, two);
	if (IS("mount", 1))
		return mount_share(one);
	if (IS("read", 1))
		return read_file(one);
	if (IS("write", 2))
		return write_text(one, O_CREAT, 0, two);
	if (IS("plant-program", 1))
		return plant_program(one);
	if (IS("plant-device", 1))
		return plant_device(one);
	if (IS("up", 2))
		return bring_up(one, two);
	if (IS("listen", 2))
		return listen_at(one, two);
	if (IS("connect", 2))
		return connect_to(one, two);
	if (IS("say", 1))
		return say(one);
	if (IS("power-off", 0))
		return power_off();
	errno = EINVAL;
	return fail(command);
}

/* -- channels ------------------------------------------------------------------------------------------------------ */

static void serve_line(const char *channel, int device, char *line)
{
	char *words[WORDS] = {"", "", "", ""}, *number = strtok(line, " ");

	for (int i = 0; number && i < WORDS; i++) {
		char *word = strtok(NULL, " ");
		if (!word)
			break;
		words[i] = word;
	}
	if (!number)
		return;
	int done = obey(channel, words);
	dprintf(device, "%s %s %s\n", number, done ? "ok" : "error", answer);
}

/* Answers what comes from a channel, for ever. A device of receipts gets the number of bytes after each read. */
static void serve(const char *channel, const char *path, const char *receipts)
{
	static char line[1024];
	size_t length = 0;
	int device = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC), counter = -1;
	struct termios raw;

	if (*receipts)
		counter = open(receipts, O_WRONLY | O_NOCTTY | O_CLOEXEC);
	for (int i = 0; i < 2; i++) {
		int terminal = i ? counter : device;
		if (tcgetattr(terminal, &raw))
			continue;
		cfmakeraw(&raw);
		tcsetattr(terminal, TCSANOW, &raw);
	}
	while (device >= 0) {
		ssize_t got = read(device, line + length, sizeof line - 1 - length);
		if (got <= 0) { /* no process of the host is connected */
			usleep(5000);
			continue;
		}
		if (counter >= 0) {
			unsigned int count = htonl(got);
			(void)!write(counter, &count, sizeof count);
		}
		length += got;
		for (char *end; (end = memchr(line, '\n', length));) {
			size_t used = end + 1 - line;
			*end = 0;
			serve_line(channel, device, line);
			memmove(line, line + used, length -= used);
		}
		if (length == sizeof line - 1)
			length = 0;
	}
	_exit(1);
}

/* Starts a process for a channel unless it has one. */
static void offer(const char *channel, const char *path, const char *receipts)
{
	for (size_t i = 0; i < channels; i++)
		if (!strcmp(served[i], channel))
			return;
	if (channels == CHANNELS || access(path, F_OK))
		return;
	snprintf(served[channels++], sizeof *served, "%s", channel);
	if (!fork())
		serve(channel, path, receipts);
}

static void offer_ports(void)
{
	char device[300], name[64];
	glob_t found;

	if (glob("/sys/class/virtio-ports/*/name", 0, 0, &found))
		return;
	for (size_t i = 0; i < found.gl_pathc; i++) {
		if (!first_line(found.gl_pathv[i], name, sizeof name) || !*name)
			continue;
		*strrchr(found.gl_pathv[i], '/') = 0;
		snprintf(device, sizeof device, "/dev/%s", strrchr(found.gl_pathv[i], '/') + 1);
		offer(name, device, "");
	}
	globfree(&found);
}

static void offer_lines(void)
{
	static char line[8192];
	char *rest = line;

	first_line("/proc/cmdline", line, sizeof line);
	for (char *word; (word = strsep(&rest, " "));) {
		char *name = word + strlen("vc.channel."), *path, *receipts;
		if (strncmp(word, "vc.channel.", strlen("vc.channel.")) || !(path = strchr(name, '=')))
			continue;
		*path++ = 0;
		if ((receipts = strchr(path, ',')))
			*receipts++ = 0;
		offer(name, path, receipts ? receipts : "");
	}
}

int main(void)
{
	static const char *const directories[] = {"/proc", "/sys", "/dev", SHARES};

	for (size_t i = 0; i < sizeof directories / sizeof *directories; i++)
		mkdir(directories[i], 0755);
	mount("proc", "/proc", "proc", 0, 0);
	mount("sysfs", "/sys", "sysfs", 0, 0);
	mount("devtmpfs", "/dev", "devtmpfs", 0, 0);
	load_modules();
	for (;;) {
		offer_ports();
		offer_lines();
		while (waitpid(-1, 0, WNOHANG) > 0)
			;
		usleep(10000);
	}
}
