/*
 * Stands on the host for one process in a guest: an engine waits for it, and gets that process' exit code.
 *
 * vc-runtime starts it for a container (`create`) and for a further command (`exec`). It splits in two:
 *
 * - the shim proper is process 1 of a pid namespace, in a mount namespace whose root is that of the container. It offers
 *   its streams to `start`, receives the connection to the process in their place, forwards signals and sizes of the
 *   terminal, and ends as the process ends.
 * - the attendant stays in the host's namespaces, because no process can enter its parent's pid namespace. When the shim
 *   loses its connection, it runs the command line after `--`, which takes the place of the connection: it gets the
 *   streams, signals and sizes, and sends the exit code.
 *
 * The connection is described in docs/reference/process-connection.md.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

/* Exit code when the process' own is not available. */
enum { LOST = 255 };

/* Milliseconds for the engine to delete a container whose shim has ended, before its VM is ended. */
enum { DELETED_WITHIN = 10000 };

/* Commands that attach to the process again, before one that always ends is given up. */
enum { HELPERS_MAX = 8 };

/* Bytes to which our control group is limited before we are killed in it, more than it uses; and how many we then use. */
enum { MEMORY_LIMIT = 4 << 20, MEMORY_EATEN = 16 << 20 };

enum { PACKET_MAX = 192 * 1024, COPY_MAX = 16 * 1024 };

/* Of linux/capability.h, which musl's compiler does not find: the version with 64 capabilities, in two halves. */
enum { CAPABILITY_VERSION_3 = 0x20080522 };
struct capability_header {
	unsigned version;
	int pid;
};
struct capability_half {
	unsigned effective, permitted, inheritable;
};

/* What the command line says; a descriptor that is not given is -1. */
struct options {
	int report;      /* pipe to `create`: our pid, then an error or nothing */
	int confirm; /* pipe from `create` or `exec`: a byte when the pid is recorded; its end alone means that it died */
	int network; /* network namespace to enter; none: a new one */
	int listener; /* socket on which `start` connects */
	int peer; /* or a socket that is connected already */
	int console; /* connected console socket, for a process on a terminal */
	int memory; /* file that limits the memory of our control group, in which are shims of the container alone */
	const char *root; /* the container's root directory, or NULL */
	const char *home;   /* directory of the container's record, with a command line after -- */
	const char *bundle; /* directory of the container's bundle, with the same */
	const char *title; /* the command in the guest */
	char **again; /* command line that attaches to the process, or NULL */
};

static struct options options = {-1, -1, -1, -1, -1, -1, -1, NULL, NULL, NULL, "", NULL};

static int attendant = -1; /* socket to the attendant */
static int connection = -1; /* to the process in the guest */
static int helper = -1; /* or to the command that attaches to it */
static int helpers; /* how many of these there were */
static char packet[PACKET_MAX + 1];

/* One direction between the terminal and a pipe of the process. */
struct copy {
	int from, to;
	size_t begin, end;
	char data[COPY_MAX];
};
static struct copy typed = {-1, -1, 0, 0, {0}}, printed = {-1, -1, 0, 0, {0}};
static int terminal = -1; /* the slave of the terminal */

static _Noreturn __attribute__((format(printf, 1, 2))) void fail(const char *format, ...)
{
	char text[512];
	int why = errno;
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	dprintf(options.report, "error %s: %s\n", text, strerror(why));
	_exit(LOST);
}

static int number(const char *text)
{
	char *end;
	long value = strtol(text, &end, 10);
	if (*text == '\0' || *end != '\0' || value < 0 || value > INT_MAX) {
		fprintf(stderr, "shim: %s is not a descriptor\n", text);
		exit(2);
	}
	return (int)value;
}

static void read_options(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
		if (strcmp(name, "--") == 0) {
			options.again = argv + i + 1;
			return;
		}
		if (strcmp(name, "--report") == 0)
			options.report = number(value);
		else if (strcmp(name, "--confirm") == 0)
			options.confirm = number(value);
		else if (strcmp(name, "--network") == 0)
			options.network = number(value);
		else if (strcmp(name, "--listener") == 0)
			options.listener = number(value);
		else if (strcmp(name, "--peer") == 0)
			options.peer = number(value);
		else if (strcmp(name, "--console") == 0)
			options.console = number(value);
		else if (strcmp(name, "--memory") == 0)
			options.memory = number(value);
		else if (strcmp(name, "--root") == 0)
			options.root = value;
		else if (strcmp(name, "--home") == 0)
			options.home = value;
		else if (strcmp(name, "--title") == 0)
			options.title = value;
		else if (strcmp(name, "--bundle") == 0)
			options.bundle = value;
		else {
			fprintf(stderr, "shim: unknown option %s\n", name);
			exit(2);
		}
		i++;
	}
}

/* Send one packet with descriptors. */
static bool send_packet(int sock, const char *text, const int *fds, size_t count)
{
	union {
		char bytes[CMSG_SPACE(3 * sizeof(int))];
		struct cmsghdr align;
	} control = {{0}};
	struct iovec data = {(void *)text, strlen(text)};
	struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
	if (count > 0) {
		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE(count * sizeof(int));
		struct cmsghdr *header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(header), fds, count * sizeof(int));
	}
	return sendmsg(sock, &message, MSG_NOSIGNAL) >= 0;
}

/* Receive one packet, and the descriptor that may come with it; return its length, 0 at the end. */
static ssize_t receive_packet(int sock, int *fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {{0}};
	struct iovec data = {packet, PACKET_MAX};
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
	ssize_t length = recvmsg(sock, &message, MSG_CMSG_CLOEXEC);
	*fd = -1;
	if (length < 0)
		return errno == EAGAIN || errno == EINTR ? -1 : 0;
	packet[length] = '\0';
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	if (header != NULL && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
	    header->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(fd, CMSG_DATA(header), sizeof(int));
	return length;
}

/* -- what the shim makes of itself -------------------------------------------------------------------------------- */

/* The system calls for mounts without a place (Linux 5.2), which have the same numbers on all machines but Alpha, and
 * of their arguments in linux/mount.h what is used here. */
enum { MOVE_MOUNT = 429, FSOPEN = 430, FSCONFIG = 431, FSMOUNT = 432 };
enum { CREATE = 6, CLOEXEC = 1, ATTRIBUTES = MS_NOSUID | MS_NODEV | MS_NOEXEC, FROM_EMPTY_PATH = 4 };

/* Return a mount of the /proc of our pid namespace that has no place yet, -1 for none. A user namespace may have one
 * only while another one is visible whole, as in the host's root. */
static int make_proc(void)
{
	long fs = syscall(FSOPEN, "proc", CLOEXEC), made = -1;
	if (fs >= 0 && syscall(FSCONFIG, fs, CREATE, NULL, NULL, 0) == 0)
		made = syscall(FSMOUNT, fs, CLOEXEC, ATTRIBUTES);
	if (fs >= 0)
		close((int)fs);
	return (int)made;
}

/* Make the container's root ours, with our own /proc in it, as engines find it with a process of a container. */
static void enter_root(void)
{
	int proc = options.root != NULL ? make_proc() : -1;
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		fail("cannot make the mounts private");
	if (options.root == NULL)
		return;
	if (mount(options.root, options.root, NULL, MS_BIND | MS_REC, NULL) < 0 || chdir(options.root) < 0)
		fail("cannot bind the root %s", options.root);
	if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		fail("cannot enter the root %s", options.root);
	struct stat status;
	mkdir("/proc", 0555); /* as runc does, where an image lacks it */
	if (proc >= 0 && lstat("/proc", &status) == 0 && S_ISDIR(status.st_mode))
		syscall(MOVE_MOUNT, proc, "", AT_FDCWD, "/proc", FROM_EMPTY_PATH);
	close(proc);
}

/* Give up all rights: from here on, only descriptors that are open count. */
static void drop_rights(void)
{
	struct capability_header header = {CAPABILITY_VERSION_3, 0};
	struct capability_half none[2] = {{0, 0, 0}, {0, 0, 0}};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || syscall(SYS_capset, &header, none) < 0)
		fail("cannot drop capabilities");
}

/* Make a terminal, send its master to the engine, and keep the slave as the terminal of this session. */
static void open_terminal(void)
{
	char name[64];
	int unlock = 0, index;
	int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) < 0 || ioctl(master, TIOCGPTN, &index) < 0)
		fail("cannot make a terminal");
	snprintf(name, sizeof name, "/dev/pts/%d", index);
	terminal = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (terminal < 0 || ioctl(terminal, TIOCSCTTY, 0) < 0)
		fail("cannot open the terminal %s", name);
	struct termios raw; /* the guest's terminal does what a terminal does */
	if (tcgetattr(terminal, &raw) == 0) {
		cfmakeraw(&raw);
		tcsetattr(terminal, TCSANOW, &raw);
	}
	if (!send_packet(options.console, name, &master, 1))
		fail("cannot send the terminal");
	close(master);
	close(options.console);
	fcntl(terminal, F_SETFL, O_NONBLOCK);
	for (int fd = 0; fd < 3; fd++)
		dup2(terminal, fd);
}

/* -- the attendant -------------------------------------------------------------------------------------------------- */

/* Wait until the container is deleted, as engines do when the shim has ended; return whether it was. An engine that has
 * lost its own process for the container may remove the bundle alone. */
static bool was_deleted(void)
{
	int watch = inotify_init1(IN_CLOEXEC);
	if (watch < 0 || inotify_add_watch(watch, options.home, IN_DELETE_SELF) < 0)
		return true;
	if (options.bundle != NULL && inotify_add_watch(watch, options.bundle, IN_DELETE_SELF) < 0)
		return false;
	struct pollfd one = {watch, POLLIN, 0};
	return poll(&one, 1, DELETED_WITHIN) > 0 && access(options.home, F_OK) < 0;
}

/* Run the command that looks after the container, with a socket to the shim as descriptor 3, or without. */
static void help(int peer)
{
	pid_t child = fork();
	if (child == 0) {
		sigset_t none;
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		if (peer == 3) /* dup2 would leave its flag as it is */
			fcntl(peer, F_SETFD, 0);
		else if (peer >= 0)
			dup2(peer, 3);
		else
			close(3);
		execvp(options.again[0], options.again);
		_exit(127);
	}
	if (peer >= 0)
		close(peer);
	while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
		continue;
}

/* Run what attaches to the process, when the shim asks, and what ends its VM when nobody deletes the container. */
static _Noreturn void attend(int shim)
{
	int null = open("/dev/null", O_RDWR);
	for (int fd = 0; fd < 3; fd++)
		dup2(null, fd);
	for (int fd = 3; fd < 256; fd++)
		if (fd != shim)
			close(fd);
	for (;;) {
		int peer;
		ssize_t length = receive_packet(shim, &peer);
		if (length > 0 && peer >= 0)
			help(peer);
		if (length == 0)
			break;
	}
	close(shim);
	if (!was_deleted())
		help(-1);
	_exit(0);
}

/* -- the process' streams and connection -------------------------------------------------------------------------- */

static void close_copy(struct copy *copy, bool close_from, bool close_to)
{
	if (close_from && copy->from >= 0)
		close(copy->from);
	if (close_to && copy->to >= 0)
		close(copy->to);
	copy->from = copy->to = -1;
	copy->begin = copy->end = 0;
}

/* Send our streams to a peer: pipes in the place of a terminal, which only the shim reads and writes. */
static void offer_streams(int peer)
{
	int fds[3] = {0, 1, 2};
	char text[64] = "streams";
	size_t count = 3;
	if (terminal >= 0) {
		int input[2], output[2];
		struct winsize size = {24, 80, 0, 0};
		if (pipe2(input, O_CLOEXEC) < 0 || pipe2(output, O_CLOEXEC) < 0)
			fail("cannot make pipes");
		ioctl(terminal, TIOCGWINSZ, &size);
		snprintf(text, sizeof text, "terminal %u %u", size.ws_row, size.ws_col);
		close_copy(&typed, false, true);
		close_copy(&printed, true, false);
		typed.from = printed.to = terminal;
		typed.to = input[1];
		printed.from = output[0];
		fcntl(typed.to, F_SETFL, O_NONBLOCK);
		fcntl(printed.from, F_SETFL, O_NONBLOCK);
		fds[0] = input[0];
		fds[1] = output[1];
		count = 2;
	}
	send_packet(peer, text, fds, count);
	if (terminal >= 0) {
		close(fds[0]);
		close(fds[1]);
	}
}

/* Copy what is ready in one direction; return false at its end. */
static bool pump(struct copy *copy, bool readable, bool writable)
{
	if (readable && copy->begin == copy->end) {
		ssize_t length = read(copy->from, copy->data, sizeof copy->data);
		if (length == 0 || (length < 0 && errno != EAGAIN && errno != EINTR))
			return false;
		copy->begin = 0;
		copy->end = length > 0 ? (size_t)length : 0;
		writable = true;
	}
	if (writable && copy->begin < copy->end) {
		ssize_t length = write(copy->to, copy->data + copy->begin, copy->end - copy->begin);
		if (length < 0 && errno != EAGAIN && errno != EINTR)
			return false;
		copy->begin += length > 0 ? (size_t)length : 0;
	}
	return true;
}

/* Print what the process has written until its end, before we exit. */
static void drain(void)
{
	while (printed.from >= 0) {
		struct pollfd one = {printed.begin < printed.end ? printed.to : printed.from,
		                     printed.begin < printed.end ? POLLOUT : POLLIN, 0};
		if (poll(&one, 1, 2000) <= 0 ||
		    !pump(&printed, (one.revents & (POLLIN | POLLHUP)) != 0, (one.revents & POLLOUT) != 0) ||
		    (one.revents & POLLERR))
			return;
	}
}

/* Let the kernel of the host kill us for want of memory, as that of the guest has killed the process: engines read in the
 * container's control group why a process ended. Returns where that is not possible. */
static void starve(void)
{
	char text[32];
	snprintf(text, sizeof text, "%d", MEMORY_LIMIT);
	if (options.memory < 0 || write(options.memory, text, strlen(text)) < 0)
		return;
	char *eaten = mmap(NULL, MEMORY_EATEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (eaten != MAP_FAILED)
		for (size_t i = 0; i < MEMORY_EATEN; i += 4096)
			((volatile char *)eaten)[i] = 1;
}

/* End as the process did, with its exit code. */
static _Noreturn void end(int code)
{
	drain();
	_exit(code);
}

/* Go on with a command of the attendant that attaches to the process; end where that is not possible. */
static void reconnect(void)
{
	int pair[2];
	if (connection >= 0)
		close(connection);
	connection = -1;
	helpers++;
	if (attendant < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		end(LOST);
	if (!send_packet(attendant, "again", &pair[1], 1))
		end(LOST);
	close(pair[1]);
	helper = pair[0];
	offer_streams(helper);
}

/* Take the exit code from the command that has attached, which sends nothing else. */
static void take_code(void)
{
	int fd;
	ssize_t length = receive_packet(helper, &fd);
	if (fd >= 0)
		close(fd);
	if (length > 0)
		end(strncmp(packet, "exit ", 5) == 0 ? atoi(packet + 5) : LOST);
	if (length < 0)
		return;
	if (helpers == HELPERS_MAX)
		end(LOST);
	close(helper);
	reconnect(); /* the command was killed */
}

/* Take what the connection has: the end of the process, or nothing that counts here. */
static void take_reply(void)
{
	int fd;
	ssize_t length = receive_packet(connection, &fd);
	if (fd >= 0)
		close(fd);
	if (length < 0)
		return;
	if (length == 0)
		return reconnect();
	if (strstr(packet, "\"kind\":\"Failure\"") != NULL)
		end(LOST);
	if (strstr(packet, "\"kind\":\"Answer\"") == NULL)
		return;
	if (strstr(packet, "\"out_of_memory\":true") != NULL) {
		drain();
		starve();
	}
	char *code = strstr(packet, "\"exit_code\":");
	end(code != NULL ? atoi(code + strlen("\"exit_code\":")) : LOST);
}

static void forward(int signum)
{
	char text[96];
	int to = connection >= 0 ? connection : helper;
	if (to < 0) {
		if (signum == SIGTERM || signum == SIGINT || signum == SIGHUP || signum == SIGQUIT || signum == SIGABRT)
			_exit(128 + signum);
		return;
	}
	struct winsize size;
	if (signum == SIGWINCH && terminal >= 0 && ioctl(terminal, TIOCGWINSZ, &size) == 0 && size.ws_row && size.ws_col)
		snprintf(text, sizeof text, "{\"kind\":\"Resize\",\"size\":{\"rows\":%u,\"columns\":%u}}", size.ws_row,
		         size.ws_col);
	else if (signum == SIGWINCH || signum == SIGCHLD)
		return;
	else
		snprintf(text, sizeof text, "{\"kind\":\"Signal\",\"number\":%d}", signum);
	send_packet(to, text, NULL, 0);
}

/* -- the loop ------------------------------------------------------------------------------------------------------- */

/* Go on without the command that started us, which has recorded our pid; end if it was killed before. */
static void take_confirmation(void)
{
	char go;
	if (read(options.confirm, &go, 1) != 1)
		_exit(LOST);
	close(options.confirm);
	options.confirm = -1;
}

static void watch(struct pollfd *one, int fd, short events)
{
	one->fd = fd;
	one->events = events;
	one->revents = 0;
}

static _Noreturn void serve(int signals)
{
	int peer = options.peer;
	if (peer >= 0)
		offer_streams(peer);
	for (;;) {
		struct pollfd ready[8];
		bool runs = connection >= 0 || helper >= 0;
		watch(&ready[0], signals, POLLIN);
		watch(&ready[1], connection, POLLIN);
		watch(&ready[2], runs || peer >= 0 ? -1 : options.listener, POLLIN);
		watch(&ready[3], runs ? -1 : peer, POLLIN);
		watch(&ready[4],
		      !runs || typed.to < 0     ? -1
		      : typed.begin < typed.end ? typed.to
		                                : typed.from,
		      typed.begin < typed.end ? POLLOUT : POLLIN);
		watch(&ready[5],
		      !runs || printed.from < 0     ? -1
		      : printed.begin < printed.end ? printed.to
		                                    : printed.from,
		      printed.begin < printed.end ? POLLOUT : POLLIN);
		watch(&ready[6], options.confirm, POLLIN);
		watch(&ready[7], helper, POLLIN);
		if (poll(ready, 8, -1) < 0)
			continue;
		if (ready[6].fd >= 0 && ready[6].revents)
			take_confirmation();
		if (ready[2].revents && (peer = accept4(options.listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
			offer_streams(peer);
		if (ready[3].revents) {
			int fd;
			ssize_t length = receive_packet(peer, &fd);
			if (length >= 0) {
				if (fd < 0 && length > 0 && strncmp(packet, "exit ", 5) == 0)
					end(atoi(packet + 5));
				if (fd < 0 && options.peer >= 0)
					_exit(LOST);
				close(peer); /* `start` failed or was killed: another may come */
				peer = -1;
				connection = fd;
				if (fd >= 0)
					forward(SIGWINCH); /* the size may have changed since */
			}
		}
		if (ready[0].revents) { /* after a connection that came before */
			struct signalfd_siginfo signal;
			if (read(signals, &signal, sizeof signal) == sizeof signal)
				forward((int)signal.ssi_signo);
		}
		for (int i = 4; i < 6; i++) {
			struct copy *copy = i == 4 ? &typed : &printed;
			if (ready[i].fd >= 0 && ready[i].revents &&
			    !pump(copy, ready[i].fd == copy->from, ready[i].fd == copy->to))
				close_copy(copy, i == 5, i == 4);
		}
		if (ready[7].fd >= 0 && ready[7].revents)
			take_code();
		if (ready[1].fd >= 0 && ready[1].revents)
			take_reply();
	}
}

/* Let lists of processes show the command in the guest in the place of our command line, which is longer. */
static void take_name(int argc, char **argv)
{
	static char title[4096];
	char *end = argv[argc - 1] + strlen(argv[argc - 1]);
	snprintf(title, sizeof title, "vc-shim: %s", options.title);
	memset(argv[0], 0, (size_t)(end - argv[0]));
	snprintf(argv[0], (size_t)(end - argv[0]), "%s", title);
	*end = '.'; /* a last byte that is not zero means that there is one title (get_mm_proctitle in Linux' fs/proc) */
	prctl(PR_SET_NAME, "vc-shim");
}

static _Noreturn void be_shim(int argc, char **argv)
{
	sigset_t all;
	if (setsid() < 0)
		fail("cannot make a session");
	if (options.console >= 0)
		open_terminal(); /* before the root is another */
	enter_root();
	drop_rights();
	take_name(argc, argv);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	int signals = signalfd(-1, &all, SFD_CLOEXEC);
	if (signals < 0)
		fail("cannot receive signals");
	close(options.report);
	serve(signals);
}

int main(int argc, char **argv)
{
	int pair[2] = {-1, -1};
	read_options(argc, argv);
	if (options.report < 0 || options.confirm < 0 || (options.listener < 0) == (options.peer < 0)) {
		fprintf(stderr, "shim: --report, --confirm, and --listener or --peer are needed\n");
		return 2;
	}
	umask(077);
	if (options.network >= 0 ? setns(options.network, CLONE_NEWNET) < 0 : unshare(CLONE_NEWNET) < 0)
		fail("cannot enter the network namespace");
	if (options.again != NULL && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		fail("cannot make sockets");
	/* Our parent's child, so that the engine, which waits for it, becomes its parent when `create` ends. */
	long pid = syscall(SYS_clone, CLONE_NEWPID | CLONE_NEWNS | CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, NULL);
	if (pid < 0)
		fail("cannot make namespaces");
	if (pid == 0) {
		attendant = pair[0];
		if (pair[1] >= 0)
			close(pair[1]);
		be_shim(argc, argv);
	}
	dprintf(options.report, "pid %ld\n", pid);
	if (options.again == NULL || fork() != 0)
		return 0; /* the attendant becomes a child of the engine, or of init */
	close(pair[0]);
	attend(pair[1]);
}
