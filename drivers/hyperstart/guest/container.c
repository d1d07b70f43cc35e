#include "container.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Each container sees these directories in a mount namespace of its own. */
#define LOWER "/run/vc/lower"
#define LAYER "/run/vc/layer"
#define ROOT "/run/vc/root"

/* Of linux/mount.h and linux/openat2.h, for which libc has no headers. */
enum {
	FSOPEN_CLOEXEC_ = 1,
	FSCONFIG_SET_STRING_ = 1,
	FSCONFIG_CMD_CREATE_ = 6,
	FSMOUNT_CLOEXEC_ = 1,
	MOVE_MOUNT_F_EMPTY_PATH_ = 4,
	RESOLVE_NO_MAGICLINKS_ = 2,
	RESOLVE_BENEATH_ = 8,
};

struct container *containers;
static int agent_mounts = -1; /* the agent's own mount namespace */

void container_init(void)
{
	static const char *const directories[] = {SHARE, LOWER, LAYER, ROOT};

	for (size_t i = 0; i < COUNT(directories); i++)
		if (mkdir(directories[i], 0755) && errno != EEXIST)
			fatal("guest agent: mkdir %s: %s", directories[i], strerror(errno));
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
		pts = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC_, MS_NOSUID | MS_NOEXEC);
	if (pts < 0)
		fail("devpts: %s", strerror(errno));
	if (context >= 0)
		close(context);
	return pts;
}

struct container *container_start(const struct container_spec *spec, struct message *message)
{
	struct container *container, **link = &containers;

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

bool switch_root(const char *path)
{
	/* Both roots on "." at once: the new one covers the old, which is then taken away from under it. */
	if (chdir(path) || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/"))
		return fail("cannot switch to the container's root: %s", strerror(errno));
	return true;
}

/* Bind the directory `path` below the shared directory on `target`; nothing in the share can lead out of it. */
static bool bind_shared(const char *path, const char *target)
{
	struct {
		uint64_t flags, mode, resolve;
	} how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_BENEATH_ | RESOLVE_NO_MAGICLINKS_};
	int share = open(SHARE, O_PATH | O_CLOEXEC);
	int root = (int)syscall(SYS_openat2, share, path, &how, sizeof how);

	if (root < 0)
		return fail(errno == EXDEV ? "root '%s' leads out of the shared directory"
		                           : "root '%s' in the shared directory: %s",
		            path, strerror(errno));
	if (fchdir(root) || mount(".", target, NULL, MS_BIND, NULL))
		return fail("root '%s': %s", path, strerror(errno));
	close(root);
	close(share);
	return true;
}

/* Put a writable layer, as large as it may get, over LOWER. */
static bool mount_overlay(const struct container_spec *spec)
{
	struct stat lower;
	char size[40] = "mode=0755,size=50%";

	if (spec->overlay_size)
		snprintf(size, sizeof size, "mode=0755,size=%lluM", (unsigned long long)spec->overlay_size);
	if (mount("tmpfs", LAYER, "tmpfs", 0, size))
		return fail("writable layer of %s: %s", size, strerror(errno));
	/* The merged root has the upper directory's owner and mode. */
	if (stat(LOWER, &lower) || mkdir(LAYER "/upper", 0755) || mkdir(LAYER "/work", 0755) ||
	    chown(LAYER "/upper", lower.st_uid, lower.st_gid) || chmod(LAYER "/upper", lower.st_mode & 07777))
		return fail("writable layer: %s", strerror(errno));
	if (mount("overlay", ROOT, "overlay", 0, "lowerdir=" LOWER ",upperdir=" LAYER "/upper,workdir=" LAYER "/work"))
		return fail("overlay: %s", strerror(errno));
	return true;
}

static bool mount_root(const struct container_spec *spec)
{
	char path[1024];

	if (!*spec->image && !*spec->rootfs)
		return fail("container '%s' has neither 'image' nor 'rootfs'", spec->id);
	if ((size_t)snprintf(path, sizeof path, "%s%s%s", spec->image, *spec->image && *spec->rootfs ? "/" : "",
	                     spec->rootfs) >= sizeof path)
		return fail("container '%s' has a path of more than %zu bytes", spec->id, sizeof path - 1);
	if (spec->overlay)
		return bind_shared(path, LOWER) && mount_overlay(spec);
	return bind_shared(path, ROOT);
}

/* A directory to mount on. A link could lead the mount elsewhere, so none is followed. */
static bool make_directory(const char *path)
{
	struct stat what;

	if (mkdir(path, 0755) && errno != EEXIST)
		return fail("the root has no %s, and it cannot be made: %s", path, strerror(errno));
	return (!lstat(path, &what) && S_ISDIR(what.st_mode)) || fail("%s in the root is not a directory", path);
}

struct mount_entry {
	const char *type, *target;
	unsigned long flags;
	const char *options;
};

static bool mount_entries(const struct mount_entry *entry, size_t count)
{
	for (; count--; entry++) {
		if (!make_directory(entry->target))
			return false;
		if (mount(entry->type, entry->target, entry->type, entry->flags, entry->options))
			return fail("mount of %s: %s", entry->target, strerror(errno));
	}
	return true;
}

static bool fill_dev(const struct container *container)
{
	static const struct {
		const char *path;
		unsigned major, minor;
	} devices[] = {
		{"/dev/null", 1, 3},   {"/dev/zero", 1, 5},    {"/dev/full", 1, 7},
		{"/dev/random", 1, 8}, {"/dev/urandom", 1, 9}, {"/dev/tty", 5, 0},
	};
	static const char *const links[][2] = {
		{"pts/ptmx", "/dev/ptmx"},           {"/proc/self/fd", "/dev/fd"},        {"/proc/self/fd/0", "/dev/stdin"},
		{"/proc/self/fd/1", "/dev/stdout"}, {"/proc/self/fd/2", "/dev/stderr"},
	};

	for (size_t i = 0; i < COUNT(devices); i++)
		if (mknod(devices[i].path, S_IFCHR | 0666, makedev(devices[i].major, devices[i].minor)) ||
		    chmod(devices[i].path, 0666))
			return fail("%s: %s", devices[i].path, strerror(errno));
	for (size_t i = 0; i < COUNT(links); i++)
		if (symlink(links[i][0], links[i][1]))
			return fail("%s: %s", links[i][1], strerror(errno));
	if (!make_directory("/dev/pts"))
		return false;
	if (syscall(SYS_move_mount, container->pts, "", AT_FDCWD, "/dev/pts", MOVE_MOUNT_F_EMPTY_PATH_))
		return fail("mount of /dev/pts: %s", strerror(errno));
	return true;
}

bool container_make_root(const struct container *container)
{
	static const struct mount_entry system[] = {
		{"proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
		{"sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL},
		{"tmpfs", "/dev", MS_NOSUID | MS_NOEXEC, "mode=0755,size=64k"},
	};
	static const struct mount_entry shared_memory[] = {
		{"tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=64m"},
		{"mqueue", "/dev/mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
	};

	return mount_root(&container->spec) && switch_root(ROOT) && mount_entries(system, COUNT(system)) &&
	       fill_dev(container) && mount_entries(shared_memory, COUNT(shared_memory));
}
