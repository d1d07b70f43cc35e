#include "phase.h"

#include "json.h"

#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { PHASES_MAX = 64, NANOSECONDS = 1000000000 };

/* In memory that children share with the agent. Names are constants, so they have the same addresses in both. */
static struct phases {
	uint32_t count; /* may be above PHASES_MAX */
	struct {
		const char *name;
		int64_t begin, end;
	} list[PHASES_MAX];
} *phases;

void phase_init(void)
{
	void *memory = mmap(NULL, sizeof *phases, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory != MAP_FAILED)
		phases = memory;
}

int64_t phase_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * NANOSECONDS + now.tv_nsec;
}

void phase_end(const char *name, int64_t begin)
{
	uint32_t number;

	if (!phases || phases->count >= PHASES_MAX)
		return;
	number = __atomic_fetch_add(&phases->count, 1, __ATOMIC_RELAXED);
	if (number >= PHASES_MAX)
		return;
	phases->list[number].begin = begin;
	phases->list[number].end = phase_clock();
	phases->list[number].name = name;
}

void phases_forget(void)
{
	if (phases)
		memset(phases, 0, sizeof *phases);
}

void phases_take(struct buffer *buffer)
{
	const char *separator = "";

	json_write(buffer, "{\"now\":%lld,\"phases\":[", (long long)phase_clock());
	for (size_t i = 0; phases && i < PHASES_MAX; i++) {
		if (!phases->list[i].name) /* not recorded, or not yet complete */
			continue;
		json_write(buffer, "%s{\"name\":", separator);
		json_write_string(buffer, phases->list[i].name);
		json_write(buffer, ",\"begin\":%lld,\"end\":%lld}", (long long)phases->list[i].begin,
		           (long long)phases->list[i].end);
		separator = ",";
	}
	json_write(buffer, "]}");
	phases_forget();
}
