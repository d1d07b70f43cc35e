#include "namespaces.h"

#include "root.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int agent_mounts = -1; /* the agent's own mount namespace */
static int agent_pids = -1, pod_pids = -1; /* the agent's own pid namespace, and the pod's */

void namespaces_init(void)
{
	agent_mounts = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	if (agent_mounts < 0)
		fatal("guest agent: mount namespace: %s", strerror(errno));
}

/* The first process of the pod's pid namespace. It reaps orphans; its root is empty. */
static _Noreturn void pod_init(void)
{
	bool end_requested = false;
	sigset_t wanted;

	prctl(PR_SET_NAME, "pod");
	write_file("/proc/self/oom_score_adj", "-1000"); /* if it ended, the kernel would kill all processes of the pod */
	/* It never calls execve, so close-on-exec closes nothing: the pod could open the agent's channels in /proc/1/fd. */
	if (unshare(CLONE_NEWNS) || !root_make_empty() || syscall(SYS_close_range, 0U, ~0U, 0))
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
		pod_init();
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
