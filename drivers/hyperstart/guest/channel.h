/* One of the two channels to the host: frames in, bytes out, and the sync marker by which a new host takes it over. */
#ifndef CHANNEL_H
#define CHANNEL_H

#include "boot.h"
#include "loop.h"

/* What differs between the control and the stream channel. */
struct channel_kind {
	size_t header_size, length_offset; /* the length is a big-endian u32 that counts the header */
	size_t frame_max;
	size_t send_max; /* bytes that may wait to be sent */

	/* Whether this frame can be handled now; if not, it and what follows waits. Asked again every turn. */
	bool (*accepts)(const uint8_t *frame, size_t length);

	/* Handle one frame. */
	void (*frame)(const uint8_t *frame, size_t length);

	/* `count` more bytes were taken from the host; called before `frame` for the bytes of it that are not yet told. */
	void (*taken)(size_t count);

	/* A frame's length makes no sense (or memory for it is lacking): what follows is dropped until a sync or the
	 * end of the connection. */
	void (*lost)(void);

	/* The marker came: a new host, at a frame boundary. */
	void (*synced)(void);
};

/* The sync marker: nine fixed bytes and the boot's token; then a number that names one takeover. */
enum { TOKEN_SIZE = 16, MARKER_SIZE = 9 + TOKEN_SIZE, NONCE_SIZE = 8, SYNC_SIZE = MARKER_SIZE + NONCE_SIZE };

struct channel {
	struct watch watch;
	const struct channel_kind *kind;
	int receipts; /* where the host is told what was read; -1 if it does not want to know */
	struct buffer in;
	size_t in_used; /* bytes of `in` that frames before took */
	size_t in_told; /* bytes after those that `taken` already told */
	bool lost; /* drop what comes */
	bool more; /* the device may hold more input */
	size_t matched; /* bytes of the sync marker seen last */
	size_t nonce_left; /* bytes that belong to a marker seen, and are still to come */
	uint8_t nonce[NONCE_SIZE];
	struct buffer out;
	size_t out_sent;
};

/* From now on look for the marker with this boot's token. */
void channel_set_token(const uint8_t token[TOKEN_SIZE]);

void channel_init(struct channel *channel, const struct channel_kind *kind, struct port port);

/* Handle what waits, and read and handle what is there; once per turn of the loop. */
void channel_receive(struct channel *channel);

/* Queue bytes, or a header and its payload; nothing of it, and false, if too many wait already. */
bool channel_send(struct channel *channel, const void *bytes, size_t count);
bool channel_send_frame(struct channel *channel, const void *header, const void *payload, size_t length);
size_t channel_waiting(const struct channel *channel);

/* Write as much as the host takes now. Returns true if nothing waits any more. */
bool channel_flush(struct channel *channel);

#endif
