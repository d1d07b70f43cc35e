#include "namespaces.h"

#include "root.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int agent_mounts = -1; /* the agent's own mount namespace */
/* /proc/self/ns of the agent. When a child makes a root in the mount namespace in which the agent is as well, pivot_root
 * gives the agent that root too, which has another /proc or none. */
static int agent_namespaces = -1;
static int agent_pids = -1, pod_pids = -1; /* the agent's own pid namespace, and the pod's */

void namespaces_init(void)
{
	agent_namespaces = open("/proc/self/ns", O_PATH | O_DIRECTORY | O_CLOEXEC);
	agent_mounts = openat(agent_namespaces, "mnt", O_RDONLY | O_CLOEXEC);
	if (agent_mounts < 0)
		fatal("guest agent: mount namespace: %s", strerror(errno));
}

const struct isolation not_isolated = {.init = 0, .pids = -1, .ipc = -1, .users = -1};

/* The first process of a pid namespace. It reaps orphans; its root is empty. With `others` it makes the other namespaces
 * of an isolated container. */
static _Noreturn void pod_init(int others)
{
	bool end_requested = false;
	sigset_t wanted;

	prctl(PR_SET_NAME, "pod");
	write_file("/proc/self/oom_score_adj", "-1000"); /* if it ended, the kernel would kill all processes of the pod */
	/* It never calls execve, so close-on-exec closes nothing: the pod could open the agent's channels in /proc/1/fd. */
	if (unshare(CLONE_NEWNS) || !root_make_empty() || (others && unshare(others)) ||
	    syscall(SYS_close_range, 0U, ~0U, 0))
		_exit(1);
	sigfillset(&wanted);
	sigprocmask(SIG_SETMASK, &wanted, NULL);
	sigemptyset(&wanted);
	sigaddset(&wanted, SIGCHLD);
	sigaddset(&wanted, END_WHEN_IDLE);
	for (;;) {
		pid_t pid;

		end_requested |= sigwaitinfo(&wanted, NULL) == END_WHEN_IDLE;
		do
			pid = waitpid(-1, NULL, WNOHANG);
		while (pid > 0);
		if (end_requested && pid < 0)
			_exit(0);
	}
}

bool pod_namespaces_make(pid_t *init)
{
	if (agent_pids < 0)
		agent_pids = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
	if (setns(agent_pids, CLONE_NEWPID) || unshare(CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC))
		return fail("namespaces: %s", strerror(errno));
	*init = fork();
	if (!*init)
		pod_init(0);
	if (*init < 0) {
		*init = 0;
		return fail("fork: %s", strerror(errno));
	}
	pod_pids = open("/proc/self/ns/pid_for_children", O_RDONLY | O_CLOEXEC);
	return pod_pids >= 0 || fail("namespaces: %s", strerror(errno));
}

void pod_namespaces_close(void)
{
	if (pod_pids >= 0)
		close(pod_pids);
	pod_pids = -1;
}

void pod_step_out(void)
{
	if (setns(agent_pids, CLONE_NEWPID))
		fatal("guest agent: cannot leave the pod's process numbers: %s", strerror(errno));
}

void pod_step_in(void)
{
	if (setns(pod_pids, CLONE_NEWPID))
		fatal("guest agent: cannot return to the pod's process numbers: %s", strerror(errno));
}

static int open_namespace(pid_t process, const char *kind)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)process, kind);
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* Every user of the guest is the same one in the namespace: files keep their owners. */
static bool map_ids(pid_t process)
{
	static const char *const maps[] = {"uid_map", "gid_map"};
	char path[64];

	for (size_t i = 0; i < COUNT(maps); i++) {
		snprintf(path, sizeof path, "/proc/%d/%s", (int)process, maps[i]);
		if (!write_file(path, "0 0 4294967295"))
			return false;
	}
	return true;
}

/* Fork the first process of a new pid namespace beside the pod's, which no process of the pod can see, and wait until it
 * has made the other namespaces. -1 and errno if that fails. */
static pid_t fork_init(void)
{
	int ready[2];
	char byte;
	pid_t init = -1;

	if (pipe2(ready, O_CLOEXEC))
		return -1;
	if (pids_unshare())
		init = fork();
	if (!init)
		pod_init(CLONE_NEWUSER | CLONE_NEWIPC);
	close(ready[1]);
	if (init > 0)
		while (read(ready[0], &byte, 1) < 0 && errno == EINTR)
			;
	close(ready[0]);
	pod_step_in();
	return init;
}

bool isolation_make(struct isolation *isolation)
{
	*isolation = not_isolated;
	isolation->init = fork_init();
	if (isolation->init > 0) {
		isolation->pids = open_namespace(isolation->init, "pid");
		isolation->ipc = open_namespace(isolation->init, "ipc");
		isolation->users = open_namespace(isolation->init, "user");
		if (isolation->pids >= 0 && isolation->ipc >= 0 && isolation->users >= 0 && map_ids(isolation->init))
			return true;
	}
	fail("namespaces: %s", strerror(errno));
	isolation_end(isolation);
	return false;
}

void isolation_end(struct isolation *isolation)
{
	int fds[] = {isolation->pids, isolation->ipc, isolation->users};

	/* When the first process of a pid namespace ends, the kernel kills all others. */
	if (isolation->init > 0)
		kill(isolation->init, SIGKILL);
	for (size_t i = 0; i < COUNT(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	*isolation = not_isolated;
}

bool pids_unshare(void)
{
	return (!setns(agent_pids, CLONE_NEWPID) && !unshare(CLONE_NEWPID)) || fail("namespaces: %s", strerror(errno));
}

bool isolation_take_pids(struct isolation *isolation)
{
	int pids = openat(agent_namespaces, "pid_for_children", O_RDONLY | O_CLOEXEC);

	if (pids < 0)
		return fail("namespaces: %s", strerror(errno));
	if (isolation->pids >= 0)
		close(isolation->pids);
	isolation->pids = pids;
	return true;
}

void isolation_step_in(const struct isolation *isolation)
{
	if (setns(isolation->pids, CLONE_NEWPID))
		fatal("guest agent: cannot enter a container's process numbers: %s", strerror(errno));
}

bool isolation_enter_ipc(const struct isolation *isolation)
{
	return isolation->ipc < 0 || !setns(isolation->ipc, CLONE_NEWIPC) || fail("IPC namespace: %s", strerror(errno));
}

bool mounts_unshare(int *mounts)
{
	if (unshare(CLONE_NEWNS))
		return fail("mount namespace: %s", strerror(errno));
	*mounts = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	if (*mounts >= 0)
		return true;
	fail("mount namespace: %s", strerror(errno));
	mounts_leave();
	return false;
}

void mounts_leave(void)
{
	if (setns(agent_mounts, CLONE_NEWNS))
		fatal("guest agent: cannot return to its mount namespace: %s", strerror(errno));
}

bool mounts_enter(int mounts)
{
	return !setns(mounts, CLONE_NEWNS) || fail("mount namespace: %s", strerror(errno));
}

int mounts_of_agent(void)
{
	return fcntl(agent_mounts, F_DUPFD_CLOEXEC, 3);
}
