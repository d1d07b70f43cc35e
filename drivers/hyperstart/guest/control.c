#include "control.h"

#include "channel.h"
#include "commands.h"
#include "dialect.h"
#include "mux.h"
#include "pod.h"

enum {
	HEADER = 8,            /* u32 code, u32 length with header */
	FRAME_MAX = 1 << 20,
	SEND_MAX = 2 << 20,    /* an answer, and events that a host has not read */
	UNREAD_MAX = 16384,    /* no further command is read while so much output is unsent */
	FLUSH_GRACE = 300,     /* milliseconds before power-off for the host to read the last output */
};

static const struct buffer nothing;

static struct channel channel;
static bool unanswered; /* the host that requested a start has not been answered */

/* The phases from DESTROYPOD to power-off, in order. */
static enum { ENDING, FLUSHING, FLUSHED } phase;

static void send_frame(uint32_t code, const void *payload, size_t length)
{
	uint8_t header[HEADER];

	put_be32(header, code);
	put_be32(header + 4, (uint32_t)(HEADER + length));
	if (!channel_send_frame(&channel, header, payload, length))
		console("guest agent: an answer of %zu bytes is dropped, because the host does not read", length);
}

static void send_failure(void)
{
	struct buffer text = {.limit = FRAME_MAX};

	json_write(&text, "{\"reason\":");
	json_write_string(&text, failure.reason);
	if (failure.exit_code)
		json_write(&text, ",\"exit_code\":%d", failure.exit_code);
	json_write(&text, "}");
	send_frame(ERROR, text.data, text.overflown ? 0 : text.length);
	buffer_free(&text);
}

static void answer(enum outcome outcome, const struct buffer *reply)
{
	if (outcome == LATER)
		unanswered = true;
	else if (outcome == FAILED && extended)
		send_failure();
	else
		send_frame(outcome == DONE ? ACK : ERROR, reply->data, reply->length);
}

static bool accepts(const uint8_t *frame, size_t length)
{
	(void)frame;
	(void)length;
	return !command_waits() && !destroy_requested && channel_waiting(&channel) < UNREAD_MAX;
}

static void frame(const uint8_t *frame, size_t length)
{
	struct buffer reply = {.limit = FRAME_MAX - HEADER};

	answer(command_perform(get_be32(frame), frame + HEADER, length - HEADER, &reply), &reply);
	buffer_free(&reply);
}

/* The original's flow control: NEXT reports to the host how many of its bytes were read. */
static void taken(size_t count)
{
	uint8_t bytes[4];

	if (extended)
		return;
	put_be32(bytes, (uint32_t)count);
	send_frame(NEXT, bytes, sizeof bytes);
}

static void lost(void)
{
	fail("a command's length is impossible; the channel is closed until the next takeover");
	answer(FAILED, &nothing);
}

static void synced(void)
{
	unanswered = false;
}

void control_started(struct process *process)
{
	enum outcome outcome = command_started(process);

	if (outcome == LATER || !unanswered)
		return;
	unanswered = false;
	answer(outcome, &nothing);
}

void control_ended(const struct process *process)
{
	struct buffer text = {.limit = FRAME_MAX - HEADER};

	json_write(&text, "{\"container\":");
	json_write_string(&text, process->container_id);
	json_write(&text, ",\"process\":");
	json_write_string(&text, process->id);
	json_write(&text, ",\"event\":\"finished\",\"status\":%d}", process->status);
	if (text.overflown)
		console("guest agent: no memory to report the end of a process");
	else
		send_frame(PROCESSASYNCEVENT, text.data, text.length);
	buffer_free(&text);
}

/* As an original agent does: report that the last container has ended, and end the pod. */
static void finish_pod(void)
{
	struct buffer statuses = {.limit = FRAME_MAX};

	for (struct container *container = containers; container; container = container->next) {
		uint8_t bytes[4];

		put_be32(bytes, container->status);
		buffer_add(&statuses, bytes, sizeof bytes);
	}
	send_frame(PODFINISHED, statuses.data, statuses.length);
	buffer_free(&statuses);
	pod_end();
}

static void end_flush(void)
{
	phase = FLUSHED;
}

/* Power off once all processes have ended and the host has read all output, or after FLUSH_GRACE. */
static void advance_phase(void)
{
	if (phase == ENDING && pod_is_gone()) {
		phase = FLUSHING;
		loop_alarm(FLUSH_GRACE, end_flush);
	}
	if (phase == FLUSHING && (extended ? !processes : mux_is_idle()))
		phase = FLUSHED;
	if (phase != FLUSHED)
		return;
	pod_save();
	answer(DONE, &nothing);
	channel_flush(&channel);
	power_off();
}

void control_turn(void)
{
	channel_receive(&channel);
	if (!extended && !version_is_later && !destroy_requested && !command_waits() && containers && !containers_running())
		finish_pod();
	if (destroy_requested)
		advance_phase();
	if (channel_flush(&channel) && off_after_answer)
		power_off();
}

void control_init(struct port port)
{
	static const struct channel_kind kind = {
		.header_size = HEADER,
		.length_offset = 4,
		.frame_max = FRAME_MAX,
		.send_max = SEND_MAX,
		.accepts = accepts,
		.frame = frame,
		.taken = taken,
		.lost = lost,
		.synced = synced,
	};

	channel_init(&channel, &kind, port);
	send_frame(READY, NULL, 0);
}
