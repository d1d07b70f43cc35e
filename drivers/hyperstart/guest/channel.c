#include "channel.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
	READ_SIZE = 16384,     /* a virtio port hands over 4 KiB at a time */
	READS_PER_TURN = 16,   /* then the other channel is served */
	IDLE_CAPACITY = 32768, /* what a send buffer has at first, and keeps when it is empty */
};

/* Bytes that are in no text (0xff is not UTF-8), followed by the token. */
static uint8_t marker[MARKER_SIZE] = {0xff, 'V', 'C', 'S', 'Y', 'N', 'C', 0x00, 0xff};
static size_t marker_border[MARKER_SIZE + 1]; /* Knuth-Morris-Pratt: longest border of each prefix */
static bool have_token;

void channel_set_token(const uint8_t token[TOKEN_SIZE])
{
	size_t border = 0;

	memcpy(marker + MARKER_SIZE - TOKEN_SIZE, token, TOKEN_SIZE);
	for (size_t i = 1; i < MARKER_SIZE; i++) {
		while (border && marker[i] != marker[border])
			border = marker_border[border];
		border += marker[i] == marker[border];
		marker_border[i + 1] = border;
	}
	have_token = true;
}

/* Search `count` new bytes for the marker. Returns how many of them end with its last occurrence and the nonce after it,
 * or 0 if it is not in them. */
static size_t find_sync(struct channel *channel, const uint8_t *bytes, size_t count)
{
	size_t end = 0;

	for (size_t i = 0; i < count; i++) {
		if (!channel->matched && !channel->nonce_left) { /* nearly always: skip to where a marker may begin */
			const uint8_t *first = memchr(bytes + i, marker[0], count - i);

			if (!first)
				break;
			i = (size_t)(first - bytes);
		}
		if (channel->nonce_left) {
			channel->nonce[NONCE_SIZE - channel->nonce_left--] = bytes[i];
			if (!channel->nonce_left)
				end = i + 1;
		}
		while (channel->matched && bytes[i] != marker[channel->matched])
			channel->matched = marker_border[channel->matched];
		channel->matched += bytes[i] == marker[channel->matched];
		if (channel->matched == MARKER_SIZE) {
			channel->matched = marker_border[MARKER_SIZE];
			channel->nonce_left = NONCE_SIZE;
		}
	}
	return end;
}

static void ready(struct watch *watch, uint32_t events)
{
	struct channel *channel = OWNER(watch, struct channel, watch);

	if (events & (EPOLLIN | EPOLLHUP))
		channel->more = true;
	/* EPOLLOUT needs no flag: every turn of the loop ends with a flush. */
}

void channel_init(struct channel *channel, const struct channel_kind *kind, struct port port)
{
	*channel = (struct channel){
		.watch = {.fd = port.fd, .ready = ready},
		.kind = kind,
		.receipts = port.receipts,
		.in.limit = kind->frame_max + READ_SIZE,
		.out.limit = kind->send_max,
		.more = true,
	};
	/* Allocated here so that frames of streams and the echo of a marker, which are sent when the buffer is nearly
	 * empty, cannot fail for lack of memory. */
	if (!buffer_reserve(&channel->in, READ_SIZE) || !buffer_reserve(&channel->out, IDLE_CAPACITY) ||
	    !loop_watch(&channel->watch, EPOLLIN | EPOLLOUT))
		fatal("guest agent: cannot watch a channel: %s", strerror(errno));
}

static void forget_input(struct channel *channel)
{
	channel->in.length = channel->in_used = channel->in_reported = 0;
	buffer_shrink(&channel->in, READ_SIZE);
}

static void report_taken(struct channel *channel, size_t count)
{
	if (count > channel->in_reported && channel->kind->taken)
		channel->kind->taken(count - channel->in_reported);
	channel->in_reported = MAX(channel->in_reported, count);
}

static void drop_input(struct channel *channel)
{
	report_taken(channel, channel->in.length - channel->in_used);
	forget_input(channel);
}

static void lose(struct channel *channel)
{
	channel->lost = true;
	channel->kind->lost();
}

/* Handle the whole frames in the receive buffer. */
static void handle_frames(struct channel *channel)
{
	const struct channel_kind *kind = channel->kind;
	struct buffer *in = &channel->in;

	while (!channel->lost) {
		const uint8_t *frame = in->data + channel->in_used;
		size_t left = in->length - channel->in_used;
		size_t length;

		if (left < kind->header_size)
			break;
		length = get_be32(frame + kind->length_offset);
		if (length < kind->header_size || length > kind->frame_max) {
			lose(channel);
			break;
		}
		if (left < length)
			break;
		if (!kind->accepts(frame, length))
			return;
		report_taken(channel, length);
		kind->frame(frame, length);
		channel->in_used += length;
		channel->in_reported -= length;
	}
	if (channel->lost || channel->in_used == in->length)
		drop_input(channel);
	else
		report_taken(channel, in->length - channel->in_used);
}

/* Make room to read: move the unfinished frame to the front. False if the buffer is full of frames that were not
 * accepted. */
static bool make_room(struct channel *channel)
{
	struct buffer *in = &channel->in;

	if (channel->in_used) {
		in->length -= channel->in_used;
		memmove(in->data, in->data + channel->in_used, in->length);
		channel->in_used = 0;
	}
	if (in->limit - in->length < READ_SIZE)
		return false;
	if (!buffer_reserve(in, READ_SIZE)) {
		lose(channel);
		drop_input(channel);
	}
	return true;
}

static void take_over(struct channel *channel)
{
	channel->lost = false;
	channel->out.length = channel->out_sent = 0;
	channel_send(channel, marker, MARKER_SIZE);
	channel_send(channel, channel->nonce, NONCE_SIZE);
	channel->kind->synced();
}

static void received(struct channel *channel, size_t count)
{
	struct buffer *in = &channel->in;
	uint8_t *fresh = in->data + in->length;
	size_t synced = have_token ? find_sync(channel, fresh, count) : 0;

	in->length += count;
	if (synced) {
		in->length = count - synced;
		memmove(in->data, fresh + synced, in->length);
		channel->in_used = channel->in_reported = 0;
		take_over(channel);
	}
	handle_frames(channel);
}

/* The write does not block: the host sends only a few KiB before it has read the receipts of what it sent. */
static void give_receipt(const struct channel *channel, uint32_t count)
{
	uint8_t receipt[4];

	put_be32(receipt, count);
	if (channel->receipts >= 0 && write(channel->receipts, receipt, sizeof receipt) != sizeof receipt)
		console("guest agent: a receipt is lost: %s", strerror(errno));
}

/* The host has closed its end. Keep the whole frames that were read; drop the part of the last one. */
static void disconnected(struct channel *channel)
{
	const struct channel_kind *kind = channel->kind;
	struct buffer *in = &channel->in;
	size_t end = channel->in_used;

	while (in->length - end >= kind->header_size) {
		size_t length = get_be32(in->data + end + kind->length_offset);

		if (length < kind->header_size || length > in->length - end)
			break;
		end += length;
	}
	in->length = end;
	channel->in_reported = MIN(channel->in_reported, end - channel->in_used);
	channel->matched = channel->nonce_left = 0;
	channel->lost = false;
}

void channel_receive(struct channel *channel)
{
	handle_frames(channel);
	for (int i = 0; channel->more && i < READS_PER_TURN; i++) {
		ssize_t count;

		if (!make_room(channel))
			return;
		count = read(channel->watch.fd, channel->in.data + channel->in.length, READ_SIZE);
		if (count > 0) {
			give_receipt(channel, (uint32_t)count);
			received(channel, (size_t)count);
			continue;
		}
		if (count < 0 && errno == EINTR)
			continue;
		channel->more = false;
		if (!count)
			disconnected(channel);
	}
	if (channel->more)
		loop_again();
}

bool channel_send(struct channel *channel, const void *bytes, size_t count)
{
	return buffer_add(&channel->out, bytes, count);
}

bool channel_send_frame(struct channel *channel, const void *header, const void *payload, size_t length)
{
	size_t size = channel->kind->header_size;

	return buffer_reserve(&channel->out, size + length) && channel_send(channel, header, size) &&
	       channel_send(channel, payload, length);
}

size_t channel_waiting(const struct channel *channel)
{
	return channel->out.length - channel->out_sent;
}

bool channel_flush(struct channel *channel)
{
	struct buffer *out = &channel->out;

	if (!out->length)
		return true;
	while (channel->out_sent < out->length) {
		ssize_t count = write(channel->watch.fd, out->data + channel->out_sent, out->length - channel->out_sent);

		if (count < 0 && errno == EINTR)
			continue;
		if (count <= 0)
			return false; /* no host, or one that does not read: EPOLLOUT reports when that changes */
		channel->out_sent += (size_t)count;
	}
	out->length = channel->out_sent = 0;
	buffer_shrink(out, IDLE_CAPACITY);
	if (channel->in.length)
		loop_again(); /* a frame may not have been accepted until now */
	return true;
}
