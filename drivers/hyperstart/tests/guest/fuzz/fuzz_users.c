/* Target of the fuzzer: the readers of a container's /etc/passwd and /etc/group.
 *
 * An input is a name, a NUL, the text of /etc/passwd, a NUL, and the text of /etc/group. */
#include "fuzz.h"
#include "users.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* clang-format off */
const struct word fuzz_words[] = {
	WORD(":"), WORD("\n"), WORD(","), WORD("\0"), WORD("::"), WORD("0"), WORD("4294967295"), WORD("4294967294"),
	WORD("18446744073709551617"), WORD("-1"), WORD("bob"), WORD("bob:x:5:6::/home/bob:/bin/sh\n"), WORD("g:x:7:bob,bob\n"),
	WORD("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), {NULL, 0},
};
/* clang-format on */

static struct {
	const uint8_t *bytes;
	size_t length;
} passwd, group;

/* The linker calls this instead of open(2): the agent's readers name the container's files. */
int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
	bool is_group = !strcmp(path, "/etc/group");
	int fd;

	if (!is_group && strcmp(path, "/etc/passwd"))
		return __real_open(path, flags, 0644); /* the fuzzer itself */
	fd = memfd_create(path, MFD_CLOEXEC);
	require(fd >= 0 && write(fd, (is_group ? group : passwd).bytes, (is_group ? group : passwd).length) >= 0, "memfd");
	lseek(fd, 0, SEEK_SET);
	return fd;
}

void fuzz_begin(const char *program)
{
	(void)program;
}

static const uint8_t *cut(const uint8_t **rest, size_t *left, size_t *length)
{
	const uint8_t *begin = *rest, *end = memchr(begin, 0, *left);

	*length = end ? (size_t)(end - begin) : *left;
	*rest += *length + !!end;
	*left -= *length + !!end;
	return begin;
}

void fuzz_one(const uint8_t *bytes, size_t length)
{
	size_t name_length, room = below(4);
	const uint8_t *name_bytes = cut(&bytes, &length, &name_length);
	char *name = strndup((const char *)name_bytes, name_length);
	gid_t *gids = malloc((room + 1) * sizeof *gids), gid; /* the sanitizer finds a write past the end */
	struct user user;

	passwd.bytes = cut(&bytes, &length, &passwd.length);
	group.bytes = bytes;
	group.length = length;
	gids[room] = 12345;
	if (find_user(name, below(2), &user)) {
		require(user.uid != UINT32_MAX && user.gid != UINT32_MAX, "a user without a number");
		require(user.home[0] && strnlen(user.home, sizeof user.home) < sizeof user.home, "a home without an end");
		groups_of_user(&user, gids, room);
		require(gids[room] == 12345, "more groups than there is room for");
	}
	if (find_group(name, below(2), &gid))
		require(gid != UINT32_MAX, "a group without a number");
	free(name);
	free(gids);
}
