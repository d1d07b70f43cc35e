#include "wake.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

/* Of linux/random.h. */
enum { ADD_ENTROPY = 0x40085203, RESEED = 0x5207 };

enum { ENTROPY_SIZE = 64, NANOSECONDS = 1000000000 };

struct entropy { /* struct rand_pool_info */
	int bits, size;
	uint8_t bytes[ENTROPY_SIZE];
};

static bool reseed(const char *text)
{
	struct entropy entropy = {.bits = 8 * ENTROPY_SIZE, .size = ENTROPY_SIZE};
	bool done;
	int fd;

	if (!parse_hexadecimal(text, entropy.bytes, ENTROPY_SIZE))
		return fail("'entropy' has not %d hexadecimal digits", 2 * ENTROPY_SIZE);
	fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return fail("/dev/urandom: %s", strerror(errno));
	done = !ioctl(fd, ADD_ENTROPY, &entropy) && !ioctl(fd, RESEED);
	if (!done)
		fail("the random number generator: %s", strerror(errno));
	explicit_bzero(&entropy, sizeof entropy);
	close(fd);
	return done;
}

bool set_clock(uint64_t time)
{
	struct timespec now = {.tv_sec = (time_t)(time / NANOSECONDS), .tv_nsec = (long)(time % NANOSECONDS)};

	return !clock_settime(CLOCK_REALTIME, &now) || fail("the clock: %s", strerror(errno));
}

bool wake(const struct wake_spec *spec)
{
	return reseed(spec->entropy) && set_clock(spec->time);
}
