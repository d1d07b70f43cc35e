/* Preloaded into a QEMU whose guest writes to its root file systems: what a guest asks to be set-user-id or set-group-id is
 * made without these bits. The filter of system calls (launcher/confine.c) refuses them, and stays what keeps them off the
 * host; but a guest that gets an error can unpack no package that has such a program. */
#include "call.h"

#include <stdarg.h>

enum { SET_ID = 06000 };

static long plain(unsigned mode)
{
	return (long)(mode & ~(unsigned)SET_ID);
}

int chmod(const char *path, unsigned mode)
{
	return returned(system_call(FCHMODAT, AT_CWD, (long)path, plain(mode), 0));
}

int fchmod(int fd, unsigned mode)
{
	return returned(system_call(FCHMOD, fd, plain(mode), 0, 0));
}

int mkdirat(int directory, const char *path, unsigned mode)
{
	return returned(system_call(MKDIRAT, directory, (long)path, plain(mode), 0));
}

int mknodat(int directory, const char *path, unsigned mode, unsigned long device)
{
	/* The kernel takes a device of 32 bits; the lower ones of libc's are the same. */
	return returned(system_call(MKNODAT, directory, (long)path, plain(mode), (long)(unsigned)device));
}

int openat(int directory, const char *path, int flags, ...)
{
	va_list more;
	unsigned mode = 0;

	va_start(more, flags);
	if (flags & CREATE)
		mode = va_arg(more, unsigned);
	va_end(more);
	return returned(system_call(OPENAT, directory, (long)path, flags, plain(mode)));
}

int openat64(int directory, const char *path, int flags, ...) __attribute__((alias("openat")));

/* What glibc's headers make of a call without a mode, when they check for one (_FORTIFY_SOURCE). */
int __openat_2(int directory, const char *path, int flags)
{
	return returned(system_call(OPENAT, directory, (long)path, flags, 0));
}

int __openat64_2(int directory, const char *path, int flags) __attribute__((alias("__openat_2")));
