#include "order.h"

#include "report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static unsigned long number(const char *text)
{
	char *end;

	errno = 0;
	unsigned long value = strtoul(text, &end, 10);
	if (errno || end == text || *end) {
		errno = EINVAL;
		fail("'%s' is not a number", text);
	}
	return value;
}

static void *array(size_t count, size_t size)
{
	void *made = calloc(count, size);

	if (!made)
		fail("memory");
	return made;
}

static const struct {
	const char *option;
	enum access access;
	bool whole, top;
} kinds[] = {
	{"--program", ACCESS_PROGRAM, true, false}, {"--read", ACCESS_READ, false, false},
	{"--read-all", ACCESS_READ, true, false},   {"--write-all", ACCESS_WRITE, true, false},
	{"--read-top", ACCESS_READ, false, true},   {"--write-top", ACCESS_WRITE, false, true},
	{"--device", ACCESS_DEVICE, false, false},  {"--check", ACCESS_CHECK, false, false},
};

static bool read_place(struct order *order, const char *option, char **arguments)
{
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (!strcmp(option, kinds[i].option)) {
			order->places[order->place_count++] = (struct place){
				.access = kinds[i].access,
				.whole = kinds[i].whole,
				.top = kinds[i].top,
				.source = arguments[0],
				.target = arguments[1],
				.tree = -1,
			};
			return true;
		}
	return false;
}

void order_read(struct order *order, int argc, char **argv)
{
	size_t most = argc;

	*order = (struct order){
		.held = -1,
		.places = array(most, sizeof(struct place)),
		.links = array(most, sizeof(struct link)),
		.cgroups = array(most, sizeof(char *)),
		.inherited = array(most, sizeof(int)),
	};
	int at = 1;
	while (at < argc && strcmp(argv[at], "--")) {
		const char *option = argv[at++];
		if (!strcmp(option, "--host-network")) {
			order->network = true;
			continue;
		}
		if (at >= argc)
			break;
		if (!strcmp(option, "--report"))
			report_fd = (int)number(argv[at++]);
		else if (!strcmp(option, "--users")) {
			order->namespaces = true;
			order->users = argv[at++];
		} else if (!strcmp(option, "--groups"))
			order->groups = argv[at++];
		else if (!strcmp(option, "--translate")) {
			order->translated = true;
			order->first_id = number(argv[at++]);
		} else if (!strcmp(option, "--capability"))
			order->capabilities |= UINT64_C(1) << (number(argv[at++]) & 63);
		else if (!strcmp(option, "--open-files"))
			order->open_files = number(argv[at++]);
		else if (!strcmp(option, "--processes"))
			order->processes = number(argv[at++]);
		else if (!strcmp(option, "--hold"))
			order->held = (int)number(argv[at++]);
		else if (!strcmp(option, "--inherit"))
			order->inherited[order->inherited_count++] = (int)number(argv[at++]);
		else if (!strcmp(option, "--preload"))
			order->preload = argv[at++];
		else if (!strcmp(option, "--cgroup"))
			order->cgroups[order->cgroup_count++] = argv[at++];
		else if (at + 1 < argc && !strcmp(option, "--link")) {
			order->links[order->link_count++] = (struct link){argv[at], argv[at + 1]};
			at += 2;
		} else if (at + 1 < argc && read_place(order, option, argv + at))
			at += 2;
		else {
			errno = EINVAL;
			fail("option '%s' of the launcher", option);
		}
	}
	order->program = argv + at + 1;
	if (report_fd < 0 || at + 1 >= argc || order->namespaces != !!order->groups) {
		errno = EINVAL;
		fail("the launcher needs --report, a program, and --groups with --users");
	}
}
