#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
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
	AT_RECURSIVE_ = 0x8000,
	MOVE_MOUNT_F_EMPTY_PATH_ = 4,
	MOVE_MOUNT_T_EMPTY_PATH_ = 0x40,
};

/* Of linux/sched.h. */
static const uint64_t CLONE_CLEAR_SIGHAND_ = 0x100000000, CLONE_INTO_CGROUP_ = 0x200000000;

static int open_how(int directory, const char *path, int flags, unsigned mode, uint64_t resolve)
{
	struct {
		uint64_t flags, mode, resolve;
	} how = {.flags = (unsigned)flags | O_CLOEXEC, .mode = mode, .resolve = resolve | RESOLVE_NO_MAGICLINKS_};

	return (int)syscall(SYS_openat2, directory, path, &how, sizeof how);
}

int open_path(int directory, const char *path, uint64_t resolve)
{
	return open_how(directory, path, O_PATH, 0, resolve);
}

int open_file(int root, const char *path, int flags, unsigned mode)
{
	return open_how(root, path, flags, flags & O_CREAT ? mode : 0, RESOLVE_IN_ROOT_);
}

/* Create a mount of a new file system that is not attached yet. -1 and errno if that fails. */
static int make_mount(const char *type, const char *const options[][2], size_t count, unsigned attributes)
{
	int context = (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC_);
	int made = -1;
	bool done = true;

	if (context < 0)
		return -1;
	for (size_t i = 0; i < count; i++)
		done = done && !syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING_, options[i][0], options[i][1], 0);
	if (done && !syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE_, NULL, NULL, 0))
		made = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC_, attributes);
	close(context);
	return made;
}

int make_pts(void)
{
	static const char *const options[][2] = {{"mode", "0620"}, {"ptmxmode", "0666"}, {"gid", "5"}};

	return make_mount("devpts", options, COUNT(options), MOUNT_ATTR_NOSUID_ | MOUNT_ATTR_NOEXEC_);
}

int make_tmpfs(uint64_t size, unsigned mode, unsigned attributes)
{
	char room[32], permissions[32];
	const char *const options[][2] = {{"mode", permissions}, {"size", room}};

	snprintf(permissions, sizeof permissions, "%o", mode);
	snprintf(room, sizeof room, "%llu", (unsigned long long)size);
	return make_mount("tmpfs", options, COUNT(options) - !size, attributes | MOUNT_ATTR_NODEV_);
}

static bool set_attribute(int directory, const char *path, uint64_t attribute)
{
	struct {
		uint64_t set, clear, propagation, userns;
	} attributes = {.set = attribute};

	return !syscall(SYS_mount_setattr, directory, path, AT_EMPTY_PATH, &attributes, sizeof attributes);
}

bool make_read_only(const char *path)
{
	return set_attribute(AT_FDCWD, path, MOUNT_ATTR_RDONLY_);
}

bool make_nodev(const char *path)
{
	return set_attribute(AT_FDCWD, path, MOUNT_ATTR_NODEV_);
}

int clone_mount(int file, unsigned attributes)
{
	unsigned flags = OPEN_TREE_CLONE_ | AT_RECURSIVE_ | O_CLOEXEC | AT_EMPTY_PATH;
	int mount = (int)syscall(SYS_open_tree, file, "", flags);

	if (mount >= 0 && attributes && !set_attribute(mount, "", attributes)) {
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

/* Of linux/sched.h, up to the member for the control group. */
struct clone_args {
	uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

_Static_assert(sizeof(struct clone_args) == 88, "CLONE_ARGS_SIZE_VER2 of linux/sched.h");

/* The system call clone3(2). In the child it returns on another stack, where no C function can return to its caller, so
 * the child calls run(data) at once. */
static long clone3(const struct clone_args *arguments, void (*run)(void *), void *data)
{
#if defined(__x86_64__)
	register long result __asm__("rax") = SYS_clone3;

	__asm__ volatile("syscall\n\t"
	                 "test %%rax, %%rax\n\t"
	                 "jnz 1f\n\t"
	                 "xor %%ebp, %%ebp\n\t"
	                 "mov %[data], %%rdi\n\t"
	                 "call *%[run]\n\t"
	                 "ud2\n"
	                 "1:"
	                 : "+r"(result)
	                 : "D"(arguments), "S"(sizeof *arguments), [run] "r"(run), [data] "r"(data)
	                 : "rcx", "r11", "memory");
	return result;
#elif defined(__aarch64__)
	register long number __asm__("x8") = SYS_clone3;
	register long result __asm__("x0") = (long)arguments;
	register size_t size __asm__("x1") = sizeof *arguments;

	__asm__ volatile("svc #0\n\t"
	                 "cbnz x0, 1f\n\t"
	                 "mov x29, xzr\n\t"
	                 "mov x0, %[data]\n\t"
	                 "blr %[run]\n\t"
	                 "brk #0\n"
	                 "1:"
	                 : "+r"(result)
	                 : "r"(number), "r"(size), [run] "r"(run), [data] "r"(data)
	                 : "memory");
	return result;
#else
#error "clone3 is not written for this machine"
#endif
}

pid_t clone_child(uint64_t flags, int cgroup, void *stack, size_t size, void (*run)(void *), void *data)
{
	struct clone_args arguments = {
		.flags = flags | CLONE_CLEAR_SIGHAND_ | (cgroup < 0 ? 0 : CLONE_INTO_CGROUP_),
		.exit_signal = SIGCHLD,
		.stack = (uintptr_t)stack,
		.stack_size = size,
		.cgroup = cgroup < 0 ? 0 : (uint64_t)cgroup,
	};
	long result = clone3(&arguments, run, data);

	if (result < 0)
		errno = (int)-result;
	return result < 0 ? -1 : (pid_t)result;
}
