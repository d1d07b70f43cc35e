#include "kernel.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Of linux/mount.h. */
enum {
	FSOPEN_CLOEXEC_ = 1,
	FSCONFIG_SET_STRING_ = 1,
	FSCONFIG_CMD_CREATE_ = 6,
	FSMOUNT_CLOEXEC_ = 1,
	OPEN_TREE_CLONE_ = 1,
	MOVE_MOUNT_F_EMPTY_PATH_ = 4,
	MOVE_MOUNT_T_EMPTY_PATH_ = 0x40,
	MOUNT_ATTR_RDONLY_ = 1,
};

int open_path(int directory, const char *path, uint64_t resolve)
{
	struct {
		uint64_t flags, mode, resolve;
	} how = {.flags = O_PATH | O_CLOEXEC, .resolve = resolve | RESOLVE_NO_MAGICLINKS_};

	return (int)syscall(SYS_openat2, directory, path, &how, sizeof how);
}

int make_pts(void)
{
	static const char *const options[][2] = {{"mode", "0620"}, {"ptmxmode", "0666"}, {"gid", "5"}};
	int context = (int)syscall(SYS_fsopen, "devpts", FSOPEN_CLOEXEC_);
	int pts = -1;

	if (context < 0)
		return -1;
	for (size_t i = 0; i < COUNT(options); i++)
		syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING_, options[i][0], options[i][1], 0);
	if (!syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE_, NULL, NULL, 0))
		pts = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC_, MS_NOSUID | MS_NOEXEC);
	close(context);
	return pts;
}

int clone_mount(int file, bool read_only)
{
	struct {
		uint64_t set, clear, propagation, userns;
	} attributes = {.set = MOUNT_ATTR_RDONLY_};
	int mount = (int)syscall(SYS_open_tree, file, "", OPEN_TREE_CLONE_ | O_CLOEXEC | AT_EMPTY_PATH);

	if (mount >= 0 && read_only &&
	    syscall(SYS_mount_setattr, mount, "", AT_EMPTY_PATH, &attributes, sizeof attributes)) {
		close(mount);
		return -1;
	}
	return mount;
}

bool attach_mount(int mount, int directory, const char *path)
{
	unsigned flags = MOVE_MOUNT_F_EMPTY_PATH_ | (*path ? 0 : MOVE_MOUNT_T_EMPTY_PATH_);

	return !syscall(SYS_move_mount, mount, "", directory, path, flags);
}
