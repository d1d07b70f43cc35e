/* Target of the fuzzer: the whole guest agent, with its main, real processes and real mounts.
 *
 * An input is a list of lines, each for one turn of the agent's loop:
 *
 *     cCODE PAYLOAD      a frame on the control channel
 *     sSTREAM PAYLOAD    a frame on the stream channel
 *     CBYTES, SBYTES     bytes as they are on either channel
 *     w                  let some milliseconds pass
 *
 * The agent is the first process of namespaces of users, pids, mounts, IPC, host names and networks, as the user nobody if
 * root starts it. Its root is a tmpfs without any file of the host, so it can neither reach nor change anything of the
 * machine on which it runs; nor power it off, because the linker replaces reboot(2). */
#include "boot.h"
#include "commands.h"
#include "control.h"
#include "fuzz.h"
#include "loop.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	NOBODY = 65534,
	TICK = 1000000,    /* nanoseconds between two turns if nothing else happens */
	LATE = 1500,       /* microseconds by which the agent is late at times */
	PAUSE = 4,         /* ticks of a line `w` */
	PATIENCE = 300,    /* ticks that all commands of an input may take together */
	LAST_TICKS = 6,    /* ticks that the agent has after the last line */
	BACKLOG = 1 << 18, /* bytes that a channel takes from the fuzzer; an input with all of its headers is shorter */
};

/* clang-format off */
const struct word fuzz_words[] = {
	WORD("\nw\n"), WORD("\nc0 \n"), WORD("\nc1 {"), WORD("\nc2 \n"), WORD("\nc4 \n"), WORD("\nc6 {"), WORD("\nc12 \n"),
	WORD("\nc11 {\"seq\":1,\"row\":3,\"column\":4}\n"), WORD("\nc15 {\"container\":\"c\",\"file\":\"/x\"}"),
	WORD("\nc16 {\"container\":\"c\",\"file\":\"/etc/passwd\"}\n"), WORD("\nc17 {"),
	WORD("\nc18 {\"container\":\"c\",\"signal\":9}\n"), WORD("\nc22 {\"container\":\"c\"}\n"),
	WORD("\nc24 {\"container\":\"c\",\"process\":\"p\",\"signal\":15}\n"), WORD("\nc4097 {\"stdio\":1,\"signal\":9}\n"),
	WORD("\nc4098 {\"container\":\"c\"}\n"), WORD("\ns1 x\n"), WORD("\ns1 \n"), WORD("\ns3 y\n"),
	WORD("\nc6 {\"container\":\"c\",\"process\":{\"stdio\":3,\"stderr\":4,\"args\":[\"/cat\"]}}\n"),
	WORD("\nc6 {\"container\":\"c\",\"process\":{\"stdio\":5,\"stderr\":6,\"user\":\"bob\",\"args\":[\"/none\"]}}\n"),
	WORD("\ns0 \1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\xff\xff\n"), WORD("\ns0 \2\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\n"),
	WORD("\ns0 \3\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\n"), WORD("\"terminal\":true,"), WORD("\"user\":\"bob\","),
	WORD("\"initialize\":true,"), WORD("\"overlay\":false,"), WORD("\"isolate\":true,"), WORD("\"noInput\":true,"),
	WORD("\"fsmap\":[{\"source\":\"base\",\"path\":\"/m\"}],"), WORD("\"stderr\":0,"),
	WORD("C\xffVCSYNC\0\xff\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f""abcdefgh\n"),
	WORD("S\xffVCSYNC\0\xff\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f""abcdefgh\n"), {NULL, 0},
};
/* clang-format on */

static const struct {
	const char *path, *text;
} files[] = {
	{"/share/base/rootfs/etc/passwd", "root:x:0:0::/root:/bin/sh\nbob:x:0:0::/:/bin/sh\n"},
	{"/share/base/rootfs/etc/group", "root:x:0:\nstaff:x:0:bob\n"},
	{"/share/base/rootfs/etc/hosts", "127.0.0.1 localhost\n"},
};

/* The bytes of a program that copies its input to its output. */
static struct {
	uint8_t *bytes;
	size_t length;
} cat;

/* The input that is being executed, and the other ends of the two channels. */
static const uint8_t *rest;
static size_t left;
static struct port given[2];
static int peers[2];
static int ticks_left, busy_ticks;
static struct watch ticker;

/* -- what the linker replaces ------------------------------------------------------------------------------------------ */

int agent_main(void);

/* The agent never ends, so what it keeps is not lost. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}

int __wrap_reboot(int how);
int __wrap_reboot(int how)
{
	(void)how;
	_exit(0);
}

void __wrap_sync(void);
void __wrap_sync(void)
{
}

_Noreturn void __wrap_fatal(const char *format, ...);
void __wrap_fatal(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	require(false, ": the agent gives up");
	abort();
}

/* A user namespace has no devices. */
int __wrap_mknod(const char *path, mode_t mode, dev_t device);
int __wrap_mknod(const char *path, mode_t mode, dev_t device)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode & 07777);

	(void)device;
	return fd < 0 ? -1 : close(fd);
}

int __real_mount(const char *source, const char *target, const char *type, unsigned long flags, const void *options);
int __wrap_mount(const char *source, const char *target, const char *type, unsigned long flags, const void *options);
int __wrap_mount(const char *source, const char *target, const char *type, unsigned long flags, const void *options)
{
	bool is_disk = type && strstr("ext4 squashfs erofs xfs", type);
	int error;

	if (type && !strcmp(type, "9p"))
		return __real_mount("/share", target, NULL, MS_BIND, NULL);
	if (!__real_mount(source, target, type, flags, options))
		return 0;
	error = errno;
	if (type && !is_disk && !__real_mount("none", target, "tmpfs", 0, NULL))
		return 0; /* the host's kernel refuses this one to a user */
	errno = error;
	return -1;
}

/* The agent has one user and group here, so there is one to map. */
bool __real_write_file(const char *path, const char *text);
bool __wrap_write_file(const char *path, const char *text);
bool __wrap_write_file(const char *path, const char *text)
{
	return __real_write_file(path, strstr(path, "id_map") ? "0 0 1" : text);
}

bool __wrap_network_open_to_users(void);
bool __wrap_network_open_to_users(void)
{
	return true;
}

/* Control groups would be the host's. */
void __wrap_cgroup_init(void);
void __wrap_cgroup_init(void)
{
}

/* Events that happen at the same time may be handled in any order: wait until there are several, and mix them. */
int __real_epoll_wait(int epoll, struct epoll_event *events, int room, int timeout);
int __wrap_epoll_wait(int epoll, struct epoll_event *events, int room, int timeout);
int __wrap_epoll_wait(int epoll, struct epoll_event *events, int room, int timeout)
{
	int count;

	if (!below(4))
		usleep(LATE);
	count = __real_epoll_wait(epoll, events, room, timeout);
	for (int i = 1; i < count; i++) {
		size_t other = below((size_t)i + 1);
		struct epoll_event event = events[other];

		events[other] = events[i];
		events[i] = event;
	}
	return count;
}

/* boot.c, of a machine that has booted. */
void boot(void)
{
}

const char *boot_option(const char *kind, const char *name)
{
	(void)kind;
	(void)name;
	return NULL;
}

void boot_open_channels(struct port *control, struct port *stream)
{
	*control = given[0];
	*stream = given[1];
}

/* -- the host's side ----------------------------------------------------------------------------------------------------- */

static void send_frame(int channel, uint64_t key, const uint8_t *payload, size_t length)
{
	uint8_t header[12];
	size_t key_size = channel ? 8 : 4;

	if (channel)
		put_be64(header, key);
	else
		put_be32(header, (uint32_t)key);
	put_be32(header + key_size, (uint32_t)(key_size + 4 + length));
	if (write(peers[channel], header, key_size + 4) >= 0 && write(peers[channel], payload, length) < 0)
		return; /* the agent reads no more */
}

static void send_line(const uint8_t *line, size_t length)
{
	uint64_t key = 0;
	size_t used = 1;

	if (!length)
		return;
	if (*line == 'w')
		ticks_left = PAUSE;
	if ((*line == 'C' || *line == 'S') && write(peers[*line == 'S'], line + 1, length - 1) < 0)
		return;
	if (*line != 'c' && *line != 's')
		return;
	for (; used < length && line[used] >= '0' && line[used] <= '9'; used++)
		key = key * 10 + line[used] - '0';
	used += used < length; /* the blank */
	send_frame(*line == 's', key, line + used, length - used);
}

static void read_output(void)
{
	char ignored[4096];

	for (int i = 0; i < 2; i++)
		while (read(peers[i], ignored, sizeof ignored) > 0)
			;
}

void __real_control_turn(void);
void __wrap_control_turn(void);
void __wrap_control_turn(void)
{
	const uint8_t *end = memchr(rest, '\n', left);
	size_t length = end ? (size_t)(end - rest) : left;

	__real_control_turn();
	read_output();
	if (ticks_left)
		return;
	if (!left)
		_exit(0);
	send_line(rest, length);
	rest += length + !!end;
	left -= length + !!end;
	if (!left)
		ticks_left = LAST_TICKS;
}

/* Whether the agent has a command to read or to finish: then time does not count, but for a while. */
static bool is_busy(void)
{
	int unread = 0;

	return (command_waits() || (!ioctl(given[0].fd, FIONREAD, &unread) && unread)) && ++busy_ticks < PATIENCE;
}

static void tick(struct watch *watch, uint32_t events)
{
	uint64_t count;

	(void)events;
	if (read(watch->fd, &count, sizeof count) > 0 && ticks_left && !is_busy())
		ticks_left--;
}

void __real_loop_init(void);
void __wrap_loop_init(void);
void __wrap_loop_init(void)
{
	struct itimerspec every = {{0, TICK}, {0, TICK}};

	__real_loop_init();
	ticker = (struct watch){.fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC), .ready = tick};
	require(ticker.fd >= 0 && !timerfd_settime(ticker.fd, 0, &every, NULL) && loop_watch(&ticker, EPOLLIN), "timer");
}

static _Noreturn void run_agent(void)
{
	int size = BACKLOG;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = 0; i < 2; i++) {
		int ends[2];

		require(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), "socketpair");
		setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
		given[i] = (struct port){ends[0], -1};
		peers[i] = ends[1];
	}
	__real_mount("proc", "/proc", "proc", 0, NULL);
	agent_main();
	abort();
}

/* -- the machine --------------------------------------------------------------------------------------------------------- */

static void must(bool done, const char *what)
{
	if (done)
		return;
	perror(what);
	exit(3); /* this host cannot run the agent without a virtual machine */
}

static void put(const char *path, const void *bytes, size_t length, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, mode);

	must(fd >= 0 && write(fd, bytes, length) == (ssize_t)length, path);
	close(fd);
}

static void set(const char *path, const char *text)
{
	must(__real_write_file(path, text), path);
}

static void read_cat(const char *program)
{
	char path[4096];
	struct stat what;
	int fd;

	snprintf(path, sizeof path, "%s.cat", program);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	must(fd >= 0 && !fstat(fd, &what), path);
	cat.bytes = malloc((size_t)what.st_size);
	must(cat.bytes && read(fd, cat.bytes, (size_t)what.st_size) == what.st_size, path);
	cat.length = (size_t)what.st_size;
	close(fd);
}

static void become_root_of_nothing(void)
{
	char map[40];
	uid_t uid;
	gid_t gid;

	if (!geteuid())
		must(!setgroups(0, NULL) && !setgid(NOBODY) && !setuid(NOBODY), "setuid");
	must(!prctl(PR_SET_DUMPABLE, 1), "dumpable"); /* or /proc/self would be root's */
	uid = geteuid();
	gid = getegid();
	must(!unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWPID),
	     "namespaces");
	set("/proc/self/setgroups", "deny");
	snprintf(map, sizeof map, "0 %u 1", (unsigned)uid);
	set("/proc/self/uid_map", map);
	snprintf(map, sizeof map, "0 %u 1", (unsigned)gid);
	set("/proc/self/gid_map", map);
}

static void make_root(void)
{
	static const char *const directories[] = {
		"run",
		"run/vc",
		"proc",
		"sys",
		"dev",
		"tmp",
		"bin",
		"etc",
		"share",
		"share/base",
		"share/base/rootfs",
		"share/base/rootfs/etc",
	};

	must(!__real_mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "mount /");
	must(!__real_mount("root", "/tmp", "tmpfs", 0, "size=64m") && !chdir("/tmp"), "mount /tmp");
	for (size_t i = 0; i < COUNT(directories); i++)
		must(!mkdir(directories[i], 0755), directories[i]);
	must(!__real_mount("/proc", "proc", NULL, MS_BIND | MS_REC, NULL),
	     "bind /proc"); /* so that the kernel allows another */
	must(!syscall(SYS_pivot_root, ".", ".") && !umount2(".", MNT_DETACH) && !chdir("/"), "pivot_root");
	for (size_t i = 0; i < COUNT(files); i++)
		put(files[i].path, files[i].text, strlen(files[i].text), 0644);
	put("/share/base/rootfs/cat", cat.bytes, cat.length, 0755);
}

/* Go on in a child, the first process of its pid namespace; the parent ends as that does. */
static void fork_first(void)
{
	pid_t pid = fork();
	int status = 0;

	must(pid >= 0, "fork");
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		return;
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status)) {
		fprintf(stderr, "fuzz: signal %d\n", WTERMSIG(status));
		_exit(1);
	}
	_exit(WEXITSTATUS(status));
}

void fuzz_begin(const char *program)
{
	read_cat(program);
	become_root_of_nothing();
	fork_first();
	make_root();
	signal(SIGPIPE, SIG_IGN);
}

void fuzz_one(const uint8_t *bytes, size_t length)
{
	int status = 0;
	pid_t pid;

	rest = bytes;
	left = length;
	ticks_left = 0;
	pid = (pid_t)syscall(SYS_clone, CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | SIGCHLD, 0, 0, 0, 0);
	must(pid >= 0, "clone");
	if (!pid)
		run_agent();
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	require(!status, "the agent died");
}
