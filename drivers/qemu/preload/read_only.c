/* Preloaded into the QEMU of a clone: the file of its template's memory, which QEMU would open for reading and writing but
 * may only read, is opened for reading. So is no other file: what else QEMU is refused is an error that it must see.
 *
 * QEMU opens the file of a guest's memory for reading and writing even if it maps it privately, so that nothing is ever
 * written to it (file_ram_open in QEMU's softmmu/physmem.c; versions before 8.2 have no option for it). The template's
 * memory is mounted read-only, and a private mapping of a descriptor that only reads can be written to (mmap(2)).
 *
 * No libc: the same file serves a QEMU of any. The names are those by which QEMU's code calls open. */
#include <stdarg.h>
#include <stdbool.h>

enum { AT_CWD = -100, READ_WRITE = 2, ACCESS_MODE = 3, CREATE = 0100 };
enum { NO_ACCESS = 13, READ_ONLY_FILE_SYSTEM = 30 }; /* EACCES by Landlock, EROFS by the mount */

int *__errno_location(void); /* of the libc that QEMU is linked with: the one name that this file needs */

/* openat(2) */
static long system_call(const char *path, int flags, unsigned mode)
{
#if defined(__x86_64__)
	register long fourth __asm__("r10") = mode;
	long result;
	__asm__ volatile("syscall"
	                 : "=a"(result)
	                 : "a"(257L), "D"((long)AT_CWD), "S"(path), "d"((long)flags), "r"(fourth)
	                 : "rcx", "r11", "memory");
	return result;
#elif defined(__aarch64__)
	register long number __asm__("x8") = 56, first __asm__("x0") = AT_CWD, second __asm__("x1") = (long)path;
	register long third __asm__("x2") = flags, fourth __asm__("x3") = mode;
	__asm__ volatile("svc 0" : "+r"(first) : "r"(number), "r"(second), "r"(third), "r"(fourth) : "memory");
	return first;
#else
#error "the system call is not written for this architecture"
#endif
}

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
	long result = system_call(path, flags, mode);

	if ((result == -NO_ACCESS || result == -READ_ONLY_FILE_SYSTEM) && (flags & ACCESS_MODE) == READ_WRITE &&
	    !(flags & CREATE) && is_memory(path))
		result = system_call(path, flags & ~ACCESS_MODE, 0);
	if (result >= 0)
		return (int)result;
	*__errno_location() = (int)-result;
	return -1;
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
