/* Confines a container's processes: resource limits, capabilities, and no new privileges by execve. */
#ifndef CONFINE_H
#define CONFINE_H

#include "util.h"

#include <sys/types.h>

enum { CAP_SYS_ADMIN_ = 21 };

/* A limit of each process; UINT64_MAX for none. */
struct limit {
	const char *name; /* such as "nofile" */
	uint64_t soft, hard;
};

/* A program that decides about each system call, as seccomp(2) takes it. */
struct filter {
	const uint8_t *bytes;
	size_t length; /* 0: no program */
};

struct confinement {
	struct filter seccomp;
	bool read_only;         /* the root */
	uint64_t memory, pids;  /* MiB, and number of processes and threads, of all together; 0: no bound */
	uint64_t cpus;          /* thousandths of a processor, of all together; 0: no bound */
	struct limit *limits;   /* ends with a NULL name */
	uint64_t capabilities;  /* a bit for each; all bits: no bound */
	bool no_new_privs;
	bool isolated;          /* namespaces of process numbers, IPC and users of its own */
	bool own_pids;          /* a namespace of process numbers of its own, in which its first process is pid 1 */
};

/* Find the number of a capability by a name such as "CAP_CHOWN". False and `failure` if there is none. */
bool find_capability(const char *name, uint64_t *capability);

/* The sets of capabilities of a process (capabilities(7)); a bit for each. */
struct capability_sets {
	bool given;
	uint64_t bounding, effective, permitted, inheritable, ambient;
};

/* Called in a child before its execve: confine_begin while it is still root with all capabilities, confine_end after it has
 * become the user `uid`. `sets` take the place of the capabilities of `bounds`, if they are given. `users`: the user
 * namespace to enter, or -1. False and `failure` if that fails. */
bool confine_begin(const struct confinement *bounds, const struct capability_sets *sets, int users);
/* Called last, after which each system call is filtered; confine_begin does so if there is no `no_new_privs`, because that
 * needs a capability. False and `failure` if that fails. */
bool confine_calls(const struct filter *filter);

bool confine_end(const struct confinement *bounds, const struct capability_sets *sets, uid_t uid);

#endif
