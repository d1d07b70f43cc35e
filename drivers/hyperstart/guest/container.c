#include "container.h"

#include "dialect.h"
#include "kernel.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct container *containers;
bool container_strays;

struct container *container_find(const char *id)
{
	struct container *container = containers;

	while (container && strcmp(container->spec.id, id))
		container = container->next;
	return container;
}

struct process *container_first_process(const struct container *container)
{
	struct process *process = processes;

	while (process && (!process->init || process->container != container))
		process = process->next;
	return process;
}

bool containers_running(void)
{
	struct container *container = containers;

	while (container && !container->running)
		container = container->next;
	return container;
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
	isolation_end(&container->isolation);
	cgroup_remove(&container->cgroup);
	message_free(&container->message);
	loop_free(container);
}

/* The agent opens terminals in the new devpts; root_make mounts it on the container's /dev/pts. */
struct container *container_new(const struct container_spec *spec)
{
	struct container *container = calloc(1, sizeof *container), **link = &containers;

	if (!container) {
		fail("the guest has no memory for another container");
		return NULL;
	}
	container->spec = *spec;
	container->mounts = container->cgroup.directory = -1;
	container->isolation = not_isolated;
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

void container_init_reaped(pid_t pid)
{
	for (struct container *container = containers; container; container = container->next)
		if (container->isolation.init == pid)
			container->isolation.init = 0;
}

/* Without control groups: kill every process whose mount namespace is the container's. A pass over /proc misses only
 * children that were forked before their parent was killed and got a lower number; a killed process forks none, so a few
 * passes are enough. */
static void kill_rest(const struct container *container)
{
	enum { PASSES = 8 };
	struct stat ours, theirs;
	bool found = true;

	/* First those that the host started: one may not have entered the namespace yet. */
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
	if (!cgroup_kill(&container->cgroup)) {
		kill_rest(container);
		container_strays = true;
	}
	isolation_end(&container->isolation);
	if (version_is_later)
		container_free(container);
}
