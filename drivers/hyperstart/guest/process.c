#include "process.h"

#include "container.h"
#include "control.h"
#include "launch.h"
#include "mux.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Bounds the memory that a host can make the agent use (three rings of 512 KiB each), and HELLO's answer to 1 MiB. */
enum { PROCESSES_MAX = 2048 };

struct process *processes;
static size_t process_count;

struct process *process_by_stdio(uint64_t stream)
{
	struct process *process = processes;

	while (process && (process->unknown || process->out.stream != stream))
		process = process->next;
	return process;
}

struct process *process_by_id(const char *container_id, const char *id)
{
	struct process *process = *id ? processes : NULL; /* many have no id */

	while (process && (process->unknown || strcmp(process->container_id, container_id) || strcmp(process->id, id)))
		process = process->next;
	return process;
}

struct process *process_by_stream(uint64_t stream, struct output **output)
{
	for (struct process *process = processes; process; process = process->next) {
		if (process->unknown || (process->out.stream != stream && process->err.stream != stream))
			continue;
		*output = process->out.stream == stream ? &process->out : &process->err;
		return process;
	}
	return NULL;
}

static bool stream_is_free(uint64_t stream)
{
	struct output *output;

	if (!stream || !process_by_stream(stream, &output))
		return true;
	return fail("stream %llu is in use by another process", (unsigned long long)stream);
}

static struct process *process_new(const char *container_id, const struct process_spec *spec)
{
	struct process *process, **link = &processes;
	size_t size = strlen(container_id) + 1, id_size = strlen(spec->id) + 1;

	if (!stream_is_free(spec->stdio) || !stream_is_free(spec->stderr_stream))
		return NULL;
	if (process_count == PROCESSES_MAX) {
		fail("the guest runs %d processes already and takes no more", PROCESSES_MAX);
		return NULL;
	}
	if (process_by_id(container_id, spec->id)) {
		fail("container '%s' has a process '%s' already", container_id, spec->id);
		return NULL;
	}
	process = calloc(1, sizeof *process + size + id_size);
	if (!process) {
		fail("the guest has no memory for another process");
		return NULL;
	}
	memcpy(process->container_id, container_id, size);
	process->id = memcpy(process->container_id + size, spec->id, id_size);
	process->terminal = spec->terminal;
	process->start.fd = process->in.watch.fd = process->out.watch.fd = process->err.watch.fd = -1;
	process->out.kept = process->err.kept = -1;
	process->out.stream = spec->stdio;
	process->err.stream = spec->stderr_stream;
	while (*link)
		link = &(*link)->next;
	*link = process;
	process_count++;
	return process;
}

void process_forget(struct process *process)
{
	struct process **link = &processes;

	while (*link != process)
		link = &(*link)->next;
	*link = process->next;
	process_count--;
	mux_forget(process);
	if (process->container && process->container->init == process)
		process->container->init = NULL;
	loop_close(&process->start);
	input_close(&process->in);
	output_close(&process->out);
	output_close(&process->err);
	loop_free(process);
}

void processes_forget(const struct container *container)
{
	for (struct process *process = processes, *next; process; process = next) {
		next = process->next;
		if (container && process->container != container)
			continue;
		process->unknown = true;
		if (process->ended)
			process_forget(process);
	}
}

bool process_kill(const struct process *process, int signal)
{
	return process->ended || !process->pid || !kill(process->pid, signal) || fail("kill: %s", strerror(errno));
}

size_t processes_alive(void)
{
	size_t count = 0;

	for (struct process *process = processes; process; process = process->next)
		count += !process->ended;
	return count;
}

/* The six ends of three pipes (or terminal and pipe), while they are handed out. Each is -1 once it has an owner. */
struct ends {
	int ours[3], theirs[3];
};

static bool make_pipe(struct ends *ends, int number)
{
	int pipe_fds[2], ours = number == 0; /* the agent writes to 0 and reads from the others */

	if (pipe2(pipe_fds, O_CLOEXEC))
		return fail("pipe: %s", strerror(errno));
	ends->ours[number] = pipe_fds[ours];
	ends->theirs[number] = pipe_fds[!ours];
	return !fcntl(pipe_fds[ours], F_SETFL, O_NONBLOCK) || fail("fcntl: %s", strerror(errno));
}

void set_terminal_size(int terminal, uint64_t rows, uint64_t columns)
{
	struct winsize size = {.ws_row = (unsigned short)MIN(rows, UINT16_MAX),
	                       .ws_col = (unsigned short)MIN(columns, UINT16_MAX)};

	ioctl(terminal, TIOCSWINSZ, &size);
}

static bool make_terminal(struct ends *ends, const struct container *container, const struct process_spec *spec)
{
	int master = openat(container->pts, "ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	int unlocked = 0;

	ends->ours[1] = master;
	if (master < 0 || ioctl(master, TIOCSPTLCK, &unlocked))
		return fail("terminal: %s", strerror(errno));
	set_terminal_size(master, spec->rows, spec->columns);
	for (int i = 0; i < 2; i++) {
		ends->theirs[i] = i ? fcntl(ends->theirs[0], F_DUPFD_CLOEXEC, 3)
		                    : ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
		if (ends->theirs[i] < 0)
			return fail("terminal: %s", strerror(errno));
	}
	ends->ours[0] = fcntl(master, F_DUPFD_CLOEXEC, 3);
	return ends->ours[0] >= 0 || fail("terminal: %s", strerror(errno));
}

static bool make_ends(struct ends *ends, const struct container *container, const struct process_spec *spec)
{
	*ends = (struct ends){{-1, -1, -1}, {-1, -1, -1}};
	if (!spec->terminal)
		return make_pipe(ends, 0) && make_pipe(ends, 1) && make_pipe(ends, 2);
	if (!make_terminal(ends, container, spec))
		return false;
	if (spec->stderr_stream)
		return make_pipe(ends, 2);
	ends->theirs[2] = fcntl(ends->theirs[0], F_DUPFD_CLOEXEC, 3);
	return ends->theirs[2] >= 0 || fail("terminal: %s", strerror(errno));
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
		close_fd(&ends->ours[i]);
		close_fd(&ends->theirs[i]);
	}
}

/* The child is through with its start: the pipe holds why it failed, or is closed by its execve. */
static void start_ready(struct watch *watch, uint32_t events)
{
	struct process *process = OWNER(watch, struct process, start);
	struct failure report;
	ssize_t count = read(watch->fd, &report, sizeof report);

	(void)events;
	if (count < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	loop_close(watch);
	if (count == sizeof report)
		failure = report;
	process->unknown = count == sizeof report;
	control_started(process);
}

static bool give_ends(struct process *process, struct ends *ends, bool no_input)
{
	bool done;

	input_open(&process->in, process, ends->ours[0]);
	ends->ours[0] = -1;
	if (no_input && !process->terminal)
		input_end(&process->in);
	done = output_open(&process->out, process, process->out.stream, ends->ours[1]);
	ends->ours[1] = -1;
	if (done && ends->ours[2] >= 0) {
		done = output_open(&process->err, process, process->err.stream, ends->ours[2]);
		ends->ours[2] = -1;
	}
	return done || fail("the guest has no memory for another process");
}

/* After HELLO the end of a process is what counts, not that of its output. */
static void keep_ends(struct process *process, struct ends *ends)
{
	if (!extended)
		return;
	if (!process->terminal) {
		process->out.kept = ends->theirs[1];
		ends->theirs[1] = -1;
	}
	if (process->err.watch.fd >= 0) {
		process->err.kept = ends->theirs[2];
		ends->theirs[2] = -1;
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
	if (make_ends(&ends, container, spec) && give_ends(process, &ends, spec->no_input))
		process->pid = launch_process(container, init, spec, ends.theirs, &report);
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
	if (init)
		container->init = process;
	return report < 0 ? STARTED : STARTING;
}

bool process_stillborn(const char *container_id, const struct process_spec *spec, int status)
{
	struct process *process = process_new(container_id, spec);

	if (!process)
		return false;
	process->ended = true;
	process->status = (uint8_t)status;
	mux_ready(process);
	return true;
}

static uint8_t exit_status(int wait_status)
{
	if (WIFEXITED(wait_status))
		return (uint8_t)WEXITSTATUS(wait_status);
	return extended ? (uint8_t)(128 + WTERMSIG(wait_status)) : 0;
}

void process_reaped(pid_t pid, int wait_status)
{
	struct process *process = processes;

	while (process && (process->ended || process->pid != pid))
		process = process->next;
	if (!process)
		return;
	process->ended = true;
	process->status = exit_status(wait_status);
	if (process->start.fd >= 0)
		start_ready(&process->start, EPOLLIN);
	if (process->init && process->container)
		container_ended(process->container, process->status);
	input_close(&process->in);
	if (extended) {
		output_drain(&process->out, process->terminal);
		output_drain(&process->err, false);
	}
	if (process->unknown)
		process_forget(process);
	else
		mux_ready(process);
}
