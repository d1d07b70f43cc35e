#include "unpack.h"

#include "kernel.h"
#include "tar.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* One entry. The texts are without "./" before and "/" behind them; an empty name is that of ".". */
struct entry {
	enum tar_type type;
	char name[PATH_MAX], target[PATH_MAX];
	uint64_t mode, uid, gid, size, mtime;
};

/* Where an entry is made: a name in a directory. */
struct place {
	int directory; /* to be closed */
	const char *leaf;
};

static struct entry entry;
static char base[PATH_MAX]; /* the path of "." */
static int below = -1;      /* the directory `base`, once an entry is below it */
static uint64_t resolve = RESOLVE_BENEATH_;
static char chunk[CHUNK];

static bool refuse(void)
{
	return fail("%.400s: %s", *entry.name ? entry.name : base, strerror(errno));
}

static bool get(void *data, size_t length)
{
	char *bytes = data;
	ssize_t count;

	for (; length; bytes += count, length -= (size_t)count) {
		count = read(STDIN_FILENO, bytes, length);
		if (count < 0 && errno != EINTR)
			return fail("the archive cannot be read: %s", strerror(errno));
		if (count == 0)
			return fail("the archive is not complete");
		count = MAX(count, 0);
	}
	return true;
}

static bool skip_padding(uint64_t size)
{
	char padding[BLOCK];

	return get(padding, tar_padding(size));
}

/* Read the text of an entry that is for the header which follows. */
static bool get_long(char *text, uint64_t size)
{
	if (size >= PATH_MAX)
		return fail("the archive has a name that is too long");
	text[size] = '\0';
	return get(text, (size_t)size) && skip_padding(size);
}

/* Take a text from its field, unless an entry before the header had it. */
static void take_text(char *text, const char *field, size_t size)
{
	if (!*text)
		snprintf(text, PATH_MAX, "%.*s", (int)size, field);
}

/* Bring the name of an entry into its form. False and `failure` for one that leads out. */
static bool clean_name(char *text)
{
	char *from = text, *to = text;

	if (*from == '/')
		return fail("the archive has the absolute name '%.300s'", text);
	while (*from) {
		size_t length = strcspn(from, "/");

		if (length == 2 && !memcmp(from, "..", 2))
			return fail("the archive has the name '%.300s', which leads out of it", text);
		if (length && !(length == 1 && *from == '.')) {
			if (to != text)
				*to++ = '/';
			memmove(to, from, length);
			to += length;
		}
		from += length;
		from += *from == '/';
	}
	*to = '\0';
	return true;
}

/* Read the next header, and what belongs to it, into `entry`. *there is false at the end of the archive. */
static bool next_entry(bool *there)
{
	static const struct tar_header zeros;
	struct tar_header header;

	*entry.name = *entry.target = '\0';
	for (*there = true;;) {
		if (!get(&header, sizeof header))
			return false;
		if (!memcmp(&header, &zeros, sizeof header)) {
			*there = false;
			return true;
		}
		if (!tar_check(&header) || !tar_get(header.size, sizeof header.size, &entry.size))
			return false;
		if (header.type != TAR_LONG_NAME && header.type != TAR_LONG_TARGET)
			break;
		if (!get_long(header.type == TAR_LONG_NAME ? entry.name : entry.target, entry.size))
			return false;
	}
	entry.type = (enum tar_type)header.type;
	take_text(entry.name, header.name, sizeof header.name);
	take_text(entry.target, header.target, sizeof header.target);
	return clean_name(entry.name) && tar_get(header.mode, sizeof header.mode, &entry.mode) &&
	       tar_get(header.uid, sizeof header.uid, &entry.uid) && tar_get(header.gid, sizeof header.gid, &entry.gid) &&
	       tar_get(header.mtime, sizeof header.mtime, &entry.mtime);
}

/* Open the directory at `base`, below which entries are. */
static bool open_base(void)
{
	struct stat ours, root;

	if (below >= 0)
		return true;
	below = open(base, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (below < 0 || fstat(below, &ours) || stat("/", &root))
		return fail("%.400s: %s", base, strerror(errno));
	if (ours.st_dev == root.st_dev && ours.st_ino == root.st_ino)
		resolve = RESOLVE_IN_ROOT_; /* absolute links of the container lead where they do for its processes */
	return true;
}

/* Split a path below `base` at its last "/", and open the directory. `make`: create directories that are missing. */
static bool find_place(char *path, bool make, struct place *place)
{
	char *slash = strrchr(path, '/');

	place->leaf = slash ? slash + 1 : path;
	if (!open_base())
		return false;
	if (slash)
		*slash = '\0';
	place->directory = open_path(below, slash ? path : ".", resolve);
	if (place->directory < 0 && slash && errno == ENOENT && make) {
		struct place parent;
		bool made = find_place(path, true, &parent);

		if (made && mkdirat(parent.directory, parent.leaf, 0755))
			made = refuse();
		if (made)
			place->directory =
				openat(parent.directory, parent.leaf, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (parent.directory >= 0)
			close(parent.directory);
		if (!made)
			return false;
	}
	if (place->directory < 0)
		refuse();
	if (slash)
		*slash = '/';
	return place->directory >= 0;
}

/* Find where an entry is made. */
static bool place_entry(struct place *place)
{
	static char parent[PATH_MAX];
	char *slash;

	*place = (struct place){.directory = -1};
	if (*entry.name)
		return find_place(entry.name, true, place);
	strcpy(parent, base);
	slash = strrchr(parent, '/');
	place->leaf = slash ? slash + 1 : parent;
	if (slash)
		*slash = '\0';
	place->directory = open(!slash ? "." : *parent ? parent : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return place->directory >= 0 || fail("%.400s: %s", base, strerror(errno));
}

/* Set owner, then mode, because a change of the owner clears set-user-id, and the time of an open file. */
static bool set_attributes(int file)
{
	struct timespec times[2] = {{.tv_sec = (time_t)entry.mtime}, {.tv_sec = (time_t)entry.mtime}};

	return (!fchown(file, (uid_t)entry.uid, (gid_t)entry.gid) && !fchmod(file, (mode_t)(entry.mode & 07777)) &&
	        !futimens(file, times)) ||
	       refuse();
}

/* Make a directory. In the place of a link to one, that directory is used as it is. */
static bool make_directory(const struct place *place)
{
	int directory = -1, there;
	bool done;

	if (!mkdirat(place->directory, place->leaf, 0700) || errno == EEXIST)
		directory = openat(place->directory, place->leaf, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (directory >= 0) {
		done = set_attributes(directory);
		close(directory);
		return done;
	}
	there = *entry.name && errno == ENOTDIR ? open_path(below, entry.name, resolve) : -1;
	done = there >= 0 && !faccessat(there, ".", F_OK, 0);
	if (there >= 0)
		close(there);
	return done || refuse();
}

static bool write_contents(int file)
{
	for (uint64_t left = entry.size; left;) {
		size_t count = (size_t)MIN(left, sizeof chunk), written = 0;

		if (!get(chunk, count))
			return false;
		while (written < count) {
			ssize_t more = write(file, chunk + written, count - written);

			if (more < 0 && errno != EINTR)
				return refuse();
			written += (size_t)MAX(more, 0);
		}
		left -= count;
	}
	return skip_padding(entry.size);
}

/* Make a file anew, in the place of one that is there; one that is a mount is written to. */
static bool make_file(const struct place *place, bool mounted)
{
	int how = mounted ? O_TRUNC | O_NONBLOCK : O_CREAT | O_EXCL;
	int file = openat(place->directory, place->leaf, O_WRONLY | O_NOFOLLOW | O_CLOEXEC | how, 0600);
	bool done;

	if (file < 0)
		return refuse();
	done = write_contents(file) && set_attributes(file);
	if (close(file) && done) /* some file systems write only now */
		done = refuse();
	return done;
}

static bool make_link(const struct place *place)
{
	return (!symlinkat(entry.target, place->directory, place->leaf) &&
	        !fchownat(place->directory, place->leaf, (uid_t)entry.uid, (gid_t)entry.gid, AT_SYMLINK_NOFOLLOW)) ||
	       refuse();
}

static bool make_hard_link(const struct place *place)
{
	struct place old;
	bool done;

	if (!clean_name(entry.target) || !find_place(entry.target, false, &old))
		return false;
	done = !linkat(old.directory, old.leaf, place->directory, place->leaf, 0) || refuse();
	close(old.directory);
	return done;
}

static bool make_pipe(const struct place *place)
{
	return (!mkfifoat(place->directory, place->leaf, (mode_t)(entry.mode & 07777)) &&
	        !fchownat(place->directory, place->leaf, (uid_t)entry.uid, (gid_t)entry.gid, AT_SYMLINK_NOFOLLOW)) ||
	       refuse();
}

static bool make_at(const struct place *place)
{
	bool mounted = false;

	if (entry.type == TAR_DIRECTORY)
		return make_directory(place);
	if (unlinkat(place->directory, place->leaf, 0) && errno != ENOENT) {
		mounted = errno == EBUSY && entry.type == TAR_FILE;
		if (!mounted)
			return refuse();
	}
	switch (entry.type) {
	case TAR_FILE:
		return make_file(place, mounted);
	case TAR_LINK:
		return make_link(place);
	case TAR_HARD_LINK:
		return make_hard_link(place);
	case TAR_PIPE:
		return make_pipe(place);
	default:
		return fail("%.400s: it is a device, or of a type that cannot be copied", entry.name);
	}
}

static bool make_entry(void)
{
	struct place place;
	bool done = place_entry(&place) && make_at(&place);

	if (place.directory >= 0)
		close(place.directory);
	return done;
}

/* Set `base`. */
static bool choose_base(const char *path, const char *name)
{
	size_t length = strlen(path);
	bool slash = length && path[length - 1] == '/', directory;
	struct stat what;

	directory = !stat(path, &what) && S_ISDIR(what.st_mode);
	while (length > 1 && path[length - 1] == '/')
		length--;
	if (snprintf(base, sizeof base, "%.*s%s%s", (int)length, path, directory && *name && length > 1 ? "/" : "",
	             directory ? name : "") >= (int)sizeof base)
		return fail("%.400s: %s", path, strerror(ENAMETOOLONG));
	if (slash && !directory && *name)
		return fail("%.400s: it is not a directory", path);
	return *name || directory || !mkdir(base, 0755) || fail("%.400s: %s", base, strerror(errno));
}

bool unpack(const char *path, const char *name)
{
	bool there = true;

	umask(0);
	if (!choose_base(path, name))
		return false;
	for (;;) {
		if (!next_entry(&there))
			return false;
		if (!there)
			break;
		if ((*entry.name || *name) && !make_entry())
			return false;
	}
	while (read(STDIN_FILENO, chunk, sizeof chunk) > 0)
		; /* the rest of the last record */
	return true;
}
