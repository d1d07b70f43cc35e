/* A fuzzer for the guest agent: it changes inputs at random, and keeps those that reach code which none before has reached, or
 * reach it more often.
 *
 *     fuzz SECONDS SEED FOUND [FILE...]
 *
 * First each FILE is an input, then inputs are made of them for SECONDS. The file FOUND holds the present input, so also one
 * that ends in a crash, in a failed check, or in more than TIMEOUT seconds; after a good end it is empty. `fuzz 0 0 COPY
 * FILE` repeats a finding. */
#include "fuzz.h"

#include <fcntl.h>
#include <sanitizer/common_interface_defs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHANGES_MAX = 8, PIECE_MAX = 256, KEPT_MAX = 8192, EDGES = 16384, TIMEOUT = 20 };

struct input {
	size_t length;
	uint8_t bytes[INPUT_MAX];
};

static struct input *kept[KEPT_MAX];
static size_t kept_count, given_count;

/* Shared with the processes that a target makes, and with the file FOUND. */
static struct {
	uint8_t counts[EDGES]; /* how often the present input has reached each edge */
	uint8_t reached[EDGES]; /* a bit for each of eight ranges of such counts, of all inputs */
	bool died;
} *shared;
static int found_file = -1;

static bool counting;
static uintptr_t previous;

/* Called at each branch of the instrumented code. */
void __sanitizer_cov_trace_pc(void);
__attribute__((no_sanitize_coverage, no_sanitize("address", "undefined"))) void __sanitizer_cov_trace_pc(void)
{
	uintptr_t here = (uintptr_t)__builtin_return_address(0);
	size_t edge = (here ^ previous) % EDGES;

	if (!counting)
		return;
	previous = here >> 1;
	if (shared->counts[edge] < UINT8_MAX)
		shared->counts[edge]++;
}

/* Add the counts of an input to what was reached. True if it is the first one to reach an edge about so often. */
__attribute__((no_sanitize_coverage, no_sanitize("address", "undefined"))) static bool reaches_more(void)
{
	bool more = false;

	for (size_t i = 0; i < EDGES; i++) {
		uint8_t bit = 0;

		if (!shared->counts[i])
			continue;
		while (shared->counts[i] >> (bit + 1))
			bit++;
		more |= !(shared->reached[i] >> bit & 1);
		shared->reached[i] |= (uint8_t)(1 << bit);
	}
	return more;
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

size_t below(size_t limit)
{
	return limit ? next_random() % limit : 0;
}

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

static const struct word *some_word(void)
{
	size_t count = 0;

	while (fuzz_words[count].bytes)
		count++;
	return &fuzz_words[below(count)];
}

static void change(struct input *input)
{
	size_t at = below(input->length + 1), count = below(PIECE_MAX);
	const struct word *word = some_word();
	const struct input *other = kept[below(kept_count)];
	uint8_t copy[PIECE_MAX], byte = (uint8_t)next_random();

	switch (below(7)) {
	case 0:
		replace(input, at, 1, &byte, 1);
		break;
	case 1:
		replace(input, at, 0, word->bytes, word->length);
		break;
	case 2:
		replace(input, at, count, word->bytes, word->length);
		break;
	case 3: /* forget */
		replace(input, at, count, "", 0);
		break;
	case 4: /* repeat */
		count = MIN(count, input->length - at);
		memcpy(copy, input->bytes + at, count);
		replace(input, below(input->length + 1), 0, copy, count);
		break;
	case 5: /* a part of another */
		count = MIN(count, other->length);
		replace(input, at, 0, other->bytes + below(other->length - count + 1), count);
		break;
	default: /* the rest of another */
		at = MIN(at, other->length);
		replace(input, at, INPUT_MAX, other->bytes + at, other->length - at);
	}
}

static void make_input(struct input *input)
{
	*input = *kept[below(kept_count)];
	for (size_t changes = 1 + below(CHANGES_MAX); changes; changes--)
		change(input);
}

static void keep(const struct input *input)
{
	if (kept_count == KEPT_MAX)
		return;
	kept[kept_count] = malloc(sizeof *input);
	if (!kept[kept_count])
		return;
	*kept[kept_count++] = *input;
}

static void died(void)
{
	shared->died = true;
}

void require(bool condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "fuzz: %s\n", what);
	shared->died = true;
	abort();
}

/* The linker calls this instead of reboot(2): the agent must not power off the host. A target may define another. */
int __wrap_reboot(int how);
__attribute__((weak)) int __wrap_reboot(int how)
{
	fprintf(stderr, "fuzz: reboot(%#x)\n", (unsigned)how);
	require(false, "the agent powers off");
	return -1;
}

static void late(int signal_number)
{
	static const char text[] = "fuzz: an input takes too long\n";

	(void)signal_number;
	shared->died = true;
	if (write(2, text, sizeof text - 1) < 0)
		_exit(1);
	abort();
}

static void execute(const struct input *input)
{
	uint8_t *exact = malloc(input->length + !input->length); /* so that the sanitizer finds a read past the end */

	if (ftruncate(found_file, 0) || pwrite(found_file, input->bytes, input->length, 0) < 0)
		perror("fuzz: the input is not saved");
	memcpy(exact, input->bytes, input->length);
	memset(shared->counts, 0, sizeof shared->counts);
	previous = 0;
	alarm(TIMEOUT);
	counting = true;
	fuzz_one(exact, input->length);
	counting = false;
	alarm(0);
	require(!shared->died, "a process of the agent died of an error");
	free(exact);
}

static bool read_input(const char *path)
{
	struct input input = {0};
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : read(fd, input.bytes, INPUT_MAX);

	if (length < 0) {
		perror(path);
		return false;
	}
	close(fd);
	input.length = (size_t)length;
	keep(&input);
	return true;
}

static void save_and_count(const char *path)
{
	found_file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (found_file < 0 || shared == MAP_FAILED) {
		perror(path);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	static struct input input;
	unsigned long long number, seed;
	int64_t end;

	if (argc < 4)
		return 2;
	for (int i = 4; i < argc; i++)
		if (!read_input(argv[i]))
			return 2;
	given_count = kept_count;
	if (!kept_count)
		keep(&input); /* the empty one */
	save_and_count(argv[3]);
	seed = strtoull(argv[2], NULL, 10);
	__sanitizer_set_death_callback(died);
	signal(SIGALRM, late);
	fuzz_begin(argv[0]);
	end = milliseconds() + 1000 * atoll(argv[1]);
	for (number = 0; number < given_count || milliseconds() < end; number++) {
		state = seed ^ number * 0x2545f4914f6cdd1d;
		if (number < given_count)
			input = *kept[number];
		else
			make_input(&input);
		execute(&input);
		if (reaches_more() && number >= given_count)
			keep(&input);
	}
	if (ftruncate(found_file, 0))
		perror(argv[3]);
	printf("%llu executions, %zu inputs kept\n", number, kept_count);
	return 0;
}
