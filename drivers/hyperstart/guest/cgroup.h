/* The control group of a container: what its processes use together, and how all of them end. */
#ifndef CGROUP_H
#define CGROUP_H

#include "confine.h"

/* A group of processes; `directory` is -1 where the kernel has no control groups (version 2). */
struct cgroup {
	int directory;
	unsigned number; /* its name */
};

/* At boot. */
void cgroup_init(void);

/* Make a group with these bounds. False and `failure` if the kernel cannot bound that. */
bool cgroup_make(struct cgroup *cgroup, const struct confinement *bounds);

/* Kill all in it, whatever they fork meanwhile. False if the kernel cannot. */
bool cgroup_kill(const struct cgroup *cgroup);

/* Kill all in it and remove it. */
void cgroup_remove(struct cgroup *cgroup);

/* Append a JSON object of what its processes use and used; keys whose value the kernel does not tell are left out. */
void cgroup_write_usage(const struct cgroup *cgroup, struct buffer *text);

#endif
