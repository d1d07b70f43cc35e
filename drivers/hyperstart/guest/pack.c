#include "pack.h"

#include "tar.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

/* Levels of directories: each is an open file, and a part of a stack of 64 KiB. BUCKETS: of the table of files that have
 * several names. */
enum { DEPTH_MAX = 64, BUCKETS = 256 };

/* A file that has further names: they become hard links to the first. */
struct named {
	struct named *next;
	dev_t device;
	ino_t inode;
	char name[];
};

static struct named *several[BUCKETS];
static char name[PATH_MAX]; /* in the archive, of what is written now */
static const char *top;     /* the path of "." */
static char chunk[CHUNK];

static bool refuse(void)
{
	return fail("%.400s: %s", strcmp(name, ".") ? name : top, strerror(errno));
}

static bool put(const void *data, size_t length)
{
	const char *bytes = data;
	ssize_t count;

	for (; length; bytes += count, length -= (size_t)count) {
		count = write(STDOUT_FILENO, bytes, length);
		if (count < 0 && errno != EINTR)
			return fail("the archive cannot be written: %s", strerror(errno));
		count = MAX(count, 0);
	}
	return true;
}

static bool put_padding(uint64_t size)
{
	static const char zeros[BLOCK];

	return put(zeros, tar_padding(size));
}

static bool put_header(struct tar_header *header)
{
	tar_seal(header);
	return put(header, sizeof *header);
}

/* Write a text into a field, or before the header if it does not fit. */
static bool put_text(char *field, size_t size, enum tar_type type, const char *text)
{
	struct tar_header header = {.name = "././@LongLink", .type = (char)type};
	size_t length = strlen(text) + 1;

	if (length <= size) {
		memcpy(field, text, length);
		return true;
	}
	tar_put(header.mode, sizeof header.mode, 0);
	tar_put(header.uid, sizeof header.uid, 0);
	tar_put(header.gid, sizeof header.gid, 0);
	tar_put(header.mtime, sizeof header.mtime, 0);
	tar_put(header.size, sizeof header.size, length);
	return put_header(&header) && put(text, length) && put_padding(length);
}

static bool put_entry(enum tar_type type, const struct stat *what, const char *target, uint64_t size)
{
	struct tar_header header = {.type = (char)type};

	if (!put_text(header.target, sizeof header.target, TAR_LONG_TARGET, target) ||
	    !put_text(header.name, sizeof header.name, TAR_LONG_NAME, name))
		return false;
	tar_put(header.mode, sizeof header.mode, what->st_mode & 07777);
	tar_put(header.uid, sizeof header.uid, what->st_uid);
	tar_put(header.gid, sizeof header.gid, what->st_gid);
	tar_put(header.size, sizeof header.size, size);
	tar_put(header.mtime, sizeof header.mtime, (uint64_t)MAX(what->st_mtime, 0));
	if (type == TAR_CHARACTER_DEVICE || type == TAR_BLOCK_DEVICE) {
		tar_put(header.major, sizeof header.major, major(what->st_rdev));
		tar_put(header.minor, sizeof header.minor, minor(what->st_rdev));
	}
	return put_header(&header);
}

/* Find the name under which a file is in the archive already. NULL if it is not, and it is remembered then. */
static const char *name_before(const struct stat *what)
{
	struct named **bucket = &several[what->st_ino % BUCKETS], *one;

	if (what->st_nlink < 2)
		return NULL;
	for (one = *bucket; one; one = one->next)
		if (one->device == what->st_dev && one->inode == what->st_ino)
			return one->name;
	one = malloc(sizeof *one + strlen(name) + 1);
	if (one) { /* without memory it becomes a copy */
		*one = (struct named){*bucket, what->st_dev, what->st_ino};
		strcpy(one->name, name);
		*bucket = one;
	}
	return NULL;
}

/* Write the bytes of a file: as many as its header says, whatever becomes of it meanwhile. */
static bool put_contents(int file, uint64_t size)
{
	for (uint64_t left = size; left;) {
		size_t wanted = (size_t)MIN(left, sizeof chunk);
		ssize_t count = read(file, chunk, wanted);

		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			return refuse();
		if (count == 0) { /* it became shorter */
			memset(chunk, 0, wanted);
			count = (ssize_t)wanted;
		}
		if (!put(chunk, (size_t)count))
			return false;
		left -= (uint64_t)count;
	}
	return put_padding(size);
}

static bool pack_file(int file)
{
	struct stat what;
	const char *before;

	if (fstat(file, &what))
		return refuse();
	before = name_before(&what);
	if (before)
		return put_entry(TAR_HARD_LINK, &what, before, 0);
	return put_entry(TAR_FILE, &what, "", (uint64_t)what.st_size) && put_contents(file, (uint64_t)what.st_size);
}

static bool pack_link(int parent, const char *path, const struct stat *what)
{
	static char target[PATH_MAX];
	ssize_t length = readlinkat(parent, path, target, sizeof target - 1);

	if (length < 0)
		return refuse();
	target[length] = '\0';
	return put_entry(TAR_LINK, what, target, 0);
}

/* Whether a directory is of a file system that shows what the kernel does, and holds no files. */
static bool is_pseudo(int directory)
{
	/* Those of proc, sysfs, devpts, cgroup2 and mqueue: statfs(2), and for the last ipc/mqueue.c of Linux. */
	static const unsigned long magics[] = {0x9fa0, 0x62656572, 0x1cd1, 0x63677270, 0x19800202};
	struct statfs what;

	for (size_t i = 0; !fstatfs(directory, &what) && i < COUNT(magics); i++)
		if ((unsigned long)what.f_type == magics[i])
			return true;
	return false;
}

static bool pack_at(int parent, const char *path, bool follow, int depth);

static bool pack_entries(DIR *entries, int depth)
{
	size_t length = strcmp(name, ".") ? strlen(name) : 0;
	struct dirent *entry;
	bool done = true;

	while (done && (errno = 0, entry = readdir(entries))) {
		size_t more = strlen(entry->d_name);

		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (length + 1 + more >= sizeof name)
			return fail("%.400s: a path in it is too long", name);
		if (length)
			name[length] = '/';
		strcpy(name + length + !!length, entry->d_name);
		done = pack_at(dirfd(entries), entry->d_name, false, depth + 1);
	}
	if (done && errno)
		return refuse();
	strcpy(length ? name + length : name, length ? "" : ".");
	return done;
}

/* Takes the descriptor over. */
static bool pack_directory(int directory, int depth)
{
	struct stat what;
	DIR *entries = NULL;
	bool done;

	if (depth == DEPTH_MAX)
		done = fail("%.400s: it is more than %d directories deep", name, DEPTH_MAX);
	else if (fstat(directory, &what))
		done = refuse();
	else
		done = put_entry(TAR_DIRECTORY, &what, "", 0);
	if (done && !is_pseudo(directory)) {
		entries = fdopendir(directory);
		done = entries ? pack_entries(entries, depth) : refuse();
	}
	if (entries)
		closedir(entries);
	else
		close(directory);
	return done;
}

/* Write what is at a path, by its type. What vanished from a directory meanwhile is left out. */
static bool pack_at(int parent, const char *path, bool follow, int depth)
{
	int flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | (follow ? 0 : O_NOFOLLOW), fd;
	struct stat what;
	bool done;

	if (fstatat(parent, path, &what, follow ? 0 : AT_SYMLINK_NOFOLLOW))
		return (errno == ENOENT && depth) || refuse();
	if (S_ISLNK(what.st_mode))
		return pack_link(parent, path, &what);
	if (S_ISFIFO(what.st_mode))
		return put_entry(TAR_PIPE, &what, "", 0);
	if (S_ISCHR(what.st_mode) || S_ISBLK(what.st_mode))
		return put_entry(S_ISCHR(what.st_mode) ? TAR_CHARACTER_DEVICE : TAR_BLOCK_DEVICE, &what, "", 0);
	if (S_ISSOCK(what.st_mode))
		return depth || fail("%.400s: it is a socket", path);
	fd = openat(parent, path, flags | (S_ISDIR(what.st_mode) ? O_DIRECTORY : 0));
	if (fd < 0)
		return (errno == ENOENT && depth) || refuse();
	if (S_ISDIR(what.st_mode))
		return pack_directory(fd, depth);
	done = pack_file(fd);
	close(fd);
	return done;
}

bool pack(const char *path, bool follow)
{
	static const char end[2 * BLOCK];

	strcpy(name, ".");
	top = path;
	return pack_at(AT_FDCWD, path, follow, 0) && put(end, sizeof end);
}
