/* Preloaded into the QEMU of a clone: the file of its template's memory, which QEMU would open for reading and writing but
 * may only read, is opened for reading. So is no other file: what else QEMU is refused is an error that it must see.
 *
 * QEMU opens the file of a guest's memory for reading and writing even if it maps it privately, so that nothing is ever
 * written to it (file_ram_open in QEMU's softmmu/physmem.c; versions before 8.2 have no option for it). The template's
 * memory is mounted read-only, and a private mapping of a descriptor that only reads can be written to (mmap(2)). */
#include "call.h"

#include <stdarg.h>
#include <stdbool.h>

enum { READ_WRITE = 2, ACCESS_MODE = 3 };
enum { NO_ACCESS = 13, READ_ONLY_FILE_SYSTEM = 30 }; /* EACCES by Landlock, EROFS by the mount */

/* Whether a path ends with the name of that file (template.py). */
static bool is_memory(const char *path)
{
	static const char name[] = "/memory";
	const char *end = path;

	while (*end)
		end++;
	for (unsigned i = 0; i < sizeof name; i++)
		if ((unsigned)(end - path) < i || end[-(int)i] != name[sizeof name - 1 - i])
			return false;
	return true;
}

static int open_file(const char *path, int flags, unsigned mode)
{
	long result = system_call(OPENAT, AT_CWD, (long)path, flags, (long)mode);

	if ((result == -NO_ACCESS || result == -READ_ONLY_FILE_SYSTEM) && (flags & ACCESS_MODE) == READ_WRITE &&
	    !(flags & CREATE) && is_memory(path))
		result = system_call(OPENAT, AT_CWD, (long)path, flags & ~ACCESS_MODE, 0);
	return returned(result);
}

int open(const char *path, int flags, ...)
{
	va_list more;
	unsigned mode;

	va_start(more, flags);
	mode = flags & CREATE ? va_arg(more, unsigned) : 0;
	va_end(more);
	return open_file(path, flags, mode);
}

int open64(const char *path, int flags, ...) __attribute__((alias("open")));

/* What glibc's headers make of a call without a mode, when they check for one (_FORTIFY_SOURCE). */
int __open_2(const char *path, int flags)
{
	return open_file(path, flags, 0);
}

int __open64_2(const char *path, int flags) __attribute__((alias("__open_2")));
