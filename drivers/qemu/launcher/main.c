/* The launcher: builds a jail and runs QEMU in it.
 *
 * With namespaces there are three processes. The first makes a user namespace and the second, then ends. The second is
 * the init of a new pid namespace, in the mount namespace of the supervisor; it waits for QEMU and passes on its exit
 * status. The third builds the jail around itself and becomes QEMU. When the init ends, however it ends, the kernel
 * kills QEMU and waits for its end before the init counts as ended: so the init stands for the VM.
 *
 * Without namespaces the launcher itself becomes QEMU, with what else there is.
 */
#include "confine.h"
#include "order.h"
#include "report.h"
#include "root.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void write_text(const char *path, const char *text, const char *what)
{
	int file = open(path, O_WRONLY | O_CLOEXEC);

	if (file < 0 || write(file, text, strlen(text)) < 0)
		fail("%s", what);
	close(file);
}

/* Return a descriptor of a new user namespace with these maps. */
static int make_user_namespace(const char *user_map, const char *group_map)
{
	char path[64];
	int ready[2];

	if (pipe2(ready, O_CLOEXEC))
		fail("a pipe");
	pid_t launcher = getpid(), holder = fork();
	if (holder < 0)
		fail("a process");
	if (!holder) {
		char done = !unshare(CLONE_NEWUSER);
		/* Not before unshare, which clears it. The launcher may have been killed before this, too. */
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != launcher)
			_exit(1);
		if (write(ready[1], &done, 1) == 1)
			pause();
		_exit(1);
	}
	char done = 0;
	if (read(ready[0], &done, 1) != 1 || !done) {
		errno = EPERM;
		fail("a user namespace");
	}
	snprintf(path, sizeof path, "/proc/%d/uid_map", holder);
	write_text(path, user_map, "the ids of a user namespace");
	snprintf(path, sizeof path, "/proc/%d/gid_map", holder);
	write_text(path, group_map, "the ids of a user namespace");
	snprintf(path, sizeof path, "/proc/%d/ns/user", holder);
	int users = open(path, O_RDONLY | O_CLOEXEC);
	if (users < 0)
		fail("a user namespace");
	kill(holder, SIGKILL);
	waitpid(holder, NULL, 0);
	close(ready[0]);
	close(ready[1]);
	return users;
}

/* Become QEMU. */
static _Noreturn void execute(const struct order *order)
{
	char preload[PATH_MAX + 16] = "", *environment[] = {NULL, NULL};

	if (order->preload) {
		snprintf(preload, sizeof preload, "LD_PRELOAD=%s", order->preload);
		*environment = preload;
	}
	confine_files(order);
	confine_descriptors(order);
	confine_calls();
	execve(order->program[0], order->program, environment);
	unusable("%s cannot be started", order->program[0]);
}

/* Report the pid that this process has on the host, whose /proc this still is. */
static void report_self(const char *name)
{
	char pid[32] = "";

	if (readlink("/proc/self", pid, sizeof pid - 1) < 0)
		fail("/proc");
	report("%s %s", name, pid);
}

static _Noreturn void run_jailed(struct order *order, int users)
{
	sigset_t none;

	report_self("qemu");
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (setsid() < 0)
		fail("a session");
	for (size_t i = 0; i < order->cgroup_count; i++)
		write_text(order->cgroups[i], "0", order->cgroups[i]);
	root_enter(order, users);
	confine_resources(order);
	confine_user(order, users);
	confine_capabilities(order);
	execute(order);
}

/* Keep nothing that only QEMU or the start needs; what stays open are the descriptors that the order says to hold. The
 * right to signal QEMU follows from the user namespace, which is of this process' user. */
static void renounce(const struct order *order)
{
	const struct order nothing = {0};
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int stream = 0; stream < 3; stream++)
		dup2(null, stream);
	confine_capabilities(&nothing);
	int from = 3;
	if (order->held >= from) {
		dup2(order->held, from);
		from++;
	}
	if (syscall(SYS_close_range, from, ~0U, 0)) /* not before Linux 5.9 */
		for (int fd = from; fd < 4096; fd++)
			close(fd);
}

/* The init of the pid namespace: wait for QEMU, pass signals on to it, and end as it does. */
static _Noreturn void watch(pid_t qemu, const sigset_t *signals)
{
	for (;;) {
		int status, signum = sigwaitinfo(signals, NULL);
		if (signum < 0)
			continue;
		if (signum != SIGCHLD) {
			kill(qemu, signum);
			continue;
		}
		for (pid_t ended; (ended = waitpid(-1, &status, WNOHANG)) > 0;)
			if (ended == qemu)
				_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	}
}

/* Wait for the starter's next step; end if it has ended. */
static void wait_for_starter(void)
{
	char go;

	if (read(report_fd, &go, 1) != 1)
		_exit(1);
}

static _Noreturn void run_init(struct order *order, int users)
{
	sigset_t signals;

	if (setsid() < 0)
		fail("a session");
	sigfillset(&signals); /* an init gets only signals that it handles or waits for */
	sigprocmask(SIG_SETMASK, &signals, NULL);
	report_self("init");
	wait_for_starter(); /* until it watches this process */
	pid_t qemu = fork();
	if (qemu < 0)
		fail("a process");
	if (!qemu)
		run_jailed(order, users);
	renounce(order);
	watch(qemu, &signals);
}

int main(int argc, char **argv)
{
	struct order order;

	order_read(&order, argc, argv);
	if (fcntl(report_fd, F_SETFD, FD_CLOEXEC))
		fail("the report");
	wait_for_starter(); /* until it has set the limits of this process, which the others inherit */
	if (!order.namespaces) {
		for (size_t i = 0; i < order.cgroup_count; i++)
			write_text(order.cgroups[i], "0", order.cgroups[i]);
		confine_resources(&order);
		confine_capabilities(&order);
		execute(&order);
	}
	int users = make_user_namespace(order.users, order.groups);
	if (unshare(CLONE_NEWPID))
		fail("a pid namespace");
	/* A child of this process' parent, which so learns how it ends. */
	pid_t init = (pid_t)syscall(SYS_clone, CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, NULL);
	if (init < 0)
		fail("the init of a pid namespace");
	if (!init)
		run_init(&order, users);
	return 0;
}
