#include "launch.h"

#include "root.h"
#include "users.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* Exit codes of a process that could not start, as shells have them; 125 is the container's own. */
enum { NOT_SET_UP = 125, NOT_EXECUTABLE = 126, NOT_FOUND = 127 };

enum {
	GROUPS_MAX = 256,
	FILES_SOFT = 1024, /* what programs that use select() can bear */
	FILES_HARD = 65536,
};

static void reset_signals(void)
{
	sigset_t none;

	signal(SIGPIPE, SIG_DFL); /* execve itself resets what is handled */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Close all but 0 to 2 and three that execve closes: processes of the container see this one already. */
static void close_others(int a, int b, int c)
{
	unsigned from = 3;

	for (int i = 0; i < 3; i++) {
		unsigned keep = ~0U; /* the lowest that is left */
		unsigned each[] = {(unsigned)a, (unsigned)b, (unsigned)c};

		for (size_t k = 0; k < COUNT(each); k++)
			if (each[k] >= from && each[k] < keep)
				keep = each[k];
		if (keep == ~0U)
			break;
		if (keep > from)
			syscall(SYS_close_range, from, keep - 1, 0);
		from = keep + 1;
	}
	syscall(SYS_close_range, from, ~0U, 0);
}

static void take_streams(const struct launch *launch, const int stdio[3])
{
	setsid();
	for (int i = 0; i < 3; i++)
		dup2(stdio[i], i);
	close_others(launch->report, launch->container->mounts, launch->container->pts);
	if (launch->spec->terminal)
		ioctl(0, TIOCSCTTY, 0);
}

static bool set_variables(const struct variable *variable)
{
	for (; variable && variable->name; variable++)
		if (setenv(variable->name, variable->value, 1))
			return fail_process(NOT_SET_UP, "environment variable '%s': %s", variable->name,
			                    strerror(errno));
	return true;
}

static bool set_environment(const struct launch *launch, const struct user *user)
{
	char hostname[HOST_NAME_MAX + 1] = "";

	gethostname(hostname, sizeof hostname - 1);
	clearenv();
	setenv("PATH", DEFAULT_PATH, 1);
	setenv("HOSTNAME", hostname, 1);
	setenv("HOME", user->home, 1);
	if (user->listed)
		setenv("USER", user->name, 1);
	if (launch->spec->terminal)
		setenv("TERM", "xterm", 1);
	return (launch->init || set_variables(launch->container->spec.process.envs)) && set_variables(launch->spec->envs);
}

/* Find the user, if one is named, and all groups. */
static bool find_identity(const struct process_spec *spec, struct user *user, gid_t *groups, size_t *count)
{
	*user = (struct user){.home = "/root"};
	*count = 0;
	if (*spec->user) {
		if (!find_user(spec->user, extended, user))
			return false;
		*count = groups_of_user(user, groups, GROUPS_MAX);
	} else if (!extended && (*spec->group || (spec->groups && *spec->groups))) {
		return fail_process(NOT_SET_UP, "groups are given without a user");
	}
	if (*spec->group && !find_group(spec->group, extended, &user->gid))
		return false;
	for (const char **name = spec->groups; name && *name && *count < GROUPS_MAX; name++)
		if (!find_group(*name, extended, &groups[(*count)++]))
			return false;
	return true;
}

static bool set_identity(const struct user *user, const gid_t *groups, size_t count)
{
	if (setgroups(count, groups) || setgid(user->gid) || setuid(user->uid))
		return fail_process(NOT_SET_UP, "user %u: %s", (unsigned)user->uid, strerror(errno));
	return true;
}

static bool set_workdir(const struct launch *launch)
{
	const char *path = launch->spec->workdir;

	if (!*path)
		path = launch->container->spec.process.workdir;
	if (!*path)
		path = "/";
	return !chdir(path) || fail_process(NOT_SET_UP, "working directory '%s': %s", path, strerror(errno));
}

/* Why execve of an existing path failed, in words. */
static bool explain(const char *path, int error)
{
	struct stat what;

	if (error == ENOENT && !stat(path, &what))
		return fail_process(NOT_FOUND, "%s: the interpreter it needs is not in the container", path);
	if (error == ENOENT || error == ENOTDIR)
		return fail_process(NOT_FOUND, "%s: %s", path, strerror(error));
	if (error == EACCES && !stat(path, &what) && S_ISDIR(what.st_mode))
		return fail_process(NOT_EXECUTABLE, "%s: is a directory", path);
	if (error == EACCES)
		return fail_process(NOT_EXECUTABLE, "%s: permission denied, is it executable?", path);
	if (error == ENOEXEC)
		return fail_process(NOT_EXECUTABLE, "%s: not a program of this machine, nor a script with a #! line", path);
	return fail_process(NOT_EXECUTABLE, "%s: %s", path, strerror(error));
}

/* Like execvp, but it tells apart what its callers must. */
static bool execute(char **args)
{
	char path[PATH_MAX], denied[PATH_MAX] = "";
	const char *rest = getenv("PATH");

	if (strchr(args[0], '/')) {
		execve(args[0], args, environ);
		return explain(args[0], errno);
	}
	while (*args[0] && rest && *rest) {
		size_t length = strcspn(rest, ":");

		snprintf(path, sizeof path, "%.*s%s%s", (int)length, rest, length ? "/" : "./", args[0]);
		rest += length + (rest[length] == ':');
		if (access(path, F_OK))
			continue; /* an execve that fails takes five times as long */
		execve(path, args, environ);
		if (errno != EACCES)
			return explain(path, errno);
		if (!*denied)
			strcpy(denied, path);
	}
	if (*denied)
		return explain(denied, EACCES);
	return fail_process(NOT_FOUND, "%s: command not found in the container", args[0]);
}

static bool become(const struct launch *launch)
{
	struct rlimit files = {FILES_SOFT, FILES_HARD};
	struct user user;
	gid_t groups[GROUPS_MAX];
	size_t count;

	setrlimit(RLIMIT_NOFILE, &files);
	if (launch->init ? !root_make(&launch->container->spec, launch->container->pts) : !container_enter(launch->container))
		return false;
	return find_identity(launch->spec, &user, groups, &count) && set_environment(launch, &user) &&
	       set_identity(&user, groups, count) && set_workdir(launch) && execute((char **)launch->spec->args);
}

void launch_process(const struct launch *launch, const int stdio[3])
{
	reset_signals();
	take_streams(launch, stdio);
	become(launch);
	/* An original agent says that the process runs, and then lets it end. */
	if (!extended && failure.stage == STAGE_PROCESS)
		dprintf(2, "%s\n", failure.reason);
	else if (write(launch->report, &failure, sizeof failure) < 0)
		_exit(NOT_SET_UP);
	_exit(failure.exit_code ? failure.exit_code : NOT_SET_UP);
}
