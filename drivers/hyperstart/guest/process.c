#include "process.h"

#include "dialect.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Bounds the memory that a host can make the agent use (three rings of 512 KiB for each), and HELLO's answer to 1 MiB. */
enum { PROCESSES_MAX = 2048 };

/* Looks at all processes for those of a session that is killed: it may be forking as fast as they are found. */
enum { SESSION_LOOKS = 16 };

struct process *processes;
static size_t process_count;
struct process *process_queue;
static struct process **process_queue_end = &process_queue;

void process_enqueue(struct process *process)
{
	if (process->queued)
		return;
	process->queued = true;
	process->ready_next = NULL;
	*process_queue_end = process;
	process_queue_end = &process->ready_next;
}

void process_dequeue(struct process *process)
{
	struct process **link = &process_queue;

	if (!process->queued)
		return;
	while (*link != process)
		link = &(*link)->ready_next;
	*link = process->ready_next;
	if (!*link)
		process_queue_end = link;
	process->queued = false;
}

struct process *process_by_stdio(uint64_t stream)
{
	struct process *process = processes;

	while (process && (process->hidden || process->out.stream != stream))
		process = process->next;
	return process;
}

struct process *process_by_id(const char *container_id, const char *id)
{
	struct process *process = *id ? processes : NULL; /* many have no id */

	while (process && (process->hidden || strcmp(process->container_id, container_id) || strcmp(process->id, id)))
		process = process->next;
	return process;
}

struct process *process_by_stream(uint64_t stream, struct output **output)
{
	for (struct process *process = processes; process; process = process->next) {
		if (process->hidden || (process->out.stream != stream && process->err.stream != stream))
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

static void input_changed(struct input *input)
{
	process_enqueue(OWNER(input, struct process, in));
}

static void out_changed(struct output *output)
{
	process_enqueue(OWNER(output, struct process, out));
}

static void err_changed(struct output *output)
{
	process_enqueue(OWNER(output, struct process, err));
}

struct process *process_new(const char *container_id, const struct process_spec *spec)
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
	process->in.changed = input_changed;
	process->out.changed = out_changed;
	process->err.changed = err_changed;
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
	process_dequeue(process);
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
		process->hidden = true;
		if (process->ended)
			process_forget(process);
	}
}

bool process_kill(const struct process *process, int signal)
{
	return process->ended || !process->pid || !kill(process->pid, signal) || fail("kill: %s", strerror(errno));
}

/* Send a signal to all processes of the session that `leader` leads; return how many there are, zombies too. */
static size_t signal_session(pid_t leader, int signal)
{
	DIR *directory = opendir("/proc");
	const struct dirent *entry;
	size_t found = 0;

	while (directory && (entry = readdir(directory))) {
		pid_t pid = atoi(entry->d_name);

		if (pid <= 0 || getsid(pid) != leader)
			continue;
		kill(pid, signal);
		found++;
	}
	if (directory)
		closedir(directory);
	return found;
}

bool process_signal(const struct process *process, int signal)
{
	bool ends = signal == SIGINT || signal == SIGQUIT || signal == SIGHUP || signal == SIGTERM || signal == SIGKILL;
	size_t before = 0, found = 0;

	if (process->ended || !process->pid)
		return true;
	if (process->init || !ends)
		return process_kill(process, signal);
	if (signal != SIGKILL)
		return !kill(-process->pid, signal) || fail("kill: %s", strerror(errno));
	if (!process_kill(process, signal)) /* first: a shell would report the end of what it waits for */
		return false;
	/* Again while there are others than before: what was forked meanwhile may have been missed. */
	for (int times = 0; times < SESSION_LOOKS && (found = signal_session(process->pid, signal)) != before; times++)
		before = found;
	return true;
}

bool processes_alive(void)
{
	struct process *process = processes;

	while (process && process->ended)
		process = process->next;
	return process;
}

void set_terminal_size(int terminal, uint64_t rows, uint64_t columns)
{
	struct winsize size = {.ws_row = (unsigned short)MIN(rows, UINT16_MAX),
	                       .ws_col = (unsigned short)MIN(columns, UINT16_MAX)};

	ioctl(terminal, TIOCSWINSZ, &size);
}

bool process_stillborn(const char *container_id, const struct process_spec *spec, int status)
{
	struct process *process = process_new(container_id, spec);

	if (!process)
		return false;
	process->ended = true;
	process->status = (uint8_t)status;
	process_enqueue(process);
	return true;
}

static uint8_t exit_status(int wait_status)
{
	if (WIFEXITED(wait_status))
		return (uint8_t)WEXITSTATUS(wait_status);
	return extended ? (uint8_t)(128 + WTERMSIG(wait_status)) : 0;
}

static bool is_forgotten(const struct process *process)
{
	const struct process *other = processes;

	while (other && other != process)
		other = other->next;
	return !other;
}

struct process *process_reaped(pid_t pid, int wait_status)
{
	struct process *process = processes;

	while (process && (process->ended || process->pid != pid))
		process = process->next;
	if (!process)
		return NULL;
	process->ended = true;
	process->status = exit_status(wait_status);
	if (process->start.fd >= 0)
		process->start.ready(&process->start, EPOLLIN);
	/* A start that failed may have undone the pod, and with it forgotten this process. */
	return is_forgotten(process) ? NULL : process;
}

void process_finish(struct process *process)
{
	input_close(&process->in);
	if (extended) {
		output_drain(&process->out, process->terminal);
		output_drain(&process->err, false);
	}
	if (process->hidden)
		process_forget(process);
	else
		process_enqueue(process);
}
