#include "mux.h"

#include "dialect.h"

enum {
	HEADER = 12,          /* u64 stream, u32 length with header */
	FRAME_MAX = 65536,    /* accepted; the protocol limits a host to half of it */
	SEND_SIZE = 32768,    /* bytes that a virtio port takes in one write: one frame, or several small ones */
	ROOM_WORTH = 4096,    /* bytes of room below which no part of an output is sent */
	SENDS_PER_TURN = 8,   /* then the control channel is served */
	CONTROL_PAYLOAD = 17, /* u8 type, u64 stream, u64 value */
};

enum control_type { CREDIT = 1, RELEASE = 2, RESUME = 3, CLOSE = 4 };

static struct channel channel;
static void (*on_ended)(const struct process *process);

static size_t room(void)
{
	return SEND_SIZE - channel_waiting(&channel);
}

static void write_header(uint8_t header[HEADER], uint64_t stream, size_t length)
{
	put_be64(header, stream);
	put_be32(header + 8, (uint32_t)(HEADER + length));
}

static void send_frame(uint64_t stream, const uint8_t *payload, size_t length)
{
	uint8_t header[HEADER];

	write_header(header, stream, length);
	channel_send_frame(&channel, header, payload, length);
}

/* Send a frame with `length` bytes of output, which may be in two pieces of the ring. */
static void send_output_frame(struct output *output, size_t length)
{
	uint8_t header[HEADER];

	write_header(header, output->stream, length);
	channel_send(&channel, header, HEADER);
	while (length) {
		const uint8_t *bytes;
		size_t count = output_next(output, length, &bytes);

		channel_send(&channel, bytes, count);
		output->sent += count;
		length -= count;
	}
}

static void send_credit(struct process *process)
{
	uint8_t payload[CONTROL_PAYLOAD] = {CREDIT};

	put_be64(payload + 1, process->out.stream);
	put_be64(payload + 9, process->in.consumed);
	send_frame(0, payload, sizeof payload);
	process->in.credited = process->in.consumed;
	process->in.credit_due = false;
}

/* Send up to SEND_SIZE bytes of a stream. Returns whether bytes are left that can be sent in the next round. */
static bool send_output(struct output *output)
{
	size_t sent = 0;

	while (!output->paused && output->sent < output->head) {
		size_t left = (size_t)(output->head - output->sent), count;

		if (room() < HEADER + MIN(ROOM_WORTH, left) || sent == SEND_SIZE)
			return true;
		if (left < ROOM_WORTH && output_is_held(output))
			break;
		count = MIN(left, MIN(room() - HEADER, SEND_SIZE - sent));
		send_output_frame(output, count);
		sent += count;
		if (!extended)
			output_consumed(output, output->sent);
	}
	return false;
}

/* Whether the end can be sent: only after all output, except that of a standard error which the host did not resume after a
 * sync. */
static bool end_is_due(const struct process *process)
{
	return process->ended && !process->end_sent && !process->out.paused && output_finished(&process->out) &&
	       (process->err.paused || output_finished(&process->err));
}

/* Send what the process has for the host. Returns true if something is left. */
static bool send_process(struct process *process)
{
	if (process->hidden)
		return false;
	if (extended && !process->ended && !process->in.paused &&
	    (process->in.credit_due || input_owes_credit(&process->in)))
		send_credit(process);
	/* Both in each round, so that neither starves the other. */
	if (send_output(&process->out) | send_output(&process->err))
		return true;
	if (!end_is_due(process))
		return false;
	if (room() < 2 * HEADER + 1)
		return true;
	send_frame(process->out.stream, NULL, 0);
	if (version_is_later)
		on_ended(process);
	else
		send_frame(process->out.stream, &process->status, 1);
	process->end_sent = true;
	if (!extended)
		process_forget(process);
	return false;
}

/* Fill the send buffer from the processes in turn; one with more to send goes to the end of the queue. */
static void compose(void)
{
	while (process_queue && room() >= HEADER + ROOM_WORTH) {
		struct process *process = process_queue;

		process_dequeue(process);
		if (send_process(process))
			process_enqueue(process);
	}
}

void mux_send(void)
{
	for (int i = 0; i < SENDS_PER_TURN; i++) {
		if (!channel_flush(&channel) || !process_queue)
			return;
		compose();
	}
	if (channel_flush(&channel) && process_queue)
		loop_again();
}

void mux_turn(void)
{
	channel_receive(&channel);
	mux_send();
}

bool mux_is_idle(void)
{
	return !process_queue && !channel_waiting(&channel);
}

static bool accepts(const uint8_t *frame, size_t length)
{
	struct process *process = process_by_stdio(get_be64(frame));

	/* Without HELLO there is no credit, so the whole channel stops when a process does not read. */
	return extended || !process || process->ended || length - HEADER <= input_room(&process->in);
}

static void resume(struct process *process, struct output *output, uint64_t position)
{
	position = MIN(MAX(position, output->consumed), output->head);
	output->paused = false;
	output_consumed(output, position);
	output->sent = position;
	if (output == &process->out) {
		process->in.paused = false;
		process->in.credit_due = true;
	}
	process_enqueue(process);
}

static void control_frame(const uint8_t *payload)
{
	uint64_t stream = get_be64(payload + 1), value = get_be64(payload + 9);
	struct output *output;
	struct process *process = process_by_stream(stream, &output);

	if (!stream || !process)
		return; /* the process was released already */
	if (payload[0] == CREDIT) {
		output_consumed(output, MIN(value, output->sent));
		process_enqueue(process); /* output_is_held may have stopped its output */
	} else if (payload[0] == CLOSE && !process->terminal)
		output_discard(output);
	else if (payload[0] == RELEASE && output == &process->out && process->ended)
		process_forget(process);
	else if (payload[0] == RESUME)
		resume(process, output, value);
}

static void frame(const uint8_t *frame, size_t length)
{
	uint64_t stream = get_be64(frame);
	struct process *process;

	if (extended && !stream) {
		if (length == HEADER + CONTROL_PAYLOAD)
			control_frame(frame + HEADER);
		return;
	}
	process = process_by_stdio(stream);
	if (!process) {
		if (!extended && room() >= HEADER)
			send_frame(stream, NULL, 0);
		return;
	}
	if (process->ended)
		return;
	if (length > HEADER)
		input_add(&process->in, frame + HEADER, length - HEADER);
	else if (!process->terminal)
		input_end(&process->in);
}

static void lost(void)
{
	console("guest agent: a stream frame has an impossible length; the channel is closed until the next takeover");
}

static void synced(void)
{
	for (struct process *process = processes; process; process = process->next) {
		process->out.paused = process->err.paused = process->in.paused = true;
		process->end_sent = false;
		process_dequeue(process);
	}
}

void mux_init(struct port port, void (*ended)(const struct process *process))
{
	static const struct channel_kind kind = {
		.header_size = HEADER,
		.length_offset = 8,
		.frame_max = FRAME_MAX,
		.send_max = SEND_SIZE + SYNC_SIZE,
		.accepts = accepts,
		.frame = frame,
		.lost = lost,
		.synced = synced,
	};

	on_ended = ended;
	channel_init(&channel, &kind, port);
}
