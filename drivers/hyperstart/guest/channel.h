/* One of the two channels to the host: it splits input into frames, buffers output, and finds the sync marker by which a
 * new host takes it over. */
#ifndef CHANNEL_H
#define CHANNEL_H

#include "boot.h"
#include "loop.h"

/* What differs between the control and the stream channel. */
struct channel_kind {
	size_t header_size, length_offset; /* the length is a big-endian u32 that counts the header */
	size_t frame_max;
	size_t send_max; /* bytes of output that are buffered at most */

	/* Return whether this frame can be handled now; if not, it stays buffered, and is offered again every turn. */
	bool (*accepts)(const uint8_t *frame, size_t length);

	/* Handle one frame. */
	void (*frame)(const uint8_t *frame, size_t length);

	/* `count` more bytes of the host were taken. Called before `frame` for those of its bytes that were not yet
	 * reported. */
	void (*taken)(size_t count);

	/* A frame's length is impossible (or there is no memory for it): input is dropped until a sync or the end of the
	 * connection. */
	void (*lost)(void);

	/* The sync marker was read: from here a new host sends, beginning with a whole frame. */
	void (*synced)(void);
};

/* The sync marker: nine fixed bytes and the boot's token, followed by a nonce that identifies one takeover. */
enum { TOKEN_SIZE = 16, MARKER_SIZE = 9 + TOKEN_SIZE, NONCE_SIZE = 8, SYNC_SIZE = MARKER_SIZE + NONCE_SIZE };

struct channel {
	struct watch watch;
	const struct channel_kind *kind;
	int receipts; /* see struct port */
	struct buffer in;
	size_t in_used; /* bytes at the start of `in` that belong to frames already handled */
	size_t in_reported; /* bytes after those for which `taken` was already called */
	bool lost; /* input is dropped */
	bool more; /* the device may hold more input */
	size_t matched; /* length of the longest prefix of the sync marker with which the input ends */
	size_t nonce_left; /* bytes of a nonce that are still to be read */
	uint8_t nonce[NONCE_SIZE];
	struct buffer out;
	size_t out_sent;
};

/* Called at the boot's first HELLO: from now on search the input for the marker with this token. */
void channel_set_token(const uint8_t token[TOKEN_SIZE]);

void channel_init(struct channel *channel, const struct channel_kind *kind, struct port port);

/* Handle buffered frames, then read and handle input; called once per turn of the loop. */
void channel_receive(struct channel *channel);

/* Append bytes, or a header and its payload, to the output. False, and nothing is appended, if it does not all fit. */
bool channel_send(struct channel *channel, const void *bytes, size_t count);
bool channel_send_frame(struct channel *channel, const void *header, const void *payload, size_t length);
size_t channel_waiting(const struct channel *channel);

/* Write as much as the host takes now. Returns true if no output is left. */
bool channel_flush(struct channel *channel);

#endif
