#include "cgroup.h"

#include "json.h"
#include "phase.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/* The mount point of the control groups; no container has it in its root. */
#define CGROUPS "/run/vc/cgroup"

enum {
	END_GRACE = 1000, /* milliseconds to wait for a group to become empty or frozen */
	FILE_MAX = 65536, /* the longest file of a group has a line of some 100 bytes for each disk */
};

/* Read a file of a group. "" and false if it does not exist, cannot be read, or has FILE_MAX bytes or more. */
static bool read_value(int directory, const char *name, char text[FILE_MAX])
{
	int fd = openat(directory, name, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : read(fd, text, FILE_MAX);
	bool whole = length >= 0 && length < FILE_MAX;

	text[whole ? length : 0] = 0;
	if (fd >= 0)
		close(fd);
	return whole;
}

static bool write_value(int directory, const char *name, const char *text)
{
	int fd = openat(directory, name, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return done;
}

void cgroup_init(void)
{
	static const char *const wanted[] = {"memory", "pids", "io", "cpu"};
	int64_t begun = phase_clock();
	char present[FILE_MAX], enable[64] = "", *rest = present;

	/* nsdelegate: a container can create a cgroup namespace of its own; in it, it must not lift its bounds. */
	if (mkdir(CGROUPS, 0755) || mount("cgroup", CGROUPS, "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, "nsdelegate")) {
		console("guest agent: no control groups: %s", strerror(errno));
		rmdir(CGROUPS);
		return;
	}
	read_value(AT_FDCWD, CGROUPS "/cgroup.controllers", present);
	for (char *word; (word = strtok_r(rest, " \n", &rest));)
		for (size_t i = 0; i < COUNT(wanted); i++)
			if (!strcmp(word, wanted[i]))
				snprintf(enable + strlen(enable), sizeof enable - strlen(enable), "+%s ", word);
	/* In one write: the kernel synchronizes all processors for each. */
	if (!write_value(AT_FDCWD, CGROUPS "/cgroup.subtree_control", enable))
		console("guest agent: control groups '%s': %s", enable, strerror(errno));
	phase_end("prepare control groups", begun);
}

static void name_of(const struct cgroup *cgroup, char path[64])
{
	snprintf(path, 64, CGROUPS "/%u", cgroup->number);
}

/* Write a bound, which is `value` times `unit` and what follows it; nothing if it stays as it is. */
static bool set_bound(const struct cgroup *cgroup, const char *file, uint64_t value, uint64_t unit, const char *rest)
{
	char text[64];

	if (value == UINT64_MAX)
		return true;
	if (value > UINT64_MAX / unit)
		return fail("%s: %llu is too much", file, (unsigned long long)value);
	if (value)
		snprintf(text, sizeof text, "%llu%s", (unsigned long long)(value * unit), rest);
	else
		snprintf(text, sizeof text, "max%s", rest);
	return write_value(cgroup->directory, file, text) ||
	       fail("the guest's kernel cannot bound %s: %s", file, strerror(errno));
}

bool cgroup_bound(const struct cgroup *cgroup, uint64_t memory, uint64_t pids, uint64_t cpus)
{
	enum { MIB = 1 << 20, QUOTA = 100 }; /* microseconds of 100000 for a thousandth of a processor */

	if (cgroup->directory < 0)
		return fail("the guest's kernel has no control groups, which bound 'memory', 'pids' and 'cpus'");
	return set_bound(cgroup, "memory.max", memory, MIB, "") && set_bound(cgroup, "pids.max", pids, 1, "") &&
	       set_bound(cgroup, "cpu.max", cpus, QUOTA, " 100000");
}

static bool make_empty(struct cgroup *cgroup)
{
	static unsigned made;
	char path[64];

	*cgroup = (struct cgroup){.directory = -1, .number = ++made};
	name_of(cgroup, path);
	if (!mkdir(path, 0755))
		cgroup->directory = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	else if (errno != ENOENT) /* the kernel has control groups, but creates no further one */
		return fail("control group: %s", strerror(errno));
	return true;
}

/* A group without processes and bounds. */
static struct cgroup spare = {.directory = -1};

void cgroup_prepare(void)
{
	if (spare.directory < 0)
		make_empty(&spare); /* if it fails, cgroup_make tries it again */
}

/* A new group has no bounds, so only those that are given are written. */
static uint64_t given(uint64_t bound)
{
	return bound ? bound : UINT64_MAX;
}

bool cgroup_make(struct cgroup *cgroup, const struct confinement *bounds)
{
	if (spare.directory >= 0) {
		*cgroup = spare;
		spare.directory = -1;
	} else if (!make_empty(cgroup)) {
		return false;
	}
	if (!(bounds->memory || bounds->pids || bounds->cpus) ||
	    cgroup_bound(cgroup, given(bounds->memory), given(bounds->pids), given(bounds->cpus)))
		return true;
	cgroup_remove(cgroup);
	return false;
}

bool cgroup_kill(const struct cgroup *cgroup)
{
	return cgroup->directory >= 0 && write_value(cgroup->directory, "cgroup.kill", "1");
}

/* Wait until the group's events have a line, such as "populated 0" when its last process has ended, at most END_GRACE. */
static bool await_event(const struct cgroup *cgroup, const char *line)
{
	int64_t deadline = milliseconds() + END_GRACE;
	struct pollfd events = {.fd = openat(cgroup->directory, "cgroup.events", O_RDONLY | O_CLOEXEC), .events = POLLPRI};
	char text[256];
	bool found = false;

	while (events.fd >= 0 && !found) {
		ssize_t length = pread(events.fd, text, sizeof text - 1, 0);
		int64_t left = deadline - milliseconds();

		text[MAX(length, 0)] = 0;
		found = strstr(text, line);
		if (!found && (left <= 0 || poll(&events, 1, (int)left) == 0))
			break;
	}
	if (events.fd >= 0)
		close(events.fd);
	return found;
}

bool cgroup_freeze(const struct cgroup *cgroup, bool frozen)
{
	if (cgroup->directory < 0)
		return fail("the guest's kernel has no control groups, which suspend processes");
	if (!write_value(cgroup->directory, "cgroup.freeze", frozen ? "1" : "0"))
		return fail("cgroup.freeze: %s", strerror(errno));
	if (!frozen || await_event(cgroup, "frozen 1"))
		return true;
	write_value(cgroup->directory, "cgroup.freeze", "0");
	return fail("a process of the container waits for a device and cannot be suspended");
}

void cgroup_remove(struct cgroup *cgroup)
{
	char path[64];

	if (cgroup->directory < 0)
		return;
	cgroup_kill(cgroup);
	await_event(cgroup, "populated 0");
	name_of(cgroup, path);
	if (rmdir(path))
		console("guest agent: control group %u: %s", cgroup->number, strerror(errno));
	close(cgroup->directory);
	cgroup->directory = -1;
}

/* Add up all numbers that follow `key` in a file; if `key` is empty, take its first number. False if the file cannot be
 * read or has "max" in the place of a number. */
static bool find_numbers(const struct cgroup *cgroup, const char *file, const char *key, uint64_t *sum)
{
	char text[FILE_MAX];

	*sum = 0;
	if (!read_value(cgroup->directory, file, text))
		return false;
	for (const char *at = text; (at = strstr(at, key));) {
		at += strlen(key);
		if (*at < '0' || *at > '9')
			return false; /* "max": no bound */
		*sum += strtoull(at, NULL, 10);
		if (!*key)
			break;
	}
	return true;
}

void cgroup_write_usage(const struct cgroup *cgroup, struct buffer *text)
{
	static const struct {
		const char *name, *file, *key;
		unsigned unit;
	} figures[] = {
		/* clang-format off */
		{"cpu", "cpu.stat", "usage_usec ", 1000},
		{"memory", "memory.current", "", 1},
		{"memoryLimit", "memory.max", "", 1},
		{"pids", "pids.current", "", 1},
		{"read", "io.stat", "rbytes=", 1},
		{"written", "io.stat", "wbytes=", 1},
		{"memoryInactive", "memory.stat", "\ninactive_file ", 1},
		{"memoryCache", "memory.stat", "\nfile ", 1},
		{"oomKills", "memory.events", "\noom_kill ", 1},
		/* clang-format on */
	};
	const char *separator = "{";
	uint64_t value;

	for (size_t i = 0; i < COUNT(figures); i++) {
		if (!find_numbers(cgroup, figures[i].file, figures[i].key, &value))
			continue;
		json_write(text, "%s\"%s\":%llu", separator, figures[i].name,
		           (unsigned long long)(value * figures[i].unit));
		separator = ",";
	}
	json_write(text, *separator == '{' ? "{}" : "}");
}
