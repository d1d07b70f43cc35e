#include "files.h"

#include "kernel.h"
#include "namespaces.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Open a regular file. To open anything else could block the agent or have a side effect. */
static int open_regular(const struct container *container, const char *path, int flags)
{
	int root, file = -1;
	struct stat what;

	if (!mounts_enter(container->mounts))
		return -1;
	root = open("/", O_PATH | O_CLOEXEC);
	file = open_file(root, path, flags | O_NONBLOCK | O_NOCTTY, 0644);
	if (file < 0)
		fail("'%s' in container '%s': %s", path, container->spec.id, strerror(errno));
	close(root);
	mounts_leave();
	if (file >= 0 && (fstat(file, &what) || !S_ISREG(what.st_mode))) {
		fail("'%s' in container '%s' is not a regular file", path, container->spec.id);
		close(file);
		file = -1;
	}
	return file;
}

bool file_write(const struct container *container, const char *path, const uint8_t *bytes, size_t count)
{
	int file = open_regular(container, path, O_WRONLY | O_CREAT);
	ssize_t written = 0;
	bool done;

	if (file < 0)
		return false;
	for (done = !ftruncate(file, 0); done && count; bytes += written, count -= (size_t)written) {
		written = write(file, bytes, count);
		done = written > 0;
	}
	if (!done)
		fail("'%s' in container '%s': %s", path, container->spec.id, strerror(errno));
	if (close(file) && done) /* some file systems write only now */
		return fail("'%s' in container '%s': %s", path, container->spec.id, strerror(errno));
	return done;
}

bool file_read(const struct container *container, const char *path, struct buffer *contents)
{
	int file = open_regular(container, path, O_RDONLY);
	uint8_t piece[4096];
	ssize_t count = 0;

	if (file < 0)
		return false;
	while (!contents->overflown && (count = read(file, piece, sizeof piece)) > 0)
		buffer_add(contents, piece, (size_t)count);
	if (count < 0)
		fail("'%s' in container '%s': %s", path, container->spec.id, strerror(errno));
	else if (contents->overflown)
		fail("'%s' in container '%s' has more than %zu bytes", path, container->spec.id, contents->limit);
	close(file);
	return count >= 0 && !contents->overflown;
}
