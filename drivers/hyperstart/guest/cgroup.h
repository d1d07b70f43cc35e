/* The control group of a container: bounds and accounts what its processes use together, and kills all of them. */
#ifndef CGROUP_H
#define CGROUP_H

#include "confine.h"

/* A group of processes; `directory` is -1 where the kernel has no control groups (version 2). */
struct cgroup {
	int directory;
	unsigned number; /* its name */
};

/* Called once at boot: mount the control groups and enable their controllers. */
void cgroup_init(void);

/* Create the group of the next container, if there is not one already. */
void cgroup_prepare(void);

/* Create a group with these bounds. False and `failure` if the kernel cannot enforce them. */
bool cgroup_make(struct cgroup *cgroup, const struct confinement *bounds);

/* Change the bounds of a group: memory in MiB, number of processes and threads, thousandths of a processor. 0: no bound;
 * UINT64_MAX: as it is. False and `failure` if the kernel cannot enforce one; those before it have changed. */
bool cgroup_bound(const struct cgroup *cgroup, uint64_t memory, uint64_t pids, uint64_t cpus);

/* Suspend all processes of the group, or let them go on. Suspending waits up to 1 s for all. False and `failure` if that
 * fails; then they go on. */
bool cgroup_freeze(const struct cgroup *cgroup, bool frozen);

/* Kill all processes of the group, including those that they fork at the same time. False if the kernel cannot. */
bool cgroup_kill(const struct cgroup *cgroup);

/* Kill all processes of the group, wait up to 1 s for their end, and remove it. */
void cgroup_remove(struct cgroup *cgroup);

/* Append a JSON object of what its processes use and have used. Keys whose value the kernel does not report are omitted. */
void cgroup_write_usage(const struct cgroup *cgroup, struct buffer *text);

#endif
