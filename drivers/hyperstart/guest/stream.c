#include "stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
	TERMINAL_LEFT = 131072, /* read of a terminal after its process has ended, at most: FIONREAD does not count it */
	LARGE_PIPE = 262144, /* size of the pipe of a process with much output: fewer switches between it and the agent */
	SPARE_USED = 65536, /* a ring that held no more is kept for the next process */
};

static size_t ring_at(uint64_t position)
{
	return (size_t)(position % WINDOW);
}

/* Bytes from `from` to `to` that lie in one piece. */
static size_t ring_piece(uint64_t from, uint64_t to)
{
	return MIN((size_t)(to - from), WINDOW - ring_at(from));
}

/* Rings kept for reuse: most processes write little, and to map and unmap a ring takes longer than the rest of their
 * start. */
static uint8_t *spare[8];
static size_t spare_count;

static bool get_ring(uint8_t **ring)
{
	if (!*ring)
		*ring = spare_count ? spare[--spare_count] : malloc(WINDOW);
	return *ring;
}

static void put_ring(uint8_t **ring, uint64_t used)
{
	if (*ring && used <= SPARE_USED && spare_count < COUNT(spare))
		spare[spare_count++] = *ring;
	else
		free(*ring);
	*ring = NULL;
}

static void output_ready(struct watch *watch, uint32_t events)
{
	(void)events;
	output_fill(OWNER(watch, struct output, watch));
}

bool output_open(struct output *output, int fd)
{
	output->watch = (struct watch){.fd = fd, .ready = output_ready};
	return loop_watch(&output->watch, EPOLLIN);
}

/* Close the agent's end: nothing more is read. */
static void end(struct output *output)
{
	loop_close(&output->watch);
	if (output->kept >= 0)
		close(output->kept);
	output->kept = -1;
}

void output_close(struct output *output)
{
	end(output);
	put_ring(&output->ring, output->head);
}

void output_discard(struct output *output)
{
	if (output->watch.fd < 0)
		return;
	end(output);
	output->consumed = output->sent = output->head;
	output->changed(output);
}

bool output_finished(const struct output *output)
{
	return output->watch.fd < 0 && output->sent == output->head;
}

size_t output_next(const struct output *output, size_t most, const uint8_t **bytes)
{
	*bytes = output->ring + ring_at(output->sent);
	return MIN(ring_piece(output->sent, output->head), most);
}

bool output_is_held(const struct output *output)
{
	return output->watch.fd >= 0 && output->more && output->sent > output->consumed;
}

void output_consumed(struct output *output, uint64_t position)
{
	if (position <= output->consumed || position > output->head)
		return;
	output->consumed = position;
	output->sent = MAX(output->sent, position);
	if (output->more)
		output_fill(output);
}

void output_fill(struct output *output)
{
	bool progress = false;

	while (output->watch.fd >= 0) {
		size_t room = ring_piece(output->head, output->consumed + WINDOW);
		ssize_t count;

		if (output->draining && !output->left) {
			end(output);
			break;
		}
		output->more = !room;
		if (!room)
			break;
		if (output->draining)
			room = MIN(room, output->left);
		if (!get_ring(&output->ring)) {
			console("guest agent: no memory for a process' output, which is lost");
			end(output);
			break;
		}
		count = read(output->watch.fd, output->ring + ring_at(output->head), room);
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0 && errno == EAGAIN && !output->draining)
			break;
		if (count < 0 && errno == EIO && !output->closed) {
			/* The terminal was closed. What was written just before, while this read waited for what had been written
			 * earlier, the next read finds (n_tty_read of Linux). */
			output->closed = true;
			continue;
		}
		if (count <= 0) {
			end(output);
			break;
		}
		progress = true;
		output->head += (size_t)count;
		if (output->head == WINDOW) /* reached exactly, because no read passes the end of the ring */
			fcntl(output->watch.fd, F_SETPIPE_SZ, LARGE_PIPE);
		if (output->draining)
			output->left -= (size_t)count;
	}
	if (progress || output->watch.fd < 0)
		output->changed(output);
}

void output_drain(struct output *output, bool terminal)
{
	int held = 0;

	if (output->watch.fd < 0)
		return;
	if (ioctl(output->watch.fd, FIONREAD, &held) || held < 0)
		held = 0;
	output->draining = true;
	output->left = terminal ? TERMINAL_LEFT : (size_t)held;
	output_fill(output);
}

static void input_write(struct input *input)
{
	while (input->watch.fd >= 0 && input->consumed < input->received) {
		size_t piece = ring_piece(input->consumed, input->received);
		ssize_t count = write(input->watch.fd, input->ring + ring_at(input->consumed), piece);

		if (count > 0)
			input->consumed += (size_t)count;
		else if (count < 0 && errno == EINTR)
			continue;
		else if (count < 0 && errno == EAGAIN)
			break;
		else
			loop_close(&input->watch); /* EPIPE: the process has closed its end */
	}
	if (input->watch.fd < 0)
		input->consumed = input->received;
	else if (input->consumed == input->received && input->ends)
		loop_close(&input->watch);
	else if (input->consumed < input->received && !input->watched)
		input->watched = loop_watch(&input->watch, EPOLLOUT);
	if (input_owes_credit(input))
		input->changed(input);
}

static void input_ready(struct watch *watch, uint32_t events)
{
	(void)events;
	input_write(OWNER(watch, struct input, watch));
}

void input_open(struct input *input, int fd)
{
	input->watch = (struct watch){.fd = fd, .ready = input_ready};
}

void input_close(struct input *input)
{
	loop_close(&input->watch);
	put_ring(&input->ring, input->received);
	input->consumed = input->received;
}

size_t input_room(const struct input *input)
{
	return input->watch.fd < 0 ? SIZE_MAX : WINDOW - (size_t)(input->received - input->consumed);
}

void input_add(struct input *input, const uint8_t *bytes, size_t count)
{
	if (input->watch.fd >= 0 && !get_ring(&input->ring)) {
		console("guest agent: no memory for a process' input, which ends here");
		loop_close(&input->watch);
	}
	if (input->watch.fd >= 0)
		count = MIN(count, input_room(input));
	for (size_t done = 0; done < count && input->watch.fd >= 0;) {
		size_t piece = MIN(count - done, WINDOW - ring_at(input->received + done));

		memcpy(input->ring + ring_at(input->received + done), bytes + done, piece);
		done += piece;
	}
	input->received += count;
	input_write(input);
}

void input_end(struct input *input)
{
	input->ends = true;
	input_write(input);
}

bool input_owes_credit(const struct input *input)
{
	return input->consumed - input->credited >= CREDIT_EVERY ||
	       (input->consumed > input->credited && input->received - input->credited > WINDOW / 2);
}
