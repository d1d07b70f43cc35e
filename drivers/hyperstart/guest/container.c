#include "container.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Of linux/mount.h, for which libc has no header. */
enum {
	FSOPEN_CLOEXEC_ = 1,
	FSCONFIG_SET_STRING_ = 1,
	FSCONFIG_CMD_CREATE_ = 6,
	FSMOUNT_CLOEXEC_ = 1,
	MOUNT_ATTR_NOSUID_ = 2,
	MOUNT_ATTR_NOEXEC_ = 8,
};

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
	message_free(&container->message);
	loop_free(container);
}

/* A new devpts that is mounted nowhere yet: the agent opens terminals in it, the container sees it as /dev/pts. */
static int make_pts(void)
{
	static const char *const options[][2] = {{"mode", "0620"}, {"ptmxmode", "0666"}, {"gid", "5"}};
	int context = (int)syscall(SYS_fsopen, "devpts", FSOPEN_CLOEXEC_);
	int pts = -1;

	for (size_t i = 0; context >= 0 && i < COUNT(options); i++)
		syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING_, options[i][0], options[i][1], 0);
	if (context >= 0 && !syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE_, NULL, NULL, 0))
		pts = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC_, MOUNT_ATTR_NOSUID_ | MOUNT_ATTR_NOEXEC_);
	if (pts < 0)
		fail("devpts: %s", strerror(errno));
	if (context >= 0)
		close(context);
	return pts;
}

struct container *container_start(const struct container_spec *spec, struct message *message)
{
	struct container *container, **link = &containers;

	if (strlen(spec->id) > ID_MAX) {
		fail("a container's id has more than %d bytes", ID_MAX);
		return NULL;
	}
	if (container_find(spec->id)) {
		fail("container '%s' exists already", spec->id);
		return NULL;
	}
	container = calloc(1, sizeof *container);
	if (!container) {
		fail("the guest has no memory for another container");
		return NULL;
	}
	container->spec = *spec;
	container->mounts = -1;
	container->pts = make_pts();
	while (*link)
		link = &(*link)->next;
	*link = container;
	if (container->pts < 0 || !process_start(container, true, &container->spec.process)) {
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

/* Kill every process whose mount namespace is the container's. One pass over /proc misses only what a process forks
 * before it is killed and that gets a lower number; what is killed forks no more, so few passes are enough. */
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
	kill_rest(container);
}

bool container_unshare(struct container *container)
{
	if (unshare(CLONE_NEWNS))
		return fail("mount namespace: %s", strerror(errno));
	container->mounts = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	if (container->mounts >= 0)
		return true;
	fail("mount namespace: %s", strerror(errno));
	container_unshared();
	return false;
}

void container_unshared(void)
{
	if (setns(agent_mounts, CLONE_NEWNS))
		fatal("guest agent: cannot return to its mount namespace: %s", strerror(errno));
}

bool container_enter(const struct container *container)
{
	return !setns(container->mounts, CLONE_NEWNS) || fail("mount namespace: %s", strerror(errno));
}
