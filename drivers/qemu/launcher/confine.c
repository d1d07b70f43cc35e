#include "confine.h"

#include "kernel.h"
#include "report.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void limit(int resource, unsigned long most, const char *what)
{
	struct rlimit value;

	if (getrlimit(resource, &value))
		fail("%s", what);
	if (value.rlim_max < most) /* only root may raise it */
		most = value.rlim_max;
	value.rlim_cur = value.rlim_max = most;
	if (setrlimit(resource, &value))
		fail("%s", what);
}

void confine_resources(const struct order *order)
{
	/* One byte is too few for any dump in a file, and the one value with which the kernel does not pipe the dump to
	 * a program either (do_coredump in Linux' fs/coredump.c; with zero it does). */
	limit(RLIMIT_CORE, 1, "the limit of core dumps");
	if (order->open_files)
		limit(RLIMIT_NOFILE, order->open_files, "the limit of open files");
	if (order->processes && order->namespaces) /* else the limit counts other processes of the user */
		limit(RLIMIT_NPROC, order->processes, "the limit of processes");
}

void confine_user(const struct order *order, int users)
{
	/* The groups of a user whose ids QEMU has are as good as these ids, and may be what opens /dev/kvm. */
	if (setns(users, CLONE_NEWUSER) || (order->translated && setgroups(0, NULL)) || setresgid(0, 0, 0) ||
	    setresuid(0, 0, 0))
		fail("the user of the jail");
}

void confine_capabilities(const struct order *order)
{
	struct {
		uint32_t version;
		int pid;
	} header = {.version = CAPABILITY_VERSION_3};
	struct {
		uint32_t effective, permitted, inheritable;
	} sets[2];

	/* The kernel refuses those from the first on that it does not have with EINVAL; an ordinary user drops none (EPERM)
	 * and has none. */
	for (int number = 0; number < 64; number++)
		if (!(order->capabilities >> number & 1) && prctl(PR_CAPBSET_DROP, number, 0, 0, 0)) {
			if (errno == EINVAL)
				break;
			if (geteuid() == 0)
				fail("capabilities");
		}
	if (syscall(SYS_capget, &header, sets))
		fail("capabilities");
	for (int half = 0; half < 2; half++) {
		uint32_t kept = (uint32_t)(order->capabilities >> 32 * half);
		sets[half].permitted &= kept;
		sets[half].effective = sets[half].permitted;
		sets[half].inheritable = 0;
	}
	if (syscall(SYS_capset, &header, sets) || prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
		fail("capabilities");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		fail("no_new_privs");
}

/* -- Landlock ------------------------------------------------------------------------------------------------------ */

static void allow(int rules, const char *path, uint64_t allowed)
{
	struct stat status;
	struct landlock_path rule = {.directory = open(path, O_PATH | O_CLOEXEC)};

	if (rule.directory < 0 || fstat(rule.directory, &status))
		missing(path);
	if (!S_ISDIR(status.st_mode)) /* other rights are those of directories, and refused */
		allowed &= LANDLOCK_EXECUTE | LANDLOCK_READ_FILE | LANDLOCK_WRITE_FILE | LANDLOCK_TRUNCATE |
		           LANDLOCK_IOCTL_DEV;
	rule.allowed = allowed;
	if (syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH_, &rule, 0))
		fail("a rule of Landlock for '%s'", path);
	close(rule.directory);
}

static uint64_t rights_of(enum access access)
{
	const uint64_t reading = LANDLOCK_READ_FILE | LANDLOCK_READ_DIR;
	const uint64_t writing = (LANDLOCK_FIRST_VERSION & ~(LANDLOCK_EXECUTE | LANDLOCK_MAKE_CHAR | LANDLOCK_MAKE_BLOCK)) |
	                         LANDLOCK_REFER | LANDLOCK_TRUNCATE;

	switch (access) {
	case ACCESS_PROGRAM:
		return reading | LANDLOCK_EXECUTE;
	case ACCESS_READ:
		return reading;
	case ACCESS_WRITE:
		return writing;
	case ACCESS_DEVICE:
		return LANDLOCK_READ_FILE | LANDLOCK_WRITE_FILE | LANDLOCK_IOCTL_DEV;
	case ACCESS_CHECK:
		break;
	}
	return 0;
}

void confine_files(const struct order *order)
{
	int version = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION_);

	if (version < 1) {
		note("Landlock: %s", strerror(errno));
		return;
	}
	struct landlock_rules rules = {.files = LANDLOCK_FIRST_VERSION};
	size_t size = sizeof rules.files;
	if (version >= 2)
		rules.files |= LANDLOCK_REFER;
	if (version >= 3)
		rules.files |= LANDLOCK_TRUNCATE;
	if (version >= 5)
		rules.files |= LANDLOCK_IOCTL_DEV;
	if (version >= 4) {
		size = offsetof(struct landlock_rules, scopes);
		if (!order->network)
			rules.network = LANDLOCK_NET_BIND_TCP | LANDLOCK_NET_CONNECT_TCP;
	}
	if (version >= 6) {
		size = sizeof rules;
		rules.scopes = LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET_ | LANDLOCK_SCOPE_SIGNAL_;
	}
	int made = (int)syscall(SYS_landlock_create_ruleset, &rules, size, 0);
	if (made < 0)
		fail("the rules of Landlock");
	for (const struct place *place = order->places; place < order->places + order->place_count; place++)
		if (place->access != ACCESS_CHECK)
			allow(made, order->namespaces ? place->target : place->source,
			      rights_of(place->access) & rules.files);
	allow(made, "/proc", LANDLOCK_READ_FILE | LANDLOCK_READ_DIR);
	if (syscall(SYS_landlock_restrict_self, made, 0))
		fail("Landlock");
	close(made);
}

/* -- system calls -------------------------------------------------------------------------------------------------- */

/* linux/audit.h: the architecture whose numbers the filter has; calls of another one end the process. */
#if defined(__x86_64__)
enum { ARCHITECTURE = 0xc000003e, FOREIGN = 0x40000000 }; /* and the bit of x32 (asm/unistd.h) */
#elif defined(__aarch64__)
enum { ARCHITECTURE = 0xc00000b7, FOREIGN = INT32_MAX };
#else
#error "the filter of system calls is not written for this architecture"
#endif

/* QEMU needs none of these, with what this driver lets it do, and its own -sandbox allows them. */
static const int refused[] = {
	/* other processes and their descriptors */
	SYS_ptrace,
	SYS_process_vm_readv,
	SYS_process_vm_writev,
	SYS_pidfd_getfd,
	SYS_kcmp,
	SYS_process_madvise,
	/* the kernel itself */
	SYS_init_module,
	SYS_finit_module,
	SYS_delete_module,
	SYS_kexec_load,
	SYS_bpf,
	SYS_perf_event_open,
	SYS_syslog,
	SYS_reboot,
	SYS_swapon,
	SYS_swapoff,
	SYS_acct,
	SYS_settimeofday,
	SYS_clock_settime,
	SYS_adjtimex,
	SYS_clock_adjtime,
	SYS_quotactl,
	SYS_lookup_dcookie,
	SYS_nfsservctl,
#if defined(__x86_64__)
	SYS_iopl,
	SYS_ioperm,
	SYS_modify_ldt,
	SYS_kexec_file_load,
	SYS_uselib,
	SYS_ustat,
	SYS_sysfs,
	SYS__sysctl,
#endif
	/* mounts and namespaces */
	SYS_mount,
	SYS_umount2,
	SYS_pivot_root,
	SYS_chroot,
	SYS_open_tree,
	SYS_move_mount,
	SYS_fsopen,
	SYS_fsconfig,
	SYS_fsmount,
	SYS_fspick,
	SYS_mount_setattr,
	SYS_unshare,
	SYS_setns,
	/* files without a path, and requests without a call */
	SYS_name_to_handle_at,
	SYS_open_by_handle_at,
	SYS_fanotify_init,
	SYS_io_uring_setup,
	SYS_io_uring_enter,
	SYS_io_uring_register,
	/* parts of the kernel that no guest needs and that had many holes */
	SYS_add_key,
	SYS_request_key,
	SYS_keyctl,
	SYS_userfaultfd,
	SYS_personality,
	SYS_vhangup,
	SYS_sethostname,
	SYS_setdomainname,
	SYS_mq_open,
	SYS_mq_unlink,
};

/* Calls that give a file a mode, and which argument that is. QEMU keeps a guest's set-user-id and set-group-id bits in
 * extended attributes: on the host no file may get them, because with a writable share it would be root's. */
static const struct {
	int number, argument;
} modes[] = {
	{SYS_fchmod, 1}, {SYS_fchmodat, 2}, {452 /* fchmodat2 */, 2}, {SYS_openat, 3}, {SYS_mknodat, 2}, {SYS_mkdirat, 2},
#if defined(__x86_64__)
	{SYS_chmod, 1},  {SYS_open, 2},     {SYS_creat, 1},           {SYS_mknod, 1},  {SYS_mkdir, 1},
#endif
};

/* Their arguments are behind pointers, where no filter sees them. For libc they do not exist in older kernels, so it goes
 * on with clone and openat. */
static const int absent[] = {SYS_clone3, SYS_openat2};

/* linux/bpf_common.h */
enum { LOAD = 0x20, IF_EQUAL = 0x15, IF_AT_LEAST = 0x35, IF_BIT = 0x45, RETURN = 0x06 };
/* linux/seccomp.h: allow, fail with an errno, end the process */
enum { ALLOW = 0x7fff0000, ERRNO = 0x00050000 };
static const uint32_t end_process = 0x80000000;

struct filter {
	struct filter_instruction instructions[400];
	size_t length;
};

static void add(struct filter *filter, uint16_t code, uint8_t if_true, uint8_t if_false, uint32_t value)
{
	filter->instructions[filter->length++] = (struct filter_instruction){code, if_true, if_false, value};
}

/* Go on with the next instruction if the call is this one, else skip some. */
static void for_call(struct filter *filter, int number, uint8_t skipped)
{
	add(filter, IF_EQUAL, 0, skipped, (uint32_t)number);
}

static void load_argument(struct filter *filter, int argument)
{
	size_t low_half = BYTE_ORDER == BIG_ENDIAN ? 4 : 0;

	add(filter, LOAD, 0, 0, (uint32_t)(offsetof(struct filter_data, arguments) + 8 * argument + low_half));
}

static void give(struct filter *filter, uint32_t action)
{
	add(filter, RETURN, 0, 0, action);
}

/* Refuse a call if one of the bits is set in an argument. */
static void refuse_bits(struct filter *filter, int number, int argument, uint32_t bits)
{
	for_call(filter, number, 4);
	load_argument(filter, argument);
	add(filter, IF_BIT, 0, 1, bits);
	give(filter, ERRNO | EPERM);
	give(filter, ALLOW);
}

void confine_calls(void)
{
	const uint32_t namespaces =
		CLONE_NEWNS | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;
	struct filter filter = {.length = 0};

	add(&filter, LOAD, 0, 0, offsetof(struct filter_data, architecture));
	add(&filter, IF_EQUAL, 1, 0, ARCHITECTURE);
	give(&filter, end_process);
	add(&filter, LOAD, 0, 0, offsetof(struct filter_data, number));
	add(&filter, IF_AT_LEAST, 0, 1, FOREIGN);
	give(&filter, end_process);
	for (size_t i = 0; i < COUNT(refused); i++) {
		for_call(&filter, refused[i], 1);
		give(&filter, ERRNO | EPERM);
	}
	for (size_t i = 0; i < COUNT(absent); i++) {
		for_call(&filter, absent[i], 1);
		give(&filter, ERRNO | ENOSYS);
	}
	for (size_t i = 0; i < COUNT(modes); i++)
		refuse_bits(&filter, modes[i].number, modes[i].argument, S_ISUID | S_ISGID);
	refuse_bits(&filter, SYS_clone, 0, namespaces);
	/* Typing on a terminal (asm/ioctls.h). */
	for_call(&filter, SYS_ioctl, 4);
	load_argument(&filter, 1);
	add(&filter, IF_EQUAL, 1, 0, TIOCSTI);
	add(&filter, IF_EQUAL, 0, 1, TIOCLINUX);
	give(&filter, ERRNO | EPERM);
	give(&filter, ALLOW);
	struct filter_program program = {(unsigned short)filter.length, filter.instructions};
	if (syscall(SYS_seccomp, 1 /* SECCOMP_SET_MODE_FILTER */, 0, &program))
		fail("the filter of system calls");
}

void confine_descriptors(const struct order *order)
{
	if (syscall(SYS_close_range, 3, ~0U, 4 /* CLOSE_RANGE_CLOEXEC */)) /* not before Linux 5.11 */
		for (int fd = 3; fd < 4096; fd++)
			fcntl(fd, F_SETFD, FD_CLOEXEC);
	for (size_t i = 0; i < order->inherited_count; i++)
		if (fcntl(order->inherited[i], F_SETFD, 0))
			fail("descriptor %d", order->inherited[i]);
}
