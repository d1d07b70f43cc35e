/* The processes that the host started. Each is kept until it has ended and the host has released it. */
#ifndef PROCESS_H
#define PROCESS_H

#include "spec.h"
#include "stream.h"

#include <sys/types.h>

struct container;

struct process {
	struct process *next;       /* in the order they were started */
	struct process *ready_next; /* in process_queue, if `queued` */
	struct container *container; /* NULL once removed */
	bool init;                  /* the container's first process */
	bool terminal;
	pid_t pid;                  /* 0: nothing was started */
	bool ended;
	bool hidden; /* from the host: its start, or that of its pod, failed; forgotten as soon as it ends */
	bool queued, end_sent;
	uint8_t status;
	int64_t begun;      /* when its start began, as phase_clock returns it */
	struct watch start; /* the pipe that closes when execve succeeds; fd -1 from then on */
	struct input in;
	struct output out, err;
	const char *id; /* in its container, "" if it has none */
	char container_id[];
};

extern struct process *processes;

/* The first process that has something for the host. */
extern struct process *process_queue;

/* Put a process into the queue, unless it is in it: it has something for the host (output, credit, or its end). */
void process_enqueue(struct process *process);
void process_dequeue(struct process *process);

/* Add a process to the list, of which nothing is started yet. NULL and `failure` if that fails. */
struct process *process_new(const char *container_id, const struct process_spec *spec);

/* Add a process that has ended before it started: an original agent reports such a failure by its exit code. */
bool process_stillborn(const char *container_id, const struct process_spec *spec, int status);

/* Set the size of a terminal; the kernel sends SIGWINCH to its foreground processes. */
void set_terminal_size(int terminal, uint64_t rows, uint64_t columns);

/* Called when a child of the agent was reaped: set the status of the process, and return it; NULL if the host did not
 * start it. The caller kills what the process left behind, and then calls process_finish, which reads the rest of its
 * output. */
struct process *process_reaped(pid_t pid, int wait_status);
void process_finish(struct process *process);

struct process *process_by_stdio(uint64_t stream);
struct process *process_by_id(const char *container_id, const char *id);
struct process *process_by_stream(uint64_t stream, struct output **output);
bool process_kill(const struct process *process, int signal);

/* Send a signal to a process. One that asks a further command to end, as a terminal or a service manager does, goes to its
 * process group, which it leads, and SIGKILL to all processes of its session: it leads that as well. */
bool process_signal(const struct process *process, int signal);
bool processes_alive(void); /* any of them */

/* Close and free a process that has ended. */
void process_forget(struct process *process);

/* Forget all processes of a container (of all, if NULL) that have ended, and hide the others from the host. */
void processes_forget(const struct container *container);

#endif
