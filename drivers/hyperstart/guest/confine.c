#include "confine.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	CAPABILITY_VERSION_3 = 0x20080522, /* of linux/capability.h */
	SECCOMP_MODE_FILTER_ = 2,          /* of linux/seccomp.h */
	INSTRUCTION = 8,                   /* bytes of struct sock_filter of linux/filter.h */
};

/* clang-format off */
static const struct {
	const char *name;
	int number;
} resources[] = {
	{"as", RLIMIT_AS},           {"core", RLIMIT_CORE},       {"cpu", RLIMIT_CPU},
	{"data", RLIMIT_DATA},       {"fsize", RLIMIT_FSIZE},     {"locks", RLIMIT_LOCKS},
	{"memlock", RLIMIT_MEMLOCK}, {"msgqueue", RLIMIT_MSGQUEUE}, {"nice", RLIMIT_NICE},
	{"nofile", RLIMIT_NOFILE},   {"nproc", RLIMIT_NPROC},     {"rss", RLIMIT_RSS},
	{"rtprio", RLIMIT_RTPRIO},   {"rttime", RLIMIT_RTTIME},   {"sigpending", RLIMIT_SIGPENDING},
	{"stack", RLIMIT_STACK},
};

/* In the order of their numbers (linux/capability.h), without CAP_. */
static const char *const capabilities[] = {
	"CHOWN",          "DAC_OVERRIDE",  "DAC_READ_SEARCH", "FOWNER",        "FSETID",       "KILL",
	"SETGID",         "SETUID",        "SETPCAP",         "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST",
	"NET_ADMIN",      "NET_RAW",       "IPC_LOCK",        "IPC_OWNER",     "SYS_MODULE",   "SYS_RAWIO",
	"SYS_CHROOT",     "SYS_PTRACE",    "SYS_PACCT",       "SYS_ADMIN",     "SYS_BOOT",     "SYS_NICE",
	"SYS_RESOURCE",   "SYS_TIME",      "SYS_TTY_CONFIG",  "MKNOD",         "LEASE",        "AUDIT_WRITE",
	"AUDIT_CONTROL",  "SETFCAP",       "MAC_OVERRIDE",    "MAC_ADMIN",     "SYSLOG",       "WAKE_ALARM",
	"BLOCK_SUSPEND",  "AUDIT_READ",    "PERFMON",         "BPF",           "CHECKPOINT_RESTORE",
};
/* clang-format on */

bool find_capability(const char *name, uint64_t *capability)
{
	for (*capability = 0; *capability < COUNT(capabilities); ++*capability)
		if (!strncmp(name, "CAP_", 4) && !strcmp(name + 4, capabilities[*capability]))
			return true;
	return fail("there is no capability '%.64s'", name);
}

static bool set_limit(const struct limit *limit)
{
	struct rlimit value = {.rlim_cur = limit->soft, .rlim_max = limit->hard};
	size_t i = 0;

	while (i < COUNT(resources) && strcmp(resources[i].name, limit->name))
		i++;
	if (i == COUNT(resources))
		return fail("there is no resource limit '%.64s'", limit->name);
	return !setrlimit(resources[i].number, &value) || fail("resource limit '%s': %s", limit->name, strerror(errno));
}

static bool drop_from_bounding_set(uint64_t kept)
{
	/* The kernel has fewer than 64, and refuses the first that it does not have with EINVAL. */
	for (int number = 0; number < 64; number++)
		if (!(kept >> number & 1) && prctl(PR_CAPBSET_DROP, number, 0, 0, 0))
			return errno == EINVAL || fail("capabilities: %s", strerror(errno));
	return true;
}

bool confine_calls(const struct filter *filter)
{
	struct {
		unsigned short length;
		const void *instructions;
	} program = {(unsigned short)(filter->length / INSTRUCTION), filter->bytes};

	if (!filter->length || !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER_, &program, 0, 0))
		return true;
	return fail("seccomp: %s", errno == EINVAL ? "the program is not valid" : strerror(errno));
}

bool confine_begin(const struct confinement *bounds, const struct capability_sets *sets, int users)
{
	for (const struct limit *limit = bounds->limits; limit && limit->name; limit++)
		if (!set_limit(limit))
			return false;
	/* Between limits, which need capabilities of the guest, and the bounding set, which the kernel then makes whole. */
	if (users >= 0 && setns(users, CLONE_NEWUSER))
		return fail("user namespace: %s", strerror(errno));
	/* No execve restores what is not in the bounding set. */
	if (!drop_from_bounding_set(sets->given ? sets->bounding : bounds->capabilities))
		return false;
	if (!bounds->no_new_privs && !confine_calls(&bounds->seccomp))
		return false;
	/* So that a user other than root can keep the permitted ones. */
	return !sets->given || !prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) || fail("capabilities: %s", strerror(errno));
}

static bool set_capabilities(uint64_t effective, uint64_t permitted, uint64_t inheritable)
{
	struct {
		uint32_t version;
		int pid;
	} header = {.version = CAPABILITY_VERSION_3};
	struct {
		uint32_t effective, permitted, inheritable;
	} halves[2] = {
		{(uint32_t)effective, (uint32_t)permitted, (uint32_t)inheritable},
		{(uint32_t)(effective >> 32), (uint32_t)(permitted >> 32), (uint32_t)(inheritable >> 32)},
	};

	return !syscall(SYS_capset, &header, halves) || fail("capabilities: %s", strerror(errno));
}

static bool set_ambient(uint64_t ambient)
{
	for (int number = 0; number < 64; number++)
		if (ambient >> number & 1 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0))
			return fail("ambient capabilities: %s", strerror(errno));
	return true;
}

bool confine_end(const struct confinement *bounds, const struct capability_sets *sets, uid_t uid)
{
	/* A user other than root has none already. None stays inheritable: a file that has it would restore it. */
	uint64_t kept = uid ? 0 : bounds->capabilities;
	bool done = true;

	if (sets->given)
		done = set_capabilities(sets->effective, sets->permitted, sets->inheritable) && set_ambient(sets->ambient);
	else if (bounds->capabilities != UINT64_MAX)
		done = set_capabilities(kept, kept, 0);
	return done && (!bounds->no_new_privs || !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	                fail("no new privileges: %s", strerror(errno)));
}
