#include "users.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	NO_SUCH_USER = 125,
	PASSWD_FIELDS = 7, /* name:password:uid:gid:comment:home:shell */
	GROUP_FIELDS = 4,  /* name:password:gid:member,member... */
};

/* Numbers are decimal and below 2^32 - 1, which setuid would take for "unchanged". */
static bool parse_id(const char *text, uint32_t *id)
{
	char *end;
	unsigned long long value;

	if (*text < '0' || *text > '9')
		return false;
	value = strtoull(text, &end, 10);
	*id = (uint32_t)value;
	return !*end && value < UINT32_MAX;
}

/* Only a regular file: the container may have put a pipe there, which would block the agent. */
static FILE *open_regular(const char *path)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	struct stat what;

	if (fd < 0)
		return NULL;
	if (!fstat(fd, &what) && S_ISREG(what.st_mode))
		return fdopen(fd, "r");
	close(fd);
	return NULL;
}

/* Read lines of colon-separated fields until `match` returns true; lines with fewer than `count` fields are skipped. */
static bool find_line(const char *path, size_t count, bool (*match)(char **fields, void *data), void *data)
{
	FILE *file = open_regular(path);
	char *line = NULL;
	size_t size = 0;
	bool found = false;

	if (!file)
		return false;
	while (!found && getline(&line, &size, file) > 0) {
		char *fields[PASSWD_FIELDS], *rest = line;
		size_t i = 0;

		line[strcspn(line, "\n")] = 0;
		while (i < count && rest)
			fields[i++] = strsep(&rest, ":");
		found = i == count && match(fields, data);
	}
	free(line);
	fclose(file);
	return found;
}

struct search {
	const char *name;
	uint32_t id;
	bool by_id;
	struct user *user;
	gid_t *gids;
	size_t room, count;
	const char *cut; /* the field that does not fit into `size` bytes, or NULL; a part of it could be another user's */
	size_t size;
};

static void copy_field(struct search *search, const char *what, char *to, size_t size, const char *from)
{
	if ((size_t)snprintf(to, size, "%s", from) < size)
		return;
	search->cut = what;
	search->size = size;
}

static bool match_user(char **fields, void *data)
{
	struct search *search = data;
	struct user *user = search->user;
	uint32_t uid, gid;

	if (!parse_id(fields[2], &uid) || !parse_id(fields[3], &gid))
		return false;
	if (search->by_id ? uid != search->id : strcmp(fields[0], search->name))
		return false;
	user->uid = uid;
	user->gid = gid;
	user->listed = true;
	copy_field(search, "name", user->name, sizeof user->name, fields[0]);
	copy_field(search, "home directory", user->home, sizeof user->home, *fields[5] ? fields[5] : "/");
	return true;
}

static bool is_whole(const char *name, const struct search *search)
{
	return !search->cut || fail_process(NO_SUCH_USER, "user '%s': the %s in /etc/passwd has more than %zu bytes", name,
	                                    search->cut, search->size - 1);
}

bool find_user(const char *name, bool any_number, struct user *user)
{
	struct search search = {.name = name, .user = user};

	memset(user, 0, sizeof *user);
	/* A user whose name is made of digits comes before one with that number, as in chown(1). */
	if (find_line("/etc/passwd", PASSWD_FIELDS, match_user, &search))
		return is_whole(name, &search);
	search.by_id = parse_id(name, &search.id);
	if (search.by_id && find_line("/etc/passwd", PASSWD_FIELDS, match_user, &search))
		return is_whole(name, &search);
	if (!search.by_id || !any_number)
		return fail_process(NO_SUCH_USER, "user '%s' is not in the container's /etc/passwd", name);
	user->uid = search.id;
	snprintf(user->home, sizeof user->home, "/");
	return true;
}

static bool match_group(char **fields, void *data)
{
	struct search *search = data;
	uint32_t gid;

	if (!parse_id(fields[2], &gid))
		return false;
	if (search->by_id ? gid != search->id : strcmp(fields[0], search->name))
		return false;
	search->gids[0] = gid;
	return true;
}

bool find_group(const char *name, bool any_number, gid_t *gid)
{
	struct search search = {.name = name, .gids = gid};

	if (find_line("/etc/group", GROUP_FIELDS, match_group, &search))
		return true;
	search.by_id = parse_id(name, &search.id);
	if (search.by_id && find_line("/etc/group", GROUP_FIELDS, match_group, &search))
		return true;
	if (!search.by_id || !any_number)
		return fail_process(NO_SUCH_USER, "group '%s' is not in the container's /etc/group", name);
	*gid = search.id;
	return true;
}

static bool match_member(char **fields, void *data)
{
	struct search *search = data;
	char *members = fields[3];
	uint32_t gid;

	if (!parse_id(fields[2], &gid))
		return false;
	for (char *member; (member = strsep(&members, ","));) {
		if (strcmp(member, search->name))
			continue;
		if (search->count < search->room)
			search->gids[search->count] = gid;
		search->count++;
		break;
	}
	return false; /* go on: a user can be in many groups */
}

size_t groups_of_user(const struct user *user, gid_t *gids, size_t room)
{
	struct search search = {.name = user->name, .gids = gids, .room = room};

	if (user->listed)
		find_line("/etc/group", GROUP_FIELDS, match_member, &search);
	return search.count;
}
