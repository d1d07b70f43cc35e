#include "container.h"

#include "dialect.h"
#include "kernel.h"
#include "root.h"
#include "share.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Bytes of a container's id: HELLO's answer names one with each process. */
enum { ID_MAX = 128 };

struct container *containers;
static int agent_mounts = -1; /* the agent's own mount namespace */

void container_init(void)
{
	agent_mounts = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	if (agent_mounts < 0)
		fatal("guest agent: mount namespace: %s", strerror(errno));
}

struct container *container_find(const char *id)
{
	struct container *container = containers;

	while (container && strcmp(container->spec.id, id))
		container = container->next;
	return container;
}

size_t containers_running(void)
{
	size_t count = 0;

	for (struct container *container = containers; container; container = container->next)
		count += container->running;
	return count;
}

void container_free(struct container *container)
{
	struct container **link = &containers;

	while (*link != container)
		link = &(*link)->next;
	*link = container->next;
	for (struct process *process = processes; process; process = process->next)
		if (process->container == container)
			process->container = NULL;
	if (container->mounts >= 0)
		close(container->mounts);
	if (container->pts >= 0)
		close(container->pts);
	cgroup_remove(&container->cgroup);
	message_free(&container->message);
	loop_free(container);
}

/* A container in the list, with a devpts that is mounted nowhere yet: the agent opens terminals in it, the container
 * sees it as /dev/pts. */
static struct container *container_new(const struct container_spec *spec)
{
	struct container *container = calloc(1, sizeof *container), **link = &containers;

	if (!container) {
		fail("the guest has no memory for another container");
		return NULL;
	}
	container->spec = *spec;
	container->mounts = container->cgroup.directory = -1;
	while (*link)
		link = &(*link)->next;
	*link = container;
	container->pts = make_pts();
	if (container->pts >= 0)
		return container;
	fail("devpts: %s", strerror(errno));
	container_free(container);
	return NULL;
}

static bool mount_shares(const struct container_spec *spec)
{
	share_forget_names();
	for (const struct mapping *mapping = spec->mappings; mapping && mapping->path; mapping++)
		if (!share_mount(share_of(mapping)))
			return false;
	return true;
}

struct container *container_start(const struct container_spec *spec, struct message *message)
{
	struct container *container;

	if (strlen(spec->id) > ID_MAX) {
		fail("a container's id has more than %d bytes", ID_MAX);
		return NULL;
	}
	if (container_find(spec->id) || (api_version > API_2016 && !strcmp(spec->id, VM_ITSELF))) {
		fail("container '%s' exists already", spec->id);
		return NULL;
	}
	if (!mount_shares(spec))
		return NULL;
	container = container_new(spec);
	if (!container)
		return NULL;
	if (!cgroup_make(&container->cgroup, &spec->bounds) ||
	    !process_start(container, true, &container->spec.process)) {
		container_free(container);
		return NULL;
	}
	if (message) {
		container->message = *message;
		*message = (struct message){0};
	}
	container->running = true;
	return container;
}

/* In a child, which is born in the pod: make the root, and leave it to others. A child that is killed reports nothing. */
static _Noreturn void make_root_and_end(const struct container *container, int report)
{
	if (root_make(&container->spec, container->pts))
		failure = (struct failure){.stage = STAGE_NONE};
	_exit(write(report, &failure, sizeof failure) != sizeof failure);
}

static bool make_root(struct container *container)
{
	int report[2];
	pid_t pid = -1;
	bool done;

	if (pipe2(report, O_CLOEXEC))
		return fail("pipe: %s", strerror(errno));
	if (container_unshare(container)) {
		pid = fork();
		if (!pid)
			make_root_and_end(container, report[1]);
		if (pid < 0)
			fail("fork: %s", strerror(errno));
		container_leave();
	}
	close(report[1]);
	done = pid > 0 && (read(report[0], &failure, sizeof failure) == sizeof failure ||
	                   fail("the root's maker ended without a report"));
	done = done && failure.stage == STAGE_NONE;
	close(report[0]);
	return done;
}

struct container *container_make(const struct container_spec *spec)
{
	struct container *container = container_new(spec);

	if (!container)
		return NULL;
	container->running = cgroup_make(&container->cgroup, &spec->bounds) && make_root(container);
	if (container->running)
		return container;
	container_free(container);
	return NULL;
}

/* Let busybox, which a guest may have, make links to itself under the names of all the programs that it is. */
static void install_programs(void)
{
	pid_t pid = fork();

	if (!pid) {
		dup2(open("/dev/null", O_WRONLY), 2);
		execl("/bin/busybox", "busybox", "--install", "-s", "/bin", NULL);
		_exit(1);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

struct container *container_of_guest(const char *id)
{
	struct container_spec spec = {.id = id, .bounds.capabilities = UINT64_MAX, .process.workdir = "/"};
	struct container *container = container_new(&spec);

	if (!container)
		return NULL;
	container->outside = container->running = true;
	container->mounts = fcntl(agent_mounts, F_DUPFD_CLOEXEC, 3);
	install_programs();
	mkdir("/dev/pts", 0755);
	if (container->mounts >= 0 && attach_mount(container->pts, AT_FDCWD, "/dev/pts"))
		return container;
	fail("the guest's own root: %s", strerror(errno));
	container_free(container);
	return NULL;
}

/* Where the kernel cannot: kill every process whose mount namespace is the container's. One pass over /proc misses only
 * what a process forks before it is killed and that gets a lower number; what is killed forks no more, so few passes are
 * enough. */
static void kill_rest(const struct container *container)
{
	enum { PASSES = 8 };
	struct stat ours, theirs;
	bool found = true;

	/* Those of the host first: one may just be on its way into the namespace. */
	for (struct process *process = processes; process; process = process->next)
		if (process->container == container)
			process_kill(process, SIGKILL);
	if (fstat(container->mounts, &ours))
		return;
	for (int pass = 0; found && pass < PASSES; pass++) {
		DIR *proc = opendir("/proc");
		char path[300];

		found = false;
		for (struct dirent *entry; proc && (entry = readdir(proc));) {
			int pid = atoi(entry->d_name);

			snprintf(path, sizeof path, "/proc/%s/ns/mnt", entry->d_name);
			if (pid <= 1 || stat(path, &theirs) || theirs.st_ino != ours.st_ino || theirs.st_dev != ours.st_dev)
				continue;
			kill(pid, SIGKILL);
			found = true;
		}
		if (proc)
			closedir(proc);
		if (found)
			sched_yield();
	}
}

void container_ended(struct container *container, uint8_t status)
{
	container->running = false;
	container->status = status;
	if (!cgroup_kill(&container->cgroup))
		kill_rest(container);
	if (later)
		container_free(container);
}

bool container_unshare(struct container *container)
{
	if (unshare(CLONE_NEWNS))
		return fail("mount namespace: %s", strerror(errno));
	container->mounts = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	if (container->mounts >= 0)
		return true;
	fail("mount namespace: %s", strerror(errno));
	container_leave();
	return false;
}

void container_leave(void)
{
	if (setns(agent_mounts, CLONE_NEWNS))
		fatal("guest agent: cannot return to its mount namespace: %s", strerror(errno));
}

bool container_enter(const struct container *container)
{
	return !setns(container->mounts, CLONE_NEWNS) || fail("mount namespace: %s", strerror(errno));
}
