/* Runs single parts of the guest agent on the host, with the sanitizers, for failures that a VM cannot be made to have.
 *
 *     parts resolver    write the resolver's file to a full file system; print the result
 *     parts frames      report ends of processes until the control channel is full, then print what the host would read
 *     parts undone      reap a process whose end is noticed before its failure to start, which undoes the pod */
#include "control.h"
#include "loop.h"
#include "names.h"
#include "pod.h"
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

/* The linker calls this instead of reboot(2): a fatal error of the agent must not power off the host. */
int __wrap_reboot(int how);
int __wrap_reboot(int how)
{
	fprintf(stderr, "parts: reboot(%#x)\n", (unsigned)how);
	abort();
}

static void require(bool condition, const char *what)
{
	if (condition)
		return;
	perror(what);
	exit(2);
}

/* Mount a file system of one page on /etc, and fill it with a file. */
static void fill_etc(void)
{
	static const char page[4096] = "full";
	int fd;

	require(!unshare(CLONE_NEWNS), "unshare");
	require(!mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "mount /");
	require(!mount("tmpfs", "/etc", "tmpfs", 0, "size=4k"), "mount /etc");
	fd = open("/etc/filler", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	require(fd >= 0 && write(fd, page, sizeof page) == sizeof page, "/etc/filler");
	close(fd);
}

static int try_resolver(void)
{
	const char *servers[] = {"192.0.2.1", NULL}, *search[] = {"example.org", NULL};
	struct resolver resolver = {.servers = servers, .search = search};
	bool done;

	fill_etc();
	done = names_set("pod", NULL, &resolver);
	printf("%s: %s\n", done ? "done" : "failed", failure.reason);
	printf("%s\n", access("/etc/resolv.conf", F_OK) ? "no file" : "a file");
	return 0;
}

/* Send what is buffered, and print it. */
static void print_bytes(int fd)
{
	char bytes[65536];
	ssize_t count;

	do {
		control_turn();
		while ((count = read(fd, bytes, sizeof bytes)) > 0)
			fwrite(bytes, 1, (size_t)count, stdout);
	} while (count < 0 && errno == EINTR);
}

static int try_frames(void)
{
	enum { EVENTS = 1 << 14 }; /* of 167 bytes each, of which the channel's 2 MiB hold no whole number */
	struct process *process = calloc(1, sizeof *process + 100);
	int ends[2];

	require(process && !socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), "socketpair");
	memset(process->container_id, 'c', 99);
	process->id = "p";
	loop_init();
	control_init((struct port){.fd = ends[0], .receipts = -1});
	for (int i = 0; i < EVENTS; i++)
		control_ended(process);
	for (int i = 0; i < 64; i++) /* a socket takes some 200 KiB at a time */
		print_bytes(ends[1]);
	free(process);
	return 0;
}

static void undo(struct watch *watch, uint32_t events)
{
	(void)events;
	loop_close(watch);
	processes_forget(NULL);
}

static int try_undone(void)
{
	const char *args[] = {"program", NULL};
	struct process_spec spec = {.id = "p", .stdio = 1, .args = args, .user = "", .group = "", .workdir = ""};
	struct process *process;
	int ends[2];

	loop_init();
	require(!pipe(ends), "pipe");
	process = process_new("c", &spec);
	require(process, "process_new");
	process->pid = 4321;
	process->start = (struct watch){.fd = ends[0], .ready = undo};
	pod_reaped(process->pid, 127 << 8);
	printf("%s\n", processes_alive() || process_by_id("c", "p") ? "a process is left" : "all are forgotten");
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "resolver"))
		return try_resolver();
	if (argc == 2 && !strcmp(argv[1], "frames"))
		return try_frames();
	if (argc == 2 && !strcmp(argv[1], "undone"))
		return try_undone();
	return 2;
}
