#include "root.h"

#include "copy.h"
#include "kernel.h"
#include "names.h"
#include "phase.h"
#include "share.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Mount points in the mount namespace of each container, until its root is "/". */
#define LOWER "/run/vc/lower"
#define LAYER "/run/vc/layer"
#define DISK "/run/vc/disk"
#define ROOT "/run/vc/root"
#define MEMORY "/run/vc/memory"

void root_init(void)
{
	static const char *const directories[] = {LOWER, LAYER, DISK, ROOT, MEMORY};

	for (size_t i = 0; i < COUNT(directories); i++)
		if (mkdir(directories[i], 0755) && errno != EEXIST)
			fatal("guest agent: mkdir %s: %s", directories[i], strerror(errno));
}

enum { SHARED_MEMORY = MOUNT_ATTR_NOSUID_ | MOUNT_ATTR_NOEXEC_, MIB = 1 << 20 };

static bool memory_is_shared;

bool root_share_memory(uint64_t size)
{
	int made;

	if (memory_is_shared || !size)
		return true;
	made = size > UINT64_MAX / MIB ? -1 : make_tmpfs(size * MIB, 01777, SHARED_MEMORY);
	memory_is_shared = made >= 0 && attach_mount(made, AT_FDCWD, MEMORY);
	if (made >= 0)
		close(made);
	return memory_is_shared || fail("/dev/shm of %llu MiB: %s", (unsigned long long)size, strerror(errno));
}

void root_unshare_memory(void)
{
	if (memory_is_shared)
		umount2(MEMORY, MNT_DETACH);
	memory_is_shared = false;
}

/* Make `path` the root of the process' mount namespace, and unmount the previous root. */
static bool switch_root(const char *path)
{
	/* pivot_root(2), 'pivot_root(".", ".")': the old root is mounted over the new one, and then unmounted. */
	if (chdir(path) || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/"))
		return fail("cannot switch to the container's root: %s", strerror(errno));
	return true;
}

/* Bind-mount an open directory on `target`, and close it. */
static bool bind_directory(int directory, const char *path, const char *target)
{
	bool done;

	if (directory < 0)
		return false;
	done = !fchdir(directory) && !mount(".", target, NULL, MS_BIND, NULL);
	close(directory);
	return done || fail("root '%s': %s", path, strerror(errno));
}

/* Mount a disk in this mount namespace only, and open a directory on it. */
static int open_on_disk(const struct disk *disk, const char *path, unsigned long flags)
{
	int root = -1, found = -1;

	if (!disk_mount(disk, DISK, flags | MS_NODEV))
		return -1;
	root = open(DISK, O_PATH | O_CLOEXEC);
	found = open_path(root, *path ? path : ".", RESOLVE_BENEATH_);
	if (found < 0)
		fail(errno == EXDEV ? "'%s' leads out of disk '%s'" : "'%s' on disk '%s': %s", path, disk_name(disk),
		     strerror(errno));
	close(root);
	return found;
}

/* Write the files of names into the writable layer, where they take the place of the image's. `written` becomes false if /etc
 * of the image is a link, which leads elsewhere. */
static bool write_names(bool *written)
{
	static const char etc[] = LAYER "/upper/etc";
	struct stat lower = {.st_mode = S_IFDIR | 0755};

	if (lstat(LOWER "/etc", &lower) && errno != ENOENT)
		return fail("/etc of the root: %s", strerror(errno));
	*written = S_ISDIR(lower.st_mode);
	if (!*written)
		return true;
	if (mkdir(etc, 0755) || chown(etc, lower.st_uid, lower.st_gid) || chmod(etc, lower.st_mode & 07777))
		return fail("/etc in the writable layer: %s", strerror(errno));
	return names_write(etc);
}

/* Mount an overlay of LOWER and a writable layer on ROOT. The layer is a tmpfs of the size that the host gave. */
static bool mount_overlay(const struct container_spec *spec, bool *named)
{
	struct stat lower;
	char size[40] = "mode=0755,size=50%";
	/* What no_new_privs makes of every file. So at an execve the kernel need not ask the host for a file's capabilities,
	 * which takes two exchanges. */
	unsigned long nosuid = spec->bounds.no_new_privs ? MS_NOSUID : 0;

	if (spec->overlay_size)
		snprintf(size, sizeof size, "mode=0755,size=%lluM", (unsigned long long)spec->overlay_size);
	if (mount("tmpfs", LAYER, "tmpfs", 0, size))
		return fail("writable layer of %s: %s", size, strerror(errno));
	/* An overlay's root has the owner and mode of the upper directory. */
	if (stat(LOWER, &lower) || mkdir(LAYER "/upper", 0755) || mkdir(LAYER "/work", 0755) ||
	    chown(LAYER "/upper", lower.st_uid, lower.st_gid) || chmod(LAYER "/upper", lower.st_mode & 07777))
		return fail("writable layer: %s", strerror(errno));
	if (!write_names(named))
		return false;
	if (mount("overlay", ROOT, "overlay", MS_NODEV | nosuid,
	          "lowerdir=" LOWER ",upperdir=" LAYER "/upper,workdir=" LAYER "/work"))
		return fail("overlay: %s", strerror(errno));
	return true;
}

static int open_root(const struct container_spec *spec)
{
	const char *image = spec->image.name;
	char path[1024];

	if (*spec->image.fstype)
		return open_on_disk(&spec->image, spec->rootfs, spec->overlay ? MS_RDONLY : 0);
	if (!*image && !*spec->rootfs) {
		fail("container '%s' has neither 'image' nor 'rootfs'", spec->id);
		return -1;
	}
	if ((size_t)snprintf(path, sizeof path, "%s%s%s", image, *image && *spec->rootfs ? "/" : "", spec->rootfs) >=
	    sizeof path) {
		fail("container '%s' has a path of more than %zu bytes", spec->id, sizeof path - 1);
		return -1;
	}
	return share_open(spec->writable_root ? SHARE_WRITTEN_ROOTS : SHARE_ROOTS, "root", path);
}

/* Mount the root on ROOT. `named` becomes true if it has the files of names. */
static bool mount_root(const struct container_spec *spec, bool *named)
{
	*named = false;
	return bind_directory(open_root(spec), spec->image.name, spec->overlay ? LOWER : ROOT) &&
	       (!spec->overlay || mount_overlay(spec, named));
}

/* Bind-mount a file on itself, so that what is mounted there keeps its flags when those around it change. */
static bool bind_on_itself(const char *path)
{
	return !mount(path, path, NULL, MS_BIND, NULL);
}

/* Create a mount point, unless it exists. No link is followed: it could lead the mount elsewhere. */
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

/* Create a directory and its missing parents. */
static bool make_path(const char *path)
{
	char part[PATH_MAX];

	if ((size_t)snprintf(part, sizeof part, "%s/", path) >= sizeof part)
		return fail("'%s': %s", path, strerror(ENAMETOOLONG));
	for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		if (mkdir(part, 0755) && errno != EEXIST)
			return fail("'%s': %s", part, strerror(errno));
		*slash = '/';
	}
	return true;
}

/* Create a device, and its missing directories below /dev. */
static bool make_node(const struct node *node)
{
	mode_t kind = *node->type == 'b' ? S_IFBLK : *node->type == 'p' ? S_IFIFO : S_IFCHR;
	dev_t device = makedev((unsigned)node->major, (unsigned)node->minor);
	char directory[PATH_MAX];

	snprintf(directory, sizeof directory, "%.*s", (int)MIN(strrchr(node->path, '/') - node->path, PATH_MAX),
	         node->path);
	if (!make_path(directory))
		return false;
	return (!mknod(node->path, kind | 0600, device) && !chown(node->path, (uid_t)node->uid, (gid_t)node->gid) &&
	        !chmod(node->path, (mode_t)node->mode) && bind_on_itself(node->path)) ||
	       fail("%s: %s", node->path, strerror(errno));
}

/* Create the devices of each container, and those of this one. Nowhere else in it does a device open: all other mounts are
 * nodev, also that of /dev itself, so what a container creates with CAP_MKNOD (a disk of the guest, a port to the host) is
 * of no use to it. */
static bool make_devices(const struct node *nodes)
{
	static const struct node usual[] = {
		{"/dev/null", "c", 1, 3, 0666, 0, 0},    {"/dev/zero", "c", 1, 5, 0666, 0, 0},
		{"/dev/full", "c", 1, 7, 0666, 0, 0},    {"/dev/random", "c", 1, 8, 0666, 0, 0},
		{"/dev/urandom", "c", 1, 9, 0666, 0, 0}, {"/dev/tty", "c", 5, 0, 0666, 0, 0},
	};

	for (size_t i = 0; i < COUNT(usual); i++)
		if (!make_node(&usual[i]))
			return false;
	for (; nodes && nodes->path; nodes++)
		if (!make_node(nodes))
			return false;
	return make_nodev("/dev") || fail("mount of /dev: %s", strerror(errno));
}

static bool fill_dev(int pts, const struct node *nodes)
{
	static const char *const links[][2] = {
		{"pts/ptmx", "/dev/ptmx"},          {"/proc/self/fd", "/dev/fd"},       {"/proc/self/fd/0", "/dev/stdin"},
		{"/proc/self/fd/1", "/dev/stdout"}, {"/proc/self/fd/2", "/dev/stderr"},
	};

	if (!make_devices(nodes))
		return false;
	for (size_t i = 0; i < COUNT(links); i++)
		if (symlink(links[i][0], links[i][1]))
			return fail("%s: %s", links[i][1], strerror(errno));
	if (!make_directory("/dev/pts"))
		return false;
	return attach_mount(pts, AT_FDCWD, "/dev/pts") || fail("mount of /dev/pts: %s", strerror(errno));
}

/* Create a file in the place of what is there. */
static bool make_file(const char *path, const char *format, const char *hostname)
{
	int fd;
	bool done;

	unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return fail("%s: %s", path, strerror(errno));
	done = dprintf(fd, format, hostname) >= 0 || fail("%s: %s", path, strerror(errno));
	if (close(fd) && done)
		return fail("%s: %s", path, strerror(errno));
	return done;
}

/* What an original agent does for `initialize`, on a container's first start. */
static bool initialize(const struct container_spec *spec)
{
	char hostname[HOST_NAME_MAX + 1] = "";

	gethostname(hostname, sizeof hostname - 1);
	if (!make_path("/etc") || !make_file("/etc/hostname", "%s\n", hostname) ||
	    !make_file("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n127.0.0.1 %s\n", hostname))
		return false;
	unlink("/etc/mtab");
	if (symlink("/proc/mounts", "/etc/mtab"))
		return fail("/etc/mtab: %s", strerror(errno));
	return !*spec->process.workdir || make_path(spec->process.workdir);
}

/* Open the directory `_data` of a volume's disk, as an original agent does. */
static int open_volume(const struct mapping *volume)
{
	static const char data[] = "_data";
	int disk = open_on_disk(&volume->disk, "", MS_NOSUID | (volume->read_only ? MS_RDONLY : 0)), found;

	if (disk < 0)
		return -1;
	if (mkdirat(disk, data, 0755) && errno != EEXIST && errno != EROFS)
		fail("volume on '%s': %s", volume->path, strerror(errno));
	found = open_path(disk, data, RESOLVE_BENEATH_);
	if (found < 0)
		fail("volume on '%s': %s: %s", volume->path, data, strerror(errno));
	close(disk);
	return found;
}

/* Open the source of a mount; `mount` becomes a mount of it that is not attached yet. */
static bool open_mapping(struct mapping *mapping)
{
	unsigned attributes = (mapping->read_only ? MOUNT_ATTR_RDONLY_ : 0) | (mapping->no_exec ? MOUNT_ATTR_NOEXEC_ : 0) |
	                      (mapping->no_suid ? MOUNT_ATTR_NOSUID_ : 0);
	int source;

	if (mapping->tmpfs) {
		mapping->mount = make_tmpfs(mapping->size * MIB, (unsigned)mapping->mode, attributes);
	} else {
		source = mapping->disk.fstype ? open_volume(mapping)
		                              : share_open(share_of(mapping), "mount source", mapping->source);
		if (source < 0)
			return false;
		mapping->mount = clone_mount(source, attributes);
		close(source);
	}
	return mapping->mount >= 0 || fail("mount on '%s': %s", mapping->path, strerror(errno));
}

/* Open the sources of all mounts, while the shared directories and disks are still below the root. */
static bool open_mappings(struct mapping *mapping)
{
	for (; mapping && mapping->path; mapping++)
		if (!open_mapping(mapping))
			return false;
	return true;
}

/* Open the mount of a container's /dev/shm. */
static int open_memory(const struct container_spec *spec)
{
	enum { USUAL = 64, PART = 8 }; /* MiB, but no more than such a part of the container's memory */
	uint64_t bound = spec->bounds.memory ? MAX(spec->bounds.memory / PART, 1) : USUAL;
	uint64_t size = spec->shared_memory ? spec->shared_memory : MIN(bound, USUAL);
	int memory, shared;

	if (!spec->shared_memory || spec->bounds.isolated)
		return make_tmpfs(size * MIB, 01777, SHARED_MEMORY);
	shared = open(MEMORY, O_PATH | O_CLOEXEC);
	memory = clone_mount(shared, 0);
	close(shared);
	return memory;
}

static bool mount_memory(int memory)
{
	static const struct mount_entry queues = {
		"mqueue",
		"/dev/mqueue",
		MS_NOSUID | MS_NODEV | MS_NOEXEC,
		NULL,
	};

	if (!make_directory("/dev/shm"))
		return false;
	if (memory < 0 || !attach_mount(memory, AT_FDCWD, "/dev/shm"))
		return fail("mount of /dev/shm: %s", strerror(errno));
	close(memory);
	return mount_entries(&queues, 1);
}

/* Open mounts of the guest's files of names, not attached yet; -1 for one that the pod does not have. */
static bool open_names(int mounts[NAME_FILES])
{
	for (int i = 0; i < NAME_FILES; i++) {
		int file = open(name_files[i], O_PATH | O_CLOEXEC);

		mounts[i] = -1;
		if (file < 0)
			continue;
		mounts[i] = clone_mount(file, MOUNT_ATTR_RDONLY_);
		close(file);
		if (mounts[i] < 0)
			return fail("%s: %s", name_files[i], strerror(errno));
	}
	return true;
}

/* Open a name in a directory; if it does not exist, create a directory or an empty file. -1 and ENOLINK for a link to what
 * does not exist. */
static int open_or_make(int directory, const char *name, bool file)
{
	int found = open_path(directory, name, 0);

	if (found >= 0 || errno != ENOENT)
		return found;
	if (file ? mknodat(directory, name, S_IFREG | 0644, 0) : mkdirat(directory, name, 0755)) {
		if (errno == EEXIST)
			errno = ENOLINK;
		return -1;
	}
	return open_path(directory, name, 0);
}

/* Put what a link contains before the rest of a path. False and errno if that fails. */
static bool follow_link(int directory, const char *name, char rest[PATH_MAX])
{
	char link[PATH_MAX], whole[2 * PATH_MAX];
	ssize_t length = readlinkat(directory, name, link, sizeof link - 1);

	if (length < 0)
		return false;
	link[length] = '\0';
	snprintf(whole, sizeof whole, "%s/%s", link, rest);
	if (strlen(whole) >= PATH_MAX) {
		errno = ENAMETOOLONG;
		return false;
	}
	strcpy(rest, whole);
	return true;
}

/* Open a mount point; missing parts of its path are created, also what a link leads to. Links are followed as in the
 * container, whose root is already that of this process. */
static int open_target(const char *path, bool file)
{
	enum { LINKS_MAX = 40 }; /* as in the kernel */
	int place = open("/", O_PATH | O_CLOEXEC), links = 0;
	char rest[PATH_MAX], name[NAME_MAX + 1];

	if ((size_t)snprintf(rest, sizeof rest, "%s", path) >= sizeof rest) {
		close(place);
		errno = ENAMETOOLONG;
		return -1;
	}
	while (place >= 0 && rest[strspn(rest, "/")]) {
		char *part = rest + strspn(rest, "/");
		size_t length = strcspn(part, "/");
		int directory = place;

		place = -1;
		if ((size_t)snprintf(name, sizeof name, "%.*s", (int)length, part) >= sizeof name) {
			errno = ENAMETOOLONG;
		} else {
			memmove(rest, part + length, strlen(part + length) + 1);
			place = open_or_make(directory, name, file && !rest[strspn(rest, "/")]);
			if (place < 0 && errno == ENOLINK && links++ < LINKS_MAX && follow_link(directory, name, rest))
				place = *rest == '/' ? open("/", O_PATH | O_CLOEXEC) : fcntl(directory, F_DUPFD_CLOEXEC, 0);
		}
		close(directory);
	}
	return place;
}

static bool mount_mapping(const struct mapping *mapping, bool first_time)
{
	struct stat source, found;
	int target;

	if (!mapping->path[strspn(mapping->path, "/")])
		return fail("mount target '%s' is the container's root", mapping->path);
	if (fstat(mapping->mount, &source))
		return fail("mount on '%s': %s", mapping->path, strerror(errno));
	target = open_target(mapping->path, !S_ISDIR(source.st_mode));
	if (target < 0 || fstat(target, &found))
		return fail("mount target '%s': %s", mapping->path, strerror(errno));
	if (S_ISDIR(source.st_mode) != S_ISDIR(found.st_mode))
		return fail(S_ISDIR(found.st_mode) ? "mount target '%s' is a directory, but its source is not"
		                                   : "mount target '%s' is not a directory, but its source is",
		            mapping->path);
	first_time = first_time && mapping->populate && !mapping->read_only && S_ISDIR(found.st_mode);
	if (first_time && !copy_into_empty(target, mapping->mount))
		return fail("volume on '%s': %s", mapping->path, strerror(errno));
	if (!attach_mount(mapping->mount, target, ""))
		return fail("mount on '%s': %s", mapping->path, strerror(errno));
	close(target);
	close(mapping->mount);
	return true;
}

/* Mount the files of names over those of a root that has no copies of them. */
static bool mount_names(const int mounts[NAME_FILES], bool named)
{
	for (int i = 0; i < NAME_FILES; i++) {
		int target;

		if (mounts[i] < 0 || named)
			continue;
		target = open_target(name_files[i], true);
		if (target < 0 && (errno == EROFS || errno == ENOSPC))
			continue; /* a disk that takes no more keeps what it has */
		if (target < 0 || !attach_mount(mounts[i], target, ""))
			return fail("%s: %s", name_files[i], strerror(errno));
		close(target);
		close(mounts[i]);
	}
	return true;
}

bool set_sysctls(const struct variable *variable)
{
	char path[PATH_MAX];

	for (; variable && variable->name; variable++) {
		if ((size_t)snprintf(path, sizeof path, "/proc/sys/%s", variable->name) >= sizeof path)
			return fail("sysctl '%.64s...': %s", variable->name, strerror(ENAMETOOLONG));
		for (char *dot = path; (dot = strchr(dot, '.'));)
			*dot = '/';
		if (!write_file(path, variable->value))
			return fail("sysctl '%s': %s", variable->name, strerror(errno));
	}
	return true;
}

static bool mount_mappings(const struct mapping *mapping, bool first_time)
{
	for (; mapping && mapping->path; mapping++)
		if (!mount_mapping(mapping, first_time))
			return false;
	return true;
}

/* Mount something over a path, if that exists: itself, read-only; or what hides it, /dev/null or an empty directory. */
static bool cover(const char *path, bool hide)
{
	int target = open_path(AT_FDCWD, path, 0), source = target, cover;
	struct stat what;
	bool done;

	if (target < 0)
		return errno == ENOENT || errno == ENOTDIR || fail("%s: %s", path, strerror(errno));
	if (hide && !fstat(target, &what) && S_ISDIR(what.st_mode)) {
		cover = make_tmpfs(4096, 0755, MOUNT_ATTR_RDONLY_ | MOUNT_ATTR_NOSUID_ | MOUNT_ATTR_NOEXEC_);
	} else {
		source = hide ? open_path(AT_FDCWD, "/dev/null", 0) : target;
		cover = clone_mount(source, hide ? 0 : MOUNT_ATTR_RDONLY_);
	}
	done = (cover >= 0 && attach_mount(cover, target, "")) || fail("%s: %s", path, strerror(errno));
	if (cover >= 0)
		close(cover);
	if (source != target && source >= 0)
		close(source);
	close(target);
	return done;
}

static bool cover_all(const char *const *paths, bool hide)
{
	for (; paths && *paths; paths++)
		if (!cover(*paths, hide))
			return false;
	return true;
}

/* Without CAP_SYS_ADMIN a container must neither configure the system by files of /proc that its root user owns, nor read
 * what concerns the whole guest. These are the paths that runtimes of the OCI make read-only and mask. */
static bool protect_system(void)
{
	static const char *const read_only[] = {"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs",
	                                        NULL};
	static const char *const masked[] = {
		"/proc/acpi",
		"/proc/asound",
		"/proc/interrupts",
		"/proc/kcore",
		"/proc/keys",
		"/proc/latency_stats",
		"/proc/sched_debug",
		"/proc/scsi",
		"/proc/timer_list",
		"/proc/timer_stats",
		"/sys/devices/virtual/powercap",
		"/sys/firmware",
		NULL,
	};

	return cover_all(read_only, false) && cover_all(masked, true);
}

/* In a user namespace of its own a container has CAP_SYS_ADMIN only there, but its root user owns files of /proc all the
 * same. */
static bool confine_root(const struct container_spec *spec)
{
	const struct confinement *bounds = &spec->bounds;

	if ((bounds->isolated || !(bounds->capabilities >> CAP_SYS_ADMIN_ & 1)) && !protect_system())
		return false;
	if (!cover_all(spec->read_only, false) || !cover_all(spec->masked, true))
		return false;
	return !bounds->read_only || make_read_only("/") || fail("read-only root: %s", strerror(errno));
}

bool root_make(const struct container_spec *spec, int pts)
{
	static const struct mount_entry system[] = {
		{"proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
		{"sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL},
		{"tmpfs", "/dev", MS_NOSUID | MS_NOEXEC, "mode=0755,size=64k"},
	};
	int64_t begun = phase_clock();
	int names[NAME_FILES], memory = open_memory(spec);
	bool done, named;

	done = mount_root(spec, &named) && open_names(names) && open_mappings(spec->volumes) &&
	       open_mappings(spec->mappings) && switch_root(ROOT) && mount_entries(system, COUNT(system)) &&
	       fill_dev(pts, spec->nodes) && mount_memory(memory) && (!spec->initialize || initialize(spec)) &&
	       mount_names(names, named) && mount_mappings(spec->volumes, spec->initialize) &&
	       mount_mappings(spec->mappings, spec->initialize) && set_sysctls(spec->sysctls) && confine_root(spec);
	phase_end("make a root file system", begun);
	return done;
}

bool root_make_empty(void)
{
	if (mount("tmpfs", ROOT, "tmpfs", MS_RDONLY, "size=4k"))
		return fail("empty root: %s", strerror(errno));
	return switch_root(ROOT);
}
