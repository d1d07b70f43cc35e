#include "root.h"

#include "kernel.h"
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* The new root before it is the root; any directory of the mount namespace would do, and this one always exists. */
static const char staging[] = "/proc";

static const uint64_t harmless = MOUNT_ATTR_NOSUID_ | MOUNT_ATTR_NODEV_;

static void set_attributes(int tree, const char *path, struct mount_attributes attributes, bool whole, const char *what)
{
	if (syscall(SYS_mount_setattr, tree, path, AT_EMPTY_PATH_ | (whole ? AT_RECURSIVE_ : 0), &attributes,
	            sizeof attributes))
		fail("%s", what);
}

static uint64_t attributes_of(const struct place *place)
{
	switch (place->access) {
	case ACCESS_PROGRAM:
		return harmless | MOUNT_ATTR_RDONLY_;
	case ACCESS_WRITE:
		return harmless | MOUNT_ATTR_NOEXEC_ | (place->top ? MOUNT_ATTR_RDONLY_ : 0);
	case ACCESS_DEVICE:
		return MOUNT_ATTR_NOSUID_ | MOUNT_ATTR_NOEXEC_;
	default:
		return harmless | MOUNT_ATTR_NOEXEC_ | MOUNT_ATTR_RDONLY_;
	}
}

/* Take a copy of the mounts of a place, with the flags that they have in the jail. */
static void open_place(const struct order *order, struct place *place, const char *path, int users)
{
	char what[PATH_MAX + 100];

	place->tree = (int)syscall(SYS_open_tree, AT_FDCWD, path,
	                           OPEN_TREE_CLONE_ | OPEN_TREE_CLOEXEC_ | (place->whole ? AT_RECURSIVE_ : 0));
	if (place->tree < 0)
		missing(place->source);
	struct mount_attributes attributes = {.set = attributes_of(place)};
	snprintf(what, sizeof what, "mount flags of '%s'", place->source);
	if (order->translated && place->access != ACCESS_PROGRAM && !place->top) {
		attributes.set |= MOUNT_ATTR_IDMAP_;
		attributes.user_namespace = users;
		snprintf(what, sizeof what, "the file system of '%s' cannot translate owners (idmapped mounts)",
		         place->source);
	}
	set_attributes(place->tree, "", attributes, place->whole, what);
}

/* Try with what the supervisor will mount later. It has opened it: this is in its mount namespace, as these files are. */
static void check_places(struct order *order, int users)
{
	for (struct place *place = order->places; place < order->places + order->place_count; place++)
		if (place->access == ACCESS_CHECK && order->translated) {
			open_place(order, place, place->target, users);
			close(place->tree);
		}
}

/* Open the places while the host's files can still be named. */
static void open_places(struct order *order, int users)
{
	for (struct place *place = order->places; place < order->places + order->place_count; place++)
		if (place->access != ACCESS_CHECK && !(order->translated && place->access == ACCESS_DEVICE))
			open_place(order, place, place->source, users);
}

/* Make the directories above `path`, which is below the new root, and go there: return the last part. */
static void make_parents(const char *path)
{
	char parent[PATH_MAX];

	snprintf(parent, sizeof parent, "%s", path);
	for (char *slash = strchr(parent, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		if (mkdir(parent, 0755) && errno != EEXIST)
			fail("directory '%s' of the jail", parent);
		*slash = '/';
	}
}

static void make_point(const char *path, bool directory)
{
	make_parents(path);
	if (directory) {
		if (mkdir(path, 0755) && errno != EEXIST)
			fail("directory '%s' of the jail", path);
		return;
	}
	int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0444);
	if (file < 0)
		fail("file '%s' of the jail", path);
	close(file);
}

static void put_places(struct order *order)
{
	struct stat status;

	for (struct place *place = order->places; place < order->places + order->place_count; place++) {
		if (place->access == ACCESS_CHECK || (order->translated && place->access == ACCESS_DEVICE))
			continue;
		const char *target = place->target + 1; /* it begins with "/"; the new root is the current directory */
		if (fstatat(place->tree, "", &status, AT_EMPTY_PATH_))
			fail("'%s'", place->source);
		make_point(target, S_ISDIR(status.st_mode));
		if (syscall(SYS_move_mount, place->tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH_))
			fail("'%s' cannot be mounted in the jail", place->source);
		close(place->tree);
	}
	for (struct link *link = order->links; link < order->links + order->link_count; link++) {
		make_parents(link->name + 1);
		if (symlink(link->target, link->name + 1))
			fail("link '%s' of the jail", link->name);
	}
}

/* For ids of its own, devices are made, not bound: they belong to QEMU's user then, whatever their owners on the host. */
static void make_devices(struct order *order)
{
	struct stat status;

	if (mkdir("dev", 0755) || mount("jail", "dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755,size=64k"))
		fail("/dev of the jail");
	for (struct place *place = order->places; place < order->places + order->place_count; place++) {
		if (place->access != ACCESS_DEVICE)
			continue;
		const char *target = place->target + 1;
		if (stat(place->source, &status))
			fail("device '%s'", place->source);
		if (mknod(target, S_IFCHR | 0600, status.st_rdev) || chown(target, order->first_id, order->first_id))
			fail("device '%s' of the jail", place->target);
	}
	set_attributes(AT_FDCWD, "dev", (struct mount_attributes){.set = MOUNT_ATTR_RDONLY_}, false, "/dev of the jail");
}

/* QEMU's 9p server needs /proc/self/fd. Only processes that QEMU may trace are visible there: its own. */
static void mount_proc(void)
{
	const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;

	if (mkdir("proc", 0555))
		fail("/proc of the jail");
	if (mount("proc", "proc", "proc", flags, "hidepid=ptraceable,subset=pid") && /* Linux 5.8 */
	    mount("proc", "proc", "proc", flags, "hidepid=2"))
		fail("/proc of the jail");
}

void root_enter(struct order *order, int users)
{
	int namespaces = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;

	check_places(order, users);
	if (unshare(namespaces | (order->network ? 0 : CLONE_NEWNET)))
		fail("new namespaces");
	if (sethostname("vm", 2))
		fail("the host name of the jail");
	/* What is mounted on the host later, below a place, appears in the jail; nothing goes the other way. */
	if (mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL))
		fail("the propagation of mounts");
	open_places(order, users);
	if (mount("jail", staging, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0755,size=256k") || chdir(staging))
		fail("the root of the jail");
	mode_t mask = umask(0); /* these are not the files of QEMU's user */
	put_places(order);
	if (order->translated)
		make_devices(order);
	mount_proc();
	umask(mask);
	set_attributes(AT_FDCWD, ".", (struct mount_attributes){.set = MOUNT_ATTR_RDONLY_}, false, "the root of the jail");
	/* pivot_root(2), "pivot_root(".", ".")": the old root ends on top of the new one. */
	if (syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/"))
		fail("the root of the jail");
}
