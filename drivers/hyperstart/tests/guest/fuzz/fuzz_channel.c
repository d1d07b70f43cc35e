/* Target of the fuzzer: how a channel is split into frames, and taken over.
 *
 * The lowest bit of an input's first byte chooses the channel; the rest arrives in pieces of random sizes. */
#include "channel.h"
#include "fuzz.h"

#include <sys/socket.h>
#include <unistd.h>

/* clang-format off */
const struct word fuzz_words[] = {
	WORD("\xffVCSYNC"), WORD("\xffVCSYNC\0\xff"), WORD("\0\0\0\x08"), WORD("\0\0\0\x0c"), WORD("\0\0\0\x10"), WORD("\0\0\1\0"),
	WORD("\0\x10\0\0"), WORD("\0\x10\0\1"), WORD("\0\1\0\0"), WORD("\xff\xff\xff\xff"), WORD("\0\0\0\0\0\0\0\x08"),
	WORD("\xffVCSYNC\0\xff\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), {NULL, 0},
};
/* clang-format on */

static struct channel channel;
static size_t taken_bytes;
static uint64_t sum;

static bool accepts(const uint8_t *frame, size_t length)
{
	return length && (frame[0] & 7 || below(4)); /* some are accepted later */
}

static void frame(const uint8_t *frame, size_t length)
{
	require(length >= channel.kind->header_size && length <= channel.kind->frame_max,
	        "a frame of an impossible length");
	for (size_t i = 0; i < length; i++)
		sum += frame[i];
}

static void taken(size_t count)
{
	taken_bytes += count;
}

static void nothing(void)
{
}

/* clang-format off */
static const struct channel_kind kinds[] = {
	{.header_size = 8, .length_offset = 4, .frame_max = 1 << 20, .send_max = 1 << 16, .accepts = accepts, .frame = frame,
	 .taken = taken, .lost = nothing, .synced = nothing},
	{.header_size = 12, .length_offset = 8, .frame_max = 65536, .send_max = 1 << 16, .accepts = accepts, .frame = frame,
	 .taken = taken, .lost = nothing, .synced = nothing},
};
/* clang-format on */

void fuzz_begin(const char *program)
{
	static const uint8_t token[TOKEN_SIZE];

	(void)program;
	loop_init();
	channel_set_token(token);
}

void fuzz_one(const uint8_t *bytes, size_t length)
{
	const struct channel_kind *kind = &kinds[length ? bytes[0] & 1 : 0];
	uint8_t ignored[4096];
	size_t sent = MIN(length, 1);
	int ends[2];

	require(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), "no sockets");
	channel_init(&channel, kind, (struct port){.fd = ends[0], .receipts = -1});
	taken_bytes = 0;
	while (sent < length) {
		size_t most = 1 + below(700);
		ssize_t count = write(ends[1], bytes + sent, MIN(most, length - sent));

		require(count > 0, "the agent does not read");
		sent += (size_t)count;
		channel.more = true;
		channel_receive(&channel);
		channel_flush(&channel);
		while (read(ends[1], ignored, sizeof ignored) > 0)
			;
	}
	close(ends[1]);
	channel.more = true;
	channel_receive(&channel);
	require(taken_bytes <= length, "more bytes are acknowledged than were sent");
	loop_close(&channel.watch);
	buffer_free(&channel.in);
	buffer_free(&channel.out);
}
