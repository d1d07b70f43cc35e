/* wake PORT HOST-KEY AUTHORIZED-KEYS: wait for what the host sends to a guest before its SSH daemon starts.
 *
 * PORT is the name of a virtio port. Each message of the host is a struct header and then two files, all numbers with
 * the highest byte first. Its entropy goes to the kernel's random number generator, its time to the clock, and its
 * files to the paths HOST-KEY and AUTHORIZED-KEYS. The answer is one line: "ok", or what failed. After a message with
 * files the program ends; one without files is for a guest that will be saved, and whose clones wait here for theirs. */

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define PORTS "/sys/class/virtio-ports"

/* Of linux/random.h, which musl-gcc does not find. */
enum { ADD_ENTROPY = 0x40085203, RESEED = 0x5207 };

enum { ENTROPY_SIZE = 64, FILES = 2, FILES_MAX = 16384, NANOSECONDS = 1000000000, REASON_SIZE = 256, PAUSE = 5 /* ms */ };

enum { TRIES = 50 }; /* of an answer */

struct header {
	uint64_t time; /* nanoseconds since the epoch */
	uint8_t entropy[ENTROPY_SIZE];
	uint32_t sizes[FILES]; /* bytes */
};

_Static_assert(sizeof(struct header) == 8 + ENTROPY_SIZE + 4 * FILES, "the host packs it without gaps");

struct message {
	struct header header;
	uint8_t files[FILES_MAX];
};

static char reason[REASON_SIZE];

/* Note why something failed. Returns false. */
static bool fail(const char *what)
{
	snprintf(reason, sizeof reason, "%s: %s", what, strerror(errno));
	return false;
}

/* Open the port with a name, for which the kernel may still wait. */
static int open_port(const char *wanted)
{
	char path[sizeof PORTS + 256], name[128];
	DIR *ports = opendir(PORTS);
	int fd = -1;

	if (!ports)
		return -1;
	for (struct dirent *entry; fd < 0 && (entry = readdir(ports));) {
		FILE *file;

		snprintf(path, sizeof path, PORTS "/%.48s/name", entry->d_name);
		file = fopen(path, "re");
		if (!file)
			continue;
		if (fgets(name, sizeof name, file) && !strncmp(name, wanted, strlen(wanted)) &&
		    name[strlen(wanted)] == '\n') {
			snprintf(path, sizeof path, "/dev/%.48s", entry->d_name);
			fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
		}
		fclose(file);
	}
	closedir(ports);
	return fd;
}

static size_t files_size(const struct header *header)
{
	return (size_t)be32toh(header->sizes[0]) + be32toh(header->sizes[1]);
}

/* Receive a whole message. What a host has begun and not finished is dropped when it closes its end. */
static bool receive(int port, int events, struct message *message)
{
	size_t length = 0, wanted = sizeof message->header;

	while (length < wanted) {
		ssize_t count = read(port, (uint8_t *)message + length, wanted - length);

		if (count > 0) {
			length += (size_t)count;
			if (length != sizeof message->header)
				continue;
			if (files_size(&message->header) > FILES_MAX) {
				errno = EMSGSIZE;
				return fail("the message");
			}
			wanted += files_size(&message->header);
			continue;
		}
		if (count < 0 && errno != EAGAIN)
			return fail("the port");
		if (!count) /* no host */
			length = 0, wanted = sizeof message->header;
		if (epoll_wait(events, &(struct epoll_event){0}, 1, -1) < 0 && errno != EINTR)
			return fail("the port");
	}
	return true;
}

/* Send a line. The kernel may have passed on a message before its worker noted that a host is there; until then it refuses
 * what is written. It does so as well when that host has gone, so this gives up soon. */
static bool answer(int port, const char *text)
{
	char line[REASON_SIZE + 1];
	int length = snprintf(line, sizeof line, "%s\n", text);
	ssize_t count;

	for (int tries = TRIES; (count = write(port, line, (size_t)length)) < 0 && errno == EAGAIN && tries; tries--)
		poll(NULL, 0, PAUSE);
	return count == length;
}

static bool reseed(const uint8_t *bytes)
{
	struct { /* struct rand_pool_info */
		int bits, size;
		uint8_t bytes[ENTROPY_SIZE];
	} entropy = {.bits = 8 * ENTROPY_SIZE, .size = ENTROPY_SIZE};
	int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
	bool done;

	memcpy(entropy.bytes, bytes, ENTROPY_SIZE);
	done = fd >= 0 && !ioctl(fd, ADD_ENTROPY, &entropy) && !ioctl(fd, RESEED);
	if (!done)
		fail("the random number generator");
	explicit_bzero(&entropy, sizeof entropy);
	if (fd >= 0)
		close(fd);
	return done;
}

static bool set_clock(uint64_t nanoseconds)
{
	struct timespec now = {(time_t)(nanoseconds / NANOSECONDS), (long)(nanoseconds % NANOSECONDS)};

	return !clock_settime(CLOCK_REALTIME, &now) || fail("the clock");
}

static bool write_file(const char *path, const uint8_t *bytes, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	bool done = fd >= 0 && write(fd, bytes, size) == (ssize_t)size;

	if (!done)
		fail(path);
	if (fd >= 0)
		close(fd);
	return done;
}

static bool apply(const struct message *message, char *const *paths)
{
	const uint8_t *bytes = message->files;

	if (!reseed(message->header.entropy) || !set_clock(be64toh(message->header.time)))
		return false;
	for (int i = 0; i < FILES && files_size(&message->header); i++) {
		size_t size = be32toh(message->header.sizes[i]);

		if (!write_file(paths[i], bytes, size))
			return false;
		bytes += size;
	}
	return true;
}

int main(int argc, char **argv)
{
	static struct message message;
	bool last = false;
	int port, events = epoll_create1(EPOLL_CLOEXEC);

	if (argc != 2 + FILES || events < 0)
		return 2;
	while ((port = open_port(argv[1])) < 0) /* the kernel has not yet got the port's name */
		poll(NULL, 0, PAUSE);
	/* Reports each change once: a port without a host is always ready. */
	if (epoll_ctl(events, EPOLL_CTL_ADD, port, &(struct epoll_event){.events = EPOLLIN | EPOLLET}))
		return 1;
	while (!last) {
		bool done, answered;

		if (!receive(port, events, &message))
			break;
		done = apply(&message, argv + 2);
		answered = answer(port, done ? "ok" : reason); /* not if the host has closed its end: it comes again */
		last = done && answered && files_size(&message.header);
		explicit_bzero(&message, sizeof message);
	}
	if (!last)
		fprintf(stderr, "wake: %s\n", reason);
	return !last;
}
