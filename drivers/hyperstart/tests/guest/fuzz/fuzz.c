/* A fuzzer for the guest agent's readers of bytes from outside: JSON, the structures of commands, frames on a channel.
 * fuzz SECONDS SEED [FIRST]  changes valid input at random, for SECONDS, and passes it to the agent's code, which is
 * compiled with the sanitizers. Each round depends only on SEED and its number, so one that fails is repeated by `fuzz 0
 * SEED NUMBER`. */
#include "channel.h"
#include "spec.h"

#include <sanitizer/common_interface_defs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { INPUT_MAX = 4096, CHANGES_MAX = 8 };

/* Valid input: the JSON of every command. */
static const char *const corpus[] = {
	"{\"hostname\":\"h\",\"shareDir\":\"s\",\"liveDir\":\"l\",\"writableDir\":\"w\",\"root\":\"r\",\"containers\":[{\"id\":"
	"\"c\",\"image\":\"i\",\"rootfs\":\"r\",\"process\":{\"stdio\":1,\"stderr\":2,\"args\":[\"a\"]}}],\"interfaces\":[{"
	"\"device\":\"eth0\",\"newDeviceName\":\"e\",\"ipAddress\":\"1.2.3.4\",\"netMask\":\"24\",\"ipAddresses\":[{"
	"\"ipAddress\":\"::1\",\"netMask\":\"64\"}],\"mtu\":1500}],\"routes\":[{\"dest\":\"any\",\"gateway\":\"1.2.3.1\","
	"\"device\":\"eth0\"}],\"dns\":[\"9.9.9.9\"],\"dnsSearch\":[\"x\"],\"dnsOptions\":[\"y\"],\"portmappingWhiteLists\":{"
	"\"internalNetworks\":[],\"externalNetworks\":null},\"restartPolicy\":\"never\"}",
	"{\"id\":\"c\",\"image\":\"vda\",\"addr\":\"0:1\",\"fstype\":\"ext4\",\"rootfs\":\"r\",\"overlay\":true,\"overlaySize\":7,"
	"\"initialize\":false,\"volumes\":[{\"device\":\"sda\",\"addr\":\"1:2\",\"mount\":\"/v\",\"fstype\":\"xfs\","
	"\"readOnly\":true,\"dockerVolume\":true}],\"fsmap\":[{\"source\":\"s\",\"path\":\"/p\",\"readOnly\":true,"
	"\"writable\":true,\"dockerVolume\":false}],\"sysctl\":{\"a.b\":\"1\",\"c\":\"\"},\"readOnly\":true,\"memory\":64,"
	"\"pids\":9,\"rlimits\":[{\"name\":\"core\",\"soft\":1,\"hard\":18446744073709551615}],\"capabilities\":["
	"\"CAP_CHOWN\",\"CAP_CHECKPOINT_RESTORE\"],\"noNewPrivs\":true,\"process\":{\"id\":\"p\",\"terminal\":true,\"rows\":24,"
	"\"columns\":80.0,\"noInput\":false,\"stdio\":9223372036854775807,\"stderr\":0,\"args\":[\"a\",\"\"],\"envs\":[{"
	"\"env\":\"A\",\"value\":\"\\u00e9\\ud83d\\ude00\\n\"}],\"workdir\":\"/\",\"user\":\"u\",\"group\":\"g\","
	"\"additionalGroups\":[\"x\"]},\"restartPolicy\":1,\"ports\":[{\"hostPort\":1}]}",
	"{\"container\":\"c\",\"process\":{\"stdio\":1,\"stderr\":2,\"args\":[\"a\",\"b\",\"c\"]},\"other\":[[[{}]]]}",
	"{\"container\":\"c\",\"process\":\"p\",\"signal\":\"9\"}",
	"{\"stdio\":12,\"signal\":15}",
	"{\"seq\":5,\"container\":\"c\",\"process\":\"p\",\"row\":1,\"column\":2e0}",
	"{\"version\":1,\"token\":\"000102030405060708090a0b0c0d0e0f\"}",
	"{\"container\":\"c\",\"file\":\"/etc/passwd\"}",
	"{\"routes\":[{\"dest\":\"default\",\"gateway\":\"\"},{\"dest\":\"10.0.0.0/8\",\"device\":\"e\"}]}",
	" [ null , true , false , -0.5e+10 , \"\\\"\\\\\\/\\b\\f\\n\\r\\t\" ] ",
};

/* Inserted at random: the tokens of the readers, and values at their limits. */
/* clang-format off */
static const char *const pieces[] = {
	"{", "}", "[", "]", ",", ":", "\"", "\\", "\\u", "\\ud800", "\\udc00", "\\u0000", "null", "true", "-", "0", ".", "e",
	"18446744073709551616", "9223372036854775808", "1e999", "\"\":", "\"id\":", "{}", "[]", "\xff", "\xc3\xa9", " ",
	"\xffVCSYNC", "[[[[[[[[[[[[[[[[[",
};
/* clang-format on */

/* The linker calls this instead of reboot(2): a fatal error of the agent must not power off the host. */
int __wrap_reboot(int how);
int __wrap_reboot(int how)
{
	fprintf(stderr, "fuzz: reboot(%#x)\n", (unsigned)how);
	abort();
}

static uint64_t state;

static uint64_t next_random(void)
{
	/* splitmix64 */
	uint64_t z = state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static size_t below(size_t limit)
{
	return limit ? next_random() % limit : 0;
}

struct input {
	uint8_t bytes[INPUT_MAX];
	size_t length;
};

/* Replace `gone` bytes by `count` others. */
static void replace(struct input *input, size_t at, size_t gone, const void *bytes, size_t count)
{
	gone = MIN(gone, input->length - at);
	if (input->length - gone + count > INPUT_MAX)
		return;
	memmove(input->bytes + at + count, input->bytes + at + gone, input->length - at - gone);
	memcpy(input->bytes + at, bytes, count);
	input->length = input->length - gone + count;
}

static void change(struct input *input)
{
	size_t at = below(input->length + 1), count = below(40);
	const char *piece = pieces[below(COUNT(pieces))], *other = corpus[below(COUNT(corpus))];
	uint8_t copy[40], byte = (uint8_t)next_random();

	switch (below(6)) {
	case 0:
		replace(input, at, 1, &byte, 1);
		break;
	case 1:
		replace(input, at, 0, piece, strlen(piece));
		break;
	case 2:
		replace(input, at, count, piece, strlen(piece));
		break;
	case 3: /* forget */
		replace(input, at, count, "", 0);
		break;
	case 4: /* repeat */
		count = MIN(count, input->length - at);
		memcpy(copy, input->bytes + at, count);
		replace(input, below(input->length + 1), 0, copy, count);
		break;
	default: /* a part of another */
		count = MIN(count, strlen(other));
		replace(input, at, 0, other + below(strlen(other) - count + 1), count);
	}
}

static void make_input(struct input *input)
{
	const char *good = corpus[below(COUNT(corpus))];

	input->length = strlen(good);
	memcpy(input->bytes, good, input->length);
	for (size_t changes = below(CHANGES_MAX + 1); changes; changes--)
		change(input);
}

static uint64_t seed, number;

static void died(void)
{
	fprintf(stderr, "fuzz: died in round %llu; repeat it by: fuzz 0 %llu %llu\n", (unsigned long long)number,
	        (unsigned long long)seed, (unsigned long long)number);
}

static void require(bool condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "fuzz: %s\n", what);
	died();
	abort();
}

/* Read every string of a value, as the agent does. */
static size_t weigh(const struct json *value)
{
	struct buffer text = {.limit = 6 * INPUT_MAX + 2};
	size_t weight = 0;

	for (; value; value = value->next) {
		weight += (value->key ? strlen(value->key) : 0) + weigh(value->child);
		if (value->type == JSON_STRING || value->type == JSON_NUMBER) {
			json_write_string(&text, value->text);
			require(!text.overflown, "a string grew");
			text.length = 0;
		}
	}
	buffer_free(&text);
	return weight;
}

/* Check what holds of each container that was read without failure. */
static void check_container(const struct container_spec *container)
{
	size_t total = strlen(container->id) + strlen(container->image.name) + strlen(container->rootfs);

	for (const char **arg = container->process.args; *arg; arg++)
		total += strlen(*arg);
	for (const struct variable *variable = container->process.envs; variable && variable->name; variable++)
		require(strchr(variable->text, '='), "a variable without a value");
	for (const struct mapping *mapping = container->mappings; mapping && mapping->path; mapping++)
		total += strlen(mapping->source);
	for (const struct mapping *volume = container->volumes; volume && volume->path; volume++)
		total += strlen(volume->disk.name) + strlen(volume->disk.fstype);
	for (const struct limit *limit = container->bounds.limits; limit && limit->name; limit++)
		total += strlen(limit->name);
	require(total < INPUT_MAX && *container->id && container->process.args[0], "an invalid container was accepted");
}

union spec {
	struct pod_spec pod;
	struct container_spec container;
	struct exec_spec exec;
	struct kill_spec kill;
	struct signal_spec signal;
	struct size_spec size;
	struct hello_spec hello;
	struct name_spec name;
	struct file_spec file;
	struct interface interface;
	struct routes_spec routes;
};

static void read_as_every_command(struct message *message)
{
	union spec spec;

	if (read_container(message, &spec.container))
		check_container(&spec.container);
	if (read_pod(message, &spec.pod))
		for (const struct container_spec *each = spec.pod.containers; each && each->id; each++)
			check_container(each);
	if (read_exec(message, &spec.exec))
		require(spec.exec.process.args[0], "an exec without a command");
	if (read_kill(message, &spec.kill))
		require(*spec.kill.container, "a signal for no container");
	if (read_hello(message, &spec.hello))
		require(*spec.hello.token, "a hello without a token");
	read_signal(message, &spec.signal);
	read_size(message, &spec.size);
	read_name(message, &spec.name);
	read_file(message, &spec.file);
	read_interface(message, &spec.interface);
	read_routes(message, &spec.routes);
}

static void fuzz_commands(void)
{
	struct message message;
	struct input input;
	uint8_t *exact;

	make_input(&input);
	exact = malloc(input.length + !input.length); /* so that the sanitizer finds a read past the end */
	memcpy(exact, input.bytes, input.length);
#ifdef PLANTED_ERROR
	require(exact[input.length] != PLANTED_ERROR, "found");
#endif
	failure.reason[0] = 0;
	if (message_read(&message, exact, input.length)) {
		weigh(message.root);
		read_as_every_command(&message);
	} else {
		require(failure.reason[0], "a failure without a reason");
	}
	message_free(&message);
	free(exact);
}

/* The channel under test, as the control channel and as that of streams. */
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

/* Valid frames and markers, with changes. */
static void make_frames(const struct channel_kind *kind, struct input *input)
{
	static const uint8_t marker[SYNC_SIZE] = {0xff, 'V', 'C', 'S', 'Y', 'N', 'C', 0, 0xff};

	input->length = 0;
	for (size_t frames = 1 + below(12); frames; frames--) {
		uint8_t bytes[300] = {(uint8_t)next_random()};
		size_t length = kind->header_size + below(sizeof bytes - kind->header_size);

		put_be32(bytes + kind->length_offset, (uint32_t)length);
		if (below(4))
			replace(input, input->length, 0, bytes, length);
		else
			replace(input, input->length, 0, marker, sizeof marker);
	}
	for (size_t changes = below(3); changes; changes--)
		change(input);
}

static void fuzz_channel(void)
{
	const struct channel_kind *kind = &kinds[below(COUNT(kinds))];
	struct input input;
	uint8_t ignored[4096];
	size_t sent = 0;
	int ends[2];

	require(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), "no sockets");
	make_frames(kind, &input);
	channel_init(&channel, kind, (struct port){.fd = ends[0], .receipts = -1});
	taken_bytes = 0;
	while (sent < input.length) {
		size_t most = 1 + below(700);
		ssize_t count = write(ends[1], input.bytes + sent, MIN(most, input.length - sent));

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
	require(taken_bytes <= input.length, "more bytes are acknowledged than were sent");
	loop_close(&channel.watch);
	buffer_free(&channel.in);
	buffer_free(&channel.out);
}

int main(int argc, char **argv)
{
	static const uint8_t token[TOKEN_SIZE];
	int64_t end;

	if (argc < 3)
		return 2;
	end = milliseconds() + 1000 * atoll(argv[1]);
	seed = strtoull(argv[2], NULL, 10);
	number = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;
	__sanitizer_set_death_callback(died);
	loop_init();
	channel_set_token(token);
	do {
		state = seed ^ number * 0x2545f4914f6cdd1d;
		if (number % 4)
			fuzz_commands();
		else
			fuzz_channel();
		number++;
	} while (milliseconds() < end);
	printf("%llu rounds\n", (unsigned long long)number);
	return 0;
}
