/* The agent's ends of a process' standard input, output and error, each with a ring buffer. Positions count the bytes of
 * a stream since its beginning. */
#ifndef STREAM_H
#define STREAM_H

#include "loop.h"

enum {
	WINDOW = 524288, /* bytes that may be sent and not yet consumed, and the size of a ring. A power of two */
	CREDIT_EVERY = 131072, /* consumed bytes after which credit is sent */
};

/* From the process to the host. The ring holds what the host has not consumed: [consumed, head), of which
 * [sent, head) is still to be sent. */
struct output {
	struct watch watch; /* fd is -1 once the end of the output was read */
	void (*changed)(struct output *output); /* set by the owner: there is more to send, or the end was read */
	uint64_t stream; /* 0: there is none; set by the owner */
	int kept; /* the process' end of a pipe, kept open so that its closing causes no event; or -1 */
	uint8_t *ring; /* NULL until the first byte */
	uint64_t consumed, sent, head;
	size_t left; /* once the process has ended: bytes of its output still in the pipe */
	bool draining; /* the process has ended: read `left` bytes, then close */
	bool closed; /* a read of a terminal has found that it was closed */
	bool more; /* the pipe may hold more than the ring had room for */
	bool paused; /* since a sync, until the host resumes it */
};

/* From the host to the process. The ring holds [consumed, received). */
struct input {
	struct watch watch; /* fd is -1 once closed */
	void (*changed)(struct input *input); /* set by the owner: credit is owed */
	uint8_t *ring; /* likewise */
	uint64_t consumed, received;
	uint64_t credited; /* `consumed`, as last sent to the host */
	bool watched; /* the pipe was full once, so the loop watches it */
	bool ends; /* close after what the ring holds */
	bool paused; /* since a sync, until the host resumes the process: no credit is sent */
	bool credit_due; /* after that: send credit at once */
};

bool output_open(struct output *output, int fd);
void output_close(struct output *output);

/* Close the agent's end, so that the process cannot write any more, and drop what the host has not received. */
void output_discard(struct output *output);

/* Whether the output has ended and all of it was sent. */
bool output_finished(const struct output *output);

/* Find the bytes from `sent` on that are in one piece of the ring; return how many, at most `most`. */
size_t output_next(const struct output *output, size_t most, const uint8_t **bytes);

/* Whether a few bytes that are left to send should be sent with those that follow: the window is full, so credit will
 * come. */
bool output_is_held(const struct output *output);

/* The host has consumed up to `position`; read on if the ring was full. */
void output_consumed(struct output *output, uint64_t position);

/* Read the pipe into the ring. */
void output_fill(struct output *output);

/* Called when the process has ended: read only what its pipe holds now, even if other processes keep the pipe open. */
void output_drain(struct output *output, bool terminal);

void input_open(struct input *input, int fd);
void input_close(struct input *input);
size_t input_room(const struct input *input);

/* Take bytes for the process; more than input_room are dropped. */
void input_add(struct input *input, const uint8_t *bytes, size_t count);
void input_end(struct input *input);

/* Whether credit should be sent. */
bool input_owes_credit(const struct input *input);

#endif
