#include "launch.h"

#include "dialect.h"
#include "kernel.h"
#include "namespaces.h"
#include "pack.h"
#include "root.h"
#include "unpack.h"
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
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* Exit codes of a process that could not start: 126 and 127 as in a shell, 125 for a failure of its container. */
enum { NOT_SET_UP = 125, NOT_EXECUTABLE = 126, NOT_FOUND = 127 };

enum {
	REPORT = 3, /* descriptors in the child: of the report, and of an isolated container's user namespace */
	USERS = 4,
	GROUPS_MAX = 256,
	FILES_SOFT = 1024, /* select(2) is limited to 1024 descriptors */
	FILES_HARD = 65536,
};

/* The arguments of the child. It may share the agent's memory, see `spawn`; then it allocates none, and leaves all data
 * of the agent in a valid state. */
struct launch {
	const struct container *container;
	const struct process_spec *spec;
	bool init;
	const int *stdio;
	int report; /* -1: the child shares the agent's memory */
	int users;  /* -1: the container is not isolated */
	bool filtered; /* its system calls must still be filtered */
	bool failed; /* then `failure` has the reason */
	char **environment; /* room for all variables */
	struct user user;
	char hostname[HOST_NAME_MAX + 16], home[300], name[80]; /* variables */
};

/* The kernel has reset the signals that the agent handles (see clone_child); what it ignores an execve would keep. */
static void reset_signals(void)
{
	sigset_t none;

	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void take_streams(const struct launch *launch)
{
	setsid();
	for (int i = 0; i < 3; i++)
		dup2(launch->stdio[i], i);
	if (launch->spec->terminal)
		ioctl(0, TIOCSCTTY, 0);
}

/* Find the place of a variable in the environment: that of a variable of this name, or the end. */
static char **find_variable(char **variable, const char *name, size_t length)
{
	while (*variable && (strncmp(*variable, name, length) || (*variable)[length] != '='))
		variable++;
	return variable;
}

static void set_variable(const struct launch *launch, char *text)
{
	*find_variable(launch->environment, text, strcspn(text, "=")) = text;
}

static bool set_variables(const struct launch *launch, const struct variable *variable)
{
	for (; variable && variable->name; variable++) {
		if (strchr(variable->name, '='))
			return fail_process(NOT_SET_UP, "environment variable '%s': %s", variable->name, strerror(EINVAL));
		set_variable(launch, variable->text);
	}
	return true;
}

static bool set_environment(struct launch *launch)
{
	static const char hostname[] = "HOSTNAME=";

	strcpy(launch->hostname, hostname);
	gethostname(launch->hostname + sizeof hostname - 1, HOST_NAME_MAX + 1);
	snprintf(launch->home, sizeof launch->home, "HOME=%s", launch->user.home);
	snprintf(launch->name, sizeof launch->name, "USER=%s", launch->user.name);
	set_variable(launch, "PATH=" DEFAULT_PATH);
	set_variable(launch, launch->hostname);
	set_variable(launch, launch->home);
	if (launch->user.listed)
		set_variable(launch, launch->name);
	if (launch->spec->terminal)
		set_variable(launch, "TERM=xterm");
	return (launch->init || version_is_later || set_variables(launch, launch->container->spec.process.envs)) &&
	       set_variables(launch, launch->spec->envs);
}

static bool names_someone(const struct process_spec *spec)
{
	return *spec->user || *spec->group || (spec->groups && *spec->groups);
}

/* Find the user, if one is named, and all groups. */
static bool find_identity(const struct process_spec *spec, struct user *user, gid_t *groups, size_t *count)
{
	*count = 0;
	if (*spec->user) {
		if (!find_user(spec->user, extended || version_is_later, user))
			return false;
		*count = spec->exact_groups ? 0 : groups_of_user(user, groups, GROUPS_MAX);
		if (*count > GROUPS_MAX)
			return fail_process(NOT_SET_UP, "user '%s' is in more than %d groups", spec->user, GROUPS_MAX);
	} else if (!extended && !version_is_later && (*spec->group || (spec->groups && *spec->groups))) {
		return fail_process(NOT_SET_UP, "groups are given without a user");
	}
	if (*spec->group && !find_group(spec->group, extended || version_is_later, &user->gid))
		return false;
	for (const char **name = spec->groups; name && *name; name++) {
		if (*count == GROUPS_MAX)
			return fail_process(NOT_SET_UP, "the process has more than %d groups", GROUPS_MAX);
		if (!find_group(*name, extended || version_is_later, &groups[(*count)++]))
			return false;
	}
	return true;
}

/* Let a user open its own streams anew, as by /dev/stderr. They are pipes, or a terminal, that only this process has. */
static void give_streams(const struct user *user)
{
	for (int fd = 0; user->uid && fd < 3; fd++)
		if (fchown(fd, user->uid, (gid_t)-1))
			return; /* it can use them as they are */
}

/* Become the user, confined to the container's bounds. Until then the child is root without supplementary groups. */
static bool set_identity(struct launch *launch)
{
	const struct process_spec *spec = launch->spec;
	struct confinement bounds = launch->container->spec.bounds;
	const struct user *user = &launch->user;
	bool named = names_someone(spec);
	gid_t groups[GROUPS_MAX];
	size_t count;

	if (named && !find_identity(spec, &launch->user, groups, &count))
		return false;
	if (spec->limits)
		bounds.limits = spec->limits;
	if (spec->no_new_privs != UNSET)
		bounds.no_new_privs = spec->no_new_privs == YES;
	launch->filtered = bounds.no_new_privs;
	if (*spec->archive)
		bounds.seccomp.length = 0; /* it runs the agent's own code, not the container's */
	give_streams(user);
	if (!confine_begin(&bounds, &spec->sets, launch->users))
		return false;
	if (named && (setgroups(count, groups) || setgid(user->gid) || setuid(user->uid)))
		return fail_process(NOT_SET_UP, "user %u: %s", (unsigned)user->uid, strerror(errno));
	if (spec->umask != UINT64_MAX)
		umask((mode_t)spec->umask);
	return confine_end(&bounds, &spec->sets, user->uid);
}

static bool set_workdir(const struct launch *launch)
{
	const char *path = launch->spec->workdir;

	if (!*path && !version_is_later) /* in versions 4243 and 4244 an exec inherits nothing */
		path = launch->container->spec.process.workdir;
	if (!*path)
		path = "/";
	return !chdir(path) || fail_process(NOT_SET_UP, "working directory '%s': %s", path, strerror(errno));
}

/* Set `failure` to the reason why execve failed. */
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

/* Like execvp(3), but the failure distinguishes a missing program from one that cannot be executed. */
static bool execute(char **args, char **environment)
{
	char path[PATH_MAX], denied[PATH_MAX] = "";
	const char *rest = *find_variable(environment, "PATH", 4);

	if (strchr(args[0], '/')) {
		execve(args[0], args, environment);
		return explain(args[0], errno);
	}
	rest += rest ? strlen("PATH=") : 0;
	while (*args[0] && rest && *rest) {
		size_t length = strcspn(rest, ":");

		bool fits = snprintf(path, sizeof path, "%.*s%s%s", (int)length, rest, length ? "/" : "./", args[0]) <
		            (int)sizeof path;

		rest += length + (rest[length] == ':');
		if (!fits || access(path, F_OK))
			continue; /* a failing execve takes five times as long as access */
		execve(path, args, environment);
		if (errno != EACCES)
			return explain(path, errno);
		if (!*denied)
			strcpy(denied, path);
	}
	if (*denied)
		return explain(denied, EACCES);
	return fail_process(NOT_FOUND, "%s: command not found in the container", args[0]);
}

/* Move a descriptor to its place in the child; what has that number is one of the agent's. */
static bool move(int *fd, int place)
{
	if (*fd < 0)
		return close(place) || true;
	*fd = dup3(*fd, place, O_CLOEXEC);
	return *fd == place;
}

/* How likely the kernel is to kill the process when memory is used up. Called while /proc is the agent's. */
static bool set_oom_score(const struct process_spec *spec)
{
	char text[32];

	if (spec->oom_score == INT64_MIN)
		return true;
	snprintf(text, sizeof text, "%lld", (long long)spec->oom_score);
	return write_file("/proc/self/oom_score_adj", text) || fail("oom_score_adj %s: %s", text, strerror(errno));
}

static bool enter(struct launch *launch)
{
	const struct container *container = launch->container;

	if (!isolation_enter_ipc(&container->isolation))
		return false;
	if (launch->init ? !root_make(&container->spec, container->pts) : !mounts_enter(container->mounts))
		return false;
	/* Other processes of the container can already open this one's descriptors in /proc; close-on-exec would close
	 * them too late. */
	return (move(&launch->report, REPORT) && move(&launch->users, USERS) &&
	        !syscall(SYS_close_range, USERS + 1U, ~0U, 0)) ||
	       fail("close_range: %s", strerror(errno));
}

/* Write or read an archive in the place of a program, and exit. The host gets the reason of a failure as error output.
 * The child has a copy of the agent's memory, which other processes of the container must not read. */
static _Noreturn void archive(const struct launch *launch)
{
	const char *what = launch->spec->archive, **args = launch->spec->args;
	bool done;

	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	close(launch->report); /* it has started */
	if (!strcmp(what, "unpack"))
		done = unpack(args[0], args[1] ? args[1] : "");
	else if (!strcmp(what, "pack") || !strcmp(what, "pack-target"))
		done = pack(args[0], strcmp(what, "pack"));
	else
		done = fail("this guest agent does not support the archive '%.100s'", what);
	if (!done)
		dprintf(2, "%s\n", failure.reason);
	_exit(!done);
}

/* Runs in the child. It ends with execve, or reports its failure and exits. */
static void run(void *data)
{
	struct launch *launch = data;
	struct rlimit files = {FILES_SOFT, FILES_HARD};

	reset_signals();
	take_streams(launch);
	setrlimit(RLIMIT_NOFILE, &files);
	if (set_oom_score(launch->spec) && enter(launch) && set_identity(launch) && set_environment(launch) &&
	    set_workdir(launch)) {
		if (*launch->spec->archive)
			archive(launch);
		if (!launch->filtered || confine_calls(&launch->container->spec.bounds.seccomp))
			execute((char **)launch->spec->args, launch->environment);
	}
	/* An original agent acknowledges the start, and the process then exits; version 4243 and 4244 do so if execve
	 * fails. */
	if (!extended && failure.stage == STAGE_PROCESS && !(version_is_later && failure.exit_code == NOT_SET_UP))
		dprintf(2, "%s\n", failure.reason);
	else if (launch->report < 0)
		launch->failed = true; /* the agent reads this, and `failure` */
	else if (write(launch->report, &failure, sizeof failure) < 0)
		_exit(NOT_SET_UP);
	_exit(failure.exit_code ? failure.exit_code : NOT_SET_UP);
}

/* Create the child. To copy the agent's memory takes as long as the rest of a start, so a child that does little before
 * its execve shares that memory, and the agent is suspended until then (CLONE_VFORK). A child that makes a root or reads
 * files of the container, which can take long, gets a copy. The price: a root process of the pod that catches this
 * moment can suspend the agent by SIGSTOP, or read and write its memory with CAP_SYS_PTRACE. It does so to its own pod;
 * the host trusts no guest. */
static pid_t spawn(struct launch *launch)
{
	static _Alignas(16) char stack[65536];
	bool borrow = launch->report < 0;
	sigset_t all, before;
	pid_t pid;

	/* A signal from a process of the container must not run the agent's handlers in the child. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = clone_child(borrow ? CLONE_VM | CLONE_VFORK : 0, launch->container->cgroup.directory, stack, sizeof stack,
	                  run, launch);
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (pid < 0)
		fail(errno == EAGAIN && launch->container->spec.bounds.pids
		             ? "container '%s' has all the processes that it may"
		             : "container '%s': clone: %s",
		     launch->container->spec.id, strerror(errno));
	if (!launch->failed)
		return pid;
	waitpid(pid, NULL, 0);
	return -1;
}

static size_t variable_count(const struct variable *variable)
{
	size_t count = 0;

	while (variable && variable[count].name)
		count++;
	return count;
}

/* Enter the namespaces of the child, create it there, and leave them. */
static pid_t spawn_inside(struct launch *launch, struct container *container, int report)
{
	struct isolation *isolation = &container->isolation;
	bool first = launch->init && container->spec.bounds.own_pids;
	pid_t pid = -1;

	launch->report = report;
	launch->users = isolation->users;
	if (launch->init && !mounts_unshare(&container->mounts))
		return -1;
	if (container->outside)
		pod_step_out();
	else if (isolation->pids >= 0 && !first)
		isolation_step_in(isolation);
	if (!first || pids_unshare())
		pid = spawn(launch);
	if (first && pid > 0 && !isolation_take_pids(isolation)) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		pid = -1;
	}
	if (container->outside || isolation->pids >= 0 || first)
		pod_step_in();
	if (launch->init)
		mounts_leave();
	return pid;
}

pid_t launch_process(struct container *container, bool init, const struct process_spec *spec, const int stdio[3],
                     int *report)
{
	enum { DEFAULTS = 5, END = 1 };
	size_t count = DEFAULTS + variable_count(container->spec.process.envs) + variable_count(spec->envs) + END;
	char **environment = calloc(count, sizeof *environment);
	struct launch launch = {
		.container = container,
		.spec = spec,
		.init = init,
		.stdio = stdio,
		.environment = environment,
		.user.home = "/root",
	};
	int ends[2] = {-1, -1};
	pid_t pid = -1;

	if (!environment)
		fail("the guest has no memory for another process");
	else if ((init || names_someone(spec) || *spec->archive) && pipe2(ends, O_CLOEXEC))
		fail("pipe: %s", strerror(errno));
	else
		pid = spawn_inside(&launch, container, ends[1]);
	free(environment);
	if (ends[1] >= 0)
		close(ends[1]);
	if (pid < 0 && ends[0] >= 0)
		close(ends[0]);
	*report = pid < 0 ? -1 : ends[0];
	return pid;
}
