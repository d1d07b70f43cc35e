#include "pod.h"

#include "root.h"
#include "share.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	TERM_GRACE = 2000, /* milliseconds from SIGTERM to SIGKILL */
	KILL_GRACE = 300,  /* and from SIGKILL to not waiting any longer */
};

/* Sent to the pod's init: end as soon as nothing is left to reap. */
#define END_WHEN_IDLE SIGUSR1

struct pod pod;
static int agent_pids = -1, pod_pids = -1; /* the agent's own pid namespace, and the pod's */
static bool ending; /* the end of the pod's init is no surprise */
static bool destroying, given_up;

/* The first process of the pod's pid namespace: it reaps orphans, and sees nothing of the guest's root. */
static _Noreturn void pod_init(void)
{
	bool ending = false;
	sigset_t wanted;

	prctl(PR_SET_NAME, "pod");
	write_file("/proc/self/oom_score_adj", "-1000"); /* its end would be that of all processes */
	if (unshare(CLONE_NEWNS) || !root_make_empty())
		_exit(1);
	syscall(SYS_close_range, 0U, ~0U, 0);
	sigfillset(&wanted);
	sigprocmask(SIG_SETMASK, &wanted, NULL);
	sigemptyset(&wanted);
	sigaddset(&wanted, SIGCHLD);
	sigaddset(&wanted, END_WHEN_IDLE);
	for (;;) {
		pid_t pid;

		ending |= sigwaitinfo(&wanted, NULL) == END_WHEN_IDLE;
		do
			pid = waitpid(-1, NULL, WNOHANG);
		while (pid > 0);
		if (ending && pid < 0)
			_exit(0);
	}
}

/* From here on children of the agent are born in the pod's namespaces, of which it shares two. */
static bool make_namespaces(void)
{
	if (agent_pids < 0)
		agent_pids = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
	if (setns(agent_pids, CLONE_NEWPID) || unshare(CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC))
		return fail("namespaces: %s", strerror(errno));
	pod.init = fork();
	if (!pod.init)
		pod_init();
	if (pod.init < 0) {
		pod.init = 0;
		return fail("fork: %s", strerror(errno));
	}
	pod_pids = open("/proc/self/ns/pid_for_children", O_RDONLY | O_CLOEXEC);
	return pod_pids >= 0 || fail("namespaces: %s", strerror(errno));
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

static bool make_root(const char *root)
{
	struct container_spec spec = {
		.id = "",
		.image = {.name = root, .addr = "", .fstype = ""},
		.rootfs = "",
		.overlay = true,
		.bounds.capabilities = UINT64_MAX,
		.process.workdir = "/",
	};

	return container_make(&spec);
}

struct container *pod_itself(void)
{
	struct container *itself = container_find("");

	return itself ? itself : container_of_guest("");
}

static bool make_network(const struct pod_spec *spec)
{
	for (const struct interface *interface = spec->interfaces; interface && interface->device; interface++)
		if (!network_set_interface(interface))
			return false;
	if (!network_raise_loopback())
		return false;
	for (const struct route *route = spec->routes; route && route->dest; route++)
		if (!network_set_route(route))
			return false;
	return network_set_resolver(&spec->resolver);
}

bool pod_start(const struct pod_spec *spec)
{
	pod.started = true;
	share_offer(spec);
	if (make_namespaces() &&
	    (!sethostname(spec->hostname, strlen(spec->hostname)) || fail("hostname: %s", strerror(errno))) &&
	    make_network(spec) && (!*spec->share || share_mount(SHARE_ROOTS)) && (!*spec->root || make_root(spec->root)))
		return true;
	pod_end();
	return false;
}

void pod_let_go(void)
{
	while (containers)
		container_free(containers);
}

void pod_end(void)
{
	struct failure kept = failure;

	ending = true;
	/* The end of the pod's init is the end of all its processes, but the kernel waits with it until they are reaped. */
	if (pod.init)
		kill(pod.init, SIGKILL);
	while (pod.init) {
		int status;
		pid_t pid = waitpid(-1, &status, 0);

		if (pid > 0)
			pod_reaped(pid, status);
		else if (errno != EINTR)
			pod.init = 0;
	}
	pod_let_go();
	share_unmount_all();
	if (pod_pids >= 0)
		close(pod_pids);
	pod_pids = -1;
	message_free(&pod.message);
	pod = (struct pod){0};
	failure = kept;
	ending = false;
}

static void give_up(void)
{
	given_up = true;
}

static void kill_all(void)
{
	kill(-1, SIGKILL);
	loop_alarm(KILL_GRACE, give_up);
}

static void end_if_idle(void)
{
	if (destroying && pod.init && !processes_alive())
		kill(pod.init, END_WHEN_IDLE);
}

void pod_destroy(void)
{
	destroying = ending = true;
	kill(-1, SIGTERM); /* the pod's init has it blocked */
	loop_alarm(TERM_GRACE, kill_all);
	end_if_idle();
}

bool pod_is_gone(void)
{
	return given_up || (!pod.init && !processes_alive());
}

void pod_reaped(pid_t pid, int wait_status)
{
	if (pid != pod.init) {
		process_reaped(pid, wait_status);
	} else {
		pod.init = 0;
		if (!ending)
			console("guest agent: the pod's first process was killed, and all others with it");
	}
	end_if_idle();
}
