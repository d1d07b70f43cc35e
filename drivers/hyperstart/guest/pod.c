#include "pod.h"

#include "dialect.h"
#include "mux.h"
#include "names.h"
#include "namespaces.h"
#include "phase.h"
#include "root.h"
#include "share.h"
#include "start.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	TERM_GRACE = 2000, /* milliseconds from SIGTERM to SIGKILL */
	KILL_GRACE = 300,  /* and from SIGKILL to power-off, even if processes are left */
};

struct pod pod;
static bool init_may_end; /* the end of the pod's first process is not reported on the console */
static bool pod_is_ending, given_up;
static bool init_may_stay; /* it has nothing to reap, and ends with the VM */

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
	for (const struct route *route = spec->routes; route && route->dest; route++)
		if (!network_set_route(route))
			return false;
	return names_set(spec->hostname, spec->interfaces, &spec->resolver);
}

bool pod_prepare(void)
{
	int64_t begun = phase_clock();
	bool done;

	if (pod.init)
		return true;
	cgroup_prepare();
	network_prepare();
	done = pod_namespaces_make(&pod.init) && network_raise_loopback() && network_open_to_users();
	phase_end("prepare the start", begun);
	return done;
}

bool pod_start(const struct pod_spec *spec)
{
	int64_t begun = phase_clock();
	bool done;

	pod.started = true;
	share_offer(spec);
	done = pod_prepare() &&
	       (!sethostname(spec->hostname, strlen(spec->hostname)) || fail("hostname: %s", strerror(errno))) &&
	       make_network(spec) && (!*spec->share || share_mount(SHARE_ROOTS)) && (!*spec->root || make_root(spec->root));
	phase_end("start the pod", begun);
	if (!done)
		pod_end();
	return done;
}

static bool has_disk(const struct container_spec *spec)
{
	const struct mapping *lists[] = {spec->volumes, spec->mappings};

	for (size_t i = 0; i < COUNT(lists); i++)
		for (const struct mapping *mapping = lists[i]; mapping && mapping->path; mapping++)
			if (mapping->disk.fstype)
				return true;
	return *spec->image.fstype;
}

void pod_save(void)
{
	for (struct container *container = containers, *next; container; container = next) {
		next = container->next;
		if (has_disk(&container->spec))
			container_free(container);
	}
	sync();
}

void pod_end(void)
{
	struct failure kept = failure;

	init_may_end = true;
	/* When the first process of a pid namespace ends, the kernel kills all others; it can be reaped only after they
	 * are. */
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
	while (containers)
		container_free(containers);
	share_unmount_all();
	root_unshare_memory();
	pod_namespaces_close();
	message_free(&pod.message);
	pod = (struct pod){0};
	failure = kept;
	init_may_end = false;
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
	if (pod_is_ending && pod.init && !processes_alive())
		kill(pod.init, END_WHEN_IDLE);
}

/* Whether no process of the pod is left but its first one. Those of a container that has ended were killed, and commands
 * of the pod itself or of the guest have a container that runs as long as the pod. */
static bool is_idle(void)
{
	return !processes_alive() && !containers_running() && !container_strays;
}

void pod_destroy(void)
{
	pod_is_ending = init_may_end = true;
	init_may_stay = is_idle();
	if (init_may_stay)
		return;
	for (struct container *container = containers; container; container = container->next)
		if (container->frozen)
			cgroup_freeze(&container->cgroup, false); /* or it would not receive SIGTERM */
	kill(-1, SIGTERM); /* the pod's first process blocks it */
	loop_alarm(TERM_GRACE, kill_all);
	end_if_idle();
}

bool pod_is_gone(void)
{
	return given_up || ((init_may_stay || !pod.init) && !processes_alive());
}

/* The host goes on with the end of a container's first process while the others are killed, before its next command. */
static void process_ended(struct process *process)
{
	struct container *ended = process->init ? process->container : NULL;
	uint8_t status = process->status;

	if (extended) {
		process_finish(process);
		if (ended)
			mux_send();
	}
	if (ended)
		container_ended(ended, status);
	if (!extended)
		process_finish(process);
}

void pod_reaped(pid_t pid, int wait_status)
{
	struct process *process;

	if (pid != pod.init) {
		container_init_reaped(pid);
		process = process_reaped(pid, wait_status);
		if (process)
			process_ended(process);
	} else {
		pod.init = 0;
		if (!init_may_end)
			console("guest agent: the pod's first process was killed, and all others with it");
	}
	end_if_idle();
}
