/* The processes that the host asked for: started, fed, read, reaped, and kept until the host lets go of them. */
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
	bool unknown;               /* to the host: it never started, or its pod did not; forgotten as soon as it ends */
	bool queued, end_sent;
	uint8_t status;
	struct watch start;         /* the pipe that closes when execve succeeds; fd -1 from then on */
	struct input in;
	struct output out, err;
	const char *id; /* in its container, "" if it has none */
	char container_id[];
};

extern struct process *processes;

/* The first of those that have something for the host. */
extern struct process *process_queue;

/* Put a process into the queue, unless it is in it: it has something for the host (output, credit, or its end). */
void process_enqueue(struct process *process);
void process_dequeue(struct process *process);

/* Make a process of which nothing is started yet; in the list. NULL and `failure` if that fails. */
struct process *process_new(const char *container_id, const struct process_spec *spec);

/* Make a process that has ended before it started, as an original agent reports it. */
bool process_stillborn(const char *container_id, const struct process_spec *spec, int status);

/* Give a terminal a size; its process hears of a new one. */
void set_terminal_size(int terminal, uint64_t rows, uint64_t columns);

/* A child of the agent has ended: note that of the process that it was, and return it; NULL if it was none of these. The
 * caller then lets process_finish read the rest of its output, once what it started has been killed. */
struct process *process_reaped(pid_t pid, int wait_status);
void process_finish(struct process *process);

struct process *process_by_stdio(uint64_t stream);
struct process *process_by_id(const char *container_id, const char *id);
struct process *process_by_stream(uint64_t stream, struct output **output);
bool process_kill(const struct process *process, int signal);
bool processes_alive(void); /* any of them */

/* Forget it for good; it has ended. */
void process_forget(struct process *process);

/* Forget all of a container (all there are if NULL) that have ended; the host will not hear of the others either. */
void processes_forget(const struct container *container);

#endif
