#include "start.h"

#include "dialect.h"
#include "kernel.h"
#include "launch.h"
#include "namespaces.h"
#include "phase.h"
#include "root.h"
#include "share.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Bytes of a container's id. HELLO's answer has one for each process, which bounds its size. */
enum { ID_MAX = 128 };

static void (*on_started)(struct process *process);
static int null_device; /* the agent's own */

/* The six ends of three pipes (or of a terminal and a pipe): the agent's and the process'. Each is -1 once it has
 * another owner. */
struct ends {
	int agent_ends[3], process_ends[3];
};

static bool make_pipe(struct ends *ends, int number)
{
	int pipe_fds[2], agent_ends = number == 0; /* the agent writes to 0 and reads from the others */

	if (pipe2(pipe_fds, O_CLOEXEC))
		return fail("pipe: %s", strerror(errno));
	ends->agent_ends[number] = pipe_fds[agent_ends];
	ends->process_ends[number] = pipe_fds[!agent_ends];
	return !fcntl(pipe_fds[agent_ends], F_SETFL, O_NONBLOCK) || fail("fcntl: %s", strerror(errno));
}

static bool make_terminal(struct ends *ends, const struct container *container, const struct process_spec *spec)
{
	int master = openat(container->pts, "ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	int unlocked = 0;

	ends->agent_ends[1] = master;
	if (master < 0 || ioctl(master, TIOCSPTLCK, &unlocked))
		return fail("terminal: %s", strerror(errno));
	set_terminal_size(master, spec->rows, spec->columns);
	for (int i = 0; i < 2; i++) {
		ends->process_ends[i] = i ? fcntl(ends->process_ends[0], F_DUPFD_CLOEXEC, 3)
		                          : ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
		if (ends->process_ends[i] < 0)
			return fail("terminal: %s", strerror(errno));
	}
	ends->agent_ends[0] = fcntl(master, F_DUPFD_CLOEXEC, 3);
	return ends->agent_ends[0] >= 0 || fail("terminal: %s", strerror(errno));
}

/* An input that is empty. */
static bool make_null(struct ends *ends)
{
	ends->process_ends[0] = fcntl(null_device, F_DUPFD_CLOEXEC, 3);
	return ends->process_ends[0] >= 0 || fail("/dev/null: %s", strerror(errno));
}

static bool make_ends(struct ends *ends, const struct container *container, const struct process_spec *spec)
{
	*ends = (struct ends){{-1, -1, -1}, {-1, -1, -1}};
	if (!spec->terminal)
		return (spec->no_input ? make_null(ends) : make_pipe(ends, 0)) && make_pipe(ends, 1) && make_pipe(ends, 2);
	if (!make_terminal(ends, container, spec))
		return false;
	if (spec->stderr_stream)
		return make_pipe(ends, 2);
	ends->process_ends[2] = fcntl(ends->process_ends[0], F_DUPFD_CLOEXEC, 3);
	return ends->process_ends[2] >= 0 || fail("terminal: %s", strerror(errno));
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void close_ends(struct ends *ends)
{
	for (int i = 0; i < 3; i++) {
		close_fd(&ends->agent_ends[i]);
		close_fd(&ends->process_ends[i]);
	}
}

/* The child has written its failure to the pipe, or its execve has closed the pipe. */
static void start_ready(struct watch *watch, uint32_t events)
{
	struct process *process = OWNER(watch, struct process, start);
	struct failure report;
	ssize_t count = read(watch->fd, &report, sizeof report);

	(void)events;
	if (count < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	loop_close(watch);
	phase_end("start a process", process->begun);
	if (count == sizeof report) {
		report.reason[sizeof report.reason - 1] = '\0'; /* the child may be another program by now */
		failure = report;
	}
	process->hidden = count == sizeof report;
	on_started(process);
}

static bool give_ends(struct process *process, struct ends *ends, bool no_input)
{
	bool done;

	input_open(&process->in, ends->agent_ends[0]);
	ends->agent_ends[0] = -1;
	if (no_input && !process->terminal)
		input_end(&process->in);
	done = output_open(&process->out, ends->agent_ends[1]);
	ends->agent_ends[1] = -1;
	if (done && ends->agent_ends[2] >= 0) {
		done = output_open(&process->err, ends->agent_ends[2]);
		ends->agent_ends[2] = -1;
	}
	return done || fail("the guest has no memory for another process");
}

/* After HELLO the end of a process is reported when it exits, not when its output is closed; so keep the output open
 * until then. */
static void keep_ends(struct process *process, struct ends *ends)
{
	if (!extended)
		return;
	if (!process->terminal) {
		process->out.kept = ends->process_ends[1];
		ends->process_ends[1] = -1;
	}
	if (process->err.watch.fd >= 0) {
		process->err.kept = ends->process_ends[2];
		ends->process_ends[2] = -1;
	}
}

enum start process_start(struct container *container, bool init, const struct process_spec *spec)
{
	struct process *process = process_new(container->spec.id, spec);
	struct ends ends;
	int report = -1;

	if (!process)
		return NOT_STARTED;
	process->container = container;
	process->init = init;
	process->pid = -1;
	process->begun = phase_clock();
	if (make_ends(&ends, container, spec) && give_ends(process, &ends, spec->no_input))
		process->pid = launch_process(container, init, spec, ends.process_ends, &report);
	if (process->pid > 0)
		keep_ends(process, &ends);
	close_ends(&ends);
	process->start = (struct watch){.fd = report, .ready = start_ready};
	if (process->pid > 0 && report >= 0 && !loop_watch(&process->start, EPOLLIN)) {
		kill(process->pid, SIGKILL);
		process->pid = -1;
		fail("the guest has no memory for another process");
	}
	if (process->pid < 0) {
		process_forget(process);
		return NOT_STARTED;
	}
	if (report >= 0)
		return STARTING;
	phase_end("start a process", process->begun);
	return STARTED;
}

static bool mount_shares(const struct container_spec *spec)
{
	share_forget_names();
	if (spec->writable_root && !share_mount(SHARE_WRITTEN_ROOTS))
		return false;
	for (const struct mapping *mapping = spec->mappings; mapping && mapping->path; mapping++)
		if (!mapping->tmpfs && !share_mount(share_of(mapping)))
			return false;
	return true;
}

/* Give an isolated container its namespaces. */
static bool isolate(struct container *container)
{
	return !container->spec.bounds.isolated || isolation_make(&container->isolation);
}

struct container *container_start(const struct container_spec *spec, struct message *message)
{
	struct container *container;
	int64_t begun;

	if (strlen(spec->id) > ID_MAX) {
		fail("a container's id has more than %d bytes", ID_MAX);
		return NULL;
	}
	if (container_find(spec->id) || (api_version > API_2016 && !strcmp(spec->id, VM_ITSELF))) {
		fail("container '%s' exists already", spec->id);
		return NULL;
	}
	begun = phase_clock();
	if (!mount_shares(spec) || !(spec->bounds.isolated || root_share_memory(spec->shared_memory)))
		return NULL;
	container = container_new(spec);
	if (!container)
		return NULL;
	if (!cgroup_make(&container->cgroup, &spec->bounds) || !isolate(container)) {
		container_free(container);
		return NULL;
	}
	phase_end("prepare a container", begun);
	if (!process_start(container, true, &container->spec.process)) {
		container_free(container);
		return NULL;
	}
	if (message) {
		container->message = *message;
		*message = (struct message){0};
	}
	container->running = true;
	return container;
}

/* In a child in the pod's namespaces: make the root, report success or failure, and exit. A child that is killed reports
 * nothing. */
static _Noreturn void make_root_and_end(const struct container *container, int report)
{
	if (root_make(&container->spec, container->pts))
		failure = (struct failure){.stage = STAGE_NONE};
	_exit(write(report, &failure, sizeof failure) != sizeof failure);
}

static bool make_root(struct container *container)
{
	int report[2];
	pid_t pid = -1;
	bool done;

	if (pipe2(report, O_CLOEXEC))
		return fail("pipe: %s", strerror(errno));
	if (mounts_unshare(&container->mounts)) {
		pid = fork();
		if (!pid)
			make_root_and_end(container, report[1]);
		if (pid < 0)
			fail("fork: %s", strerror(errno));
		mounts_leave();
	}
	close(report[1]);
	done = pid > 0 && (read(report[0], &failure, sizeof failure) == sizeof failure ||
	                   fail("the root's maker ended without a report"));
	done = done && failure.stage == STAGE_NONE;
	close(report[0]);
	return done;
}

struct container *container_make(const struct container_spec *spec)
{
	struct container *container = container_new(spec);

	if (!container)
		return NULL;
	container->running = cgroup_make(&container->cgroup, &spec->bounds) && make_root(container);
	if (container->running)
		return container;
	container_free(container);
	return NULL;
}

/* Let busybox, if the guest has it, create links for all of its applets. */
static void install_programs(void)
{
	pid_t pid = fork();

	if (!pid) {
		dup2(open("/dev/null", O_WRONLY), 2);
		execl("/bin/busybox", "busybox", "--install", "-s", "/bin", NULL);
		_exit(1);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

struct container *container_of_guest(const char *id)
{
	struct container_spec spec = {.id = id, .bounds.capabilities = UINT64_MAX, .process.workdir = "/"};
	struct container *container = container_new(&spec);

	if (!container)
		return NULL;
	container->outside = container->running = true;
	container->mounts = mounts_of_agent();
	install_programs();
	mkdir("/dev/pts", 0755);
	if (container->mounts >= 0 && attach_mount(container->pts, AT_FDCWD, "/dev/pts"))
		return container;
	fail("the guest's own root: %s", strerror(errno));
	container_free(container);
	return NULL;
}

void start_init(void (*started)(struct process *process))
{
	on_started = started;
	null_device = open("/dev/null", O_RDONLY | O_CLOEXEC);
}
