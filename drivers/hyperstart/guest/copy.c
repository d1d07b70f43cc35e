#include "copy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

/* Levels of directories; the process that copies has a stack of 64 KiB. */
enum { DEPTH_MAX = 32 };

static bool copy_directory(int from, int to, int depth);

static bool copy_contents(int from, int to)
{
	ssize_t count;

	while ((count = sendfile(to, from, NULL, 1 << 20)) > 0)
		;
	return count == 0;
}

/* Copy a directory's or a file's contents; both are new below `to`. */
static bool copy_opened(int from, int to, const char *name, bool directory, int depth)
{
	int flags = O_CLOEXEC | O_NOFOLLOW | (directory ? O_DIRECTORY : 0);
	int source = openat(from, name, O_RDONLY | flags);
	int target = source < 0 ? -1 : openat(to, name, (directory ? O_RDONLY : O_WRONLY | O_CREAT | O_EXCL) | flags, 0600);
	bool done = target >= 0 && (directory ? copy_directory(source, target, depth + 1) : copy_contents(source, target));

	if (source >= 0)
		close(source);
	if (target >= 0 && close(target)) /* some file systems write only now */
		done = false;
	return done;
}

static __attribute__((__noinline__)) bool copy_link(int from, int to, const char *name)
{
	char target[PATH_MAX];
	ssize_t length = readlinkat(from, name, target, sizeof target - 1);

	if (length < 0)
		return false;
	target[length] = 0;
	return !symlinkat(target, to, name);
}

static bool copy_entry(int from, int to, const char *name, int depth)
{
	struct stat what;
	bool done;

	if (fstatat(from, name, &what, AT_SYMLINK_NOFOLLOW))
		return false;
	if (S_ISDIR(what.st_mode))
		done = !mkdirat(to, name, 0700) && copy_opened(from, to, name, true, depth);
	else if (S_ISREG(what.st_mode))
		done = copy_opened(from, to, name, false, depth);
	else if (S_ISLNK(what.st_mode))
		done = copy_link(from, to, name);
	else
		done = !mknodat(to, name, what.st_mode, what.st_rdev);
	/* The owner first: fchownat clears the set-user-id bits. */
	return done && !fchownat(to, name, what.st_uid, what.st_gid, AT_SYMLINK_NOFOLLOW) &&
	       (S_ISLNK(what.st_mode) || !fchmodat(to, name, what.st_mode & 07777, 0));
}

static bool is_special(const char *name)
{
	return !strcmp(name, ".") || !strcmp(name, "..");
}

/* Open a directory to list it; `directory` may be open with O_PATH. */
static DIR *open_entries(int directory)
{
	int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *entries = fd < 0 ? NULL : fdopendir(fd);

	if (!entries && fd >= 0)
		close(fd);
	return entries;
}

/* Like readdir, but errno is 0 at the end of the directory. */
static struct dirent *next_entry(DIR *entries)
{
	errno = 0;
	return readdir(entries);
}

static bool copy_directory(int from, int to, int depth)
{
	DIR *entries;
	bool done;

	errno = ENAMETOOLONG;
	entries = depth < DEPTH_MAX ? open_entries(from) : NULL;
	done = entries;
	for (struct dirent *entry; done && (entry = next_entry(entries));)
		done = is_special(entry->d_name) || copy_entry(from, to, entry->d_name, depth);
	done = done && !errno;
	if (entries)
		closedir(entries);
	return done;
}

/* Find out whether a directory is empty. False and errno if it cannot be read. */
static bool look_for_entries(int directory, bool *empty)
{
	DIR *entries = open_entries(directory);
	bool done;

	*empty = true;
	for (struct dirent *entry; entries && *empty && (entry = next_entry(entries));)
		/* mke2fs creates lost+found; it holds no data of a user. */
		*empty = is_special(entry->d_name) || !strcmp(entry->d_name, "lost+found");
	done = entries && (!*empty || !errno);
	if (entries)
		closedir(entries);
	return done;
}

bool copy_into_empty(int from, int to)
{
	bool empty;

	return look_for_entries(to, &empty) && (!empty || copy_directory(from, to, 0));
}
