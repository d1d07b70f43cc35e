/* Preloaded into a QEMU whose guest writes to its root file systems: a pipe or socket that is opened without its content
 * (O_PATH) counts as a regular file. QEMU opens what it has just made for the guest so, to change the mode, and since the fix
 * of CVE-2023-2861 it closes again all but regular files and directories, and removes the new one. From 9.2 on it excepts
 * such a descriptor, with which nothing can be read or written (d06a9d843fb6 of QEMU). */
#include "call.h"

#include <sys/stat.h>
#undef fstat64 /* of musl, whose two are one by name */

enum { GET_FLAGS = 3, PATH = 010000000, EMPTY_PATH = 0x1000 }; /* F_GETFL, O_PATH, AT_EMPTY_PATH */

int fstat(int fd, struct stat *status)
{
	long result = system_call(FSTATAT, fd, (long)"", (long)status, EMPTY_PATH);

	if (!result && (S_ISFIFO(status->st_mode) || S_ISSOCK(status->st_mode)) &&
	    system_call(FCNTL, fd, GET_FLAGS, 0, 0) & PATH)
		status->st_mode = (status->st_mode & ~(unsigned)S_IFMT) | S_IFREG;
	return returned(result);
}

int fstat64(int fd, struct stat *status) __attribute__((alias("fstat")));
