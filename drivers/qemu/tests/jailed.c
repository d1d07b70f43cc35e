/* Poses as QEMU in the jail: tries what a guest that has taken QEMU over would try, writes one line for each that works
 * to its error output, and exits with 3. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

static void must_fail(const char *what, long result)
{
	if (result >= 0)
		fprintf(stderr, "works: %s\n", what);
}

static const char *option(int argc, char **argv, const char *name)
{
	for (int i = 1; i + 1 < argc; i++)
		if (!strcmp(argv[i], name))
			return argv[i + 1];
	exit(4);
}

int main(int argc, char **argv)
{
	/* "-fsdev local,id=share0,path=/shares/0,..." */
	char share[512], path[600];
	const char *shared = strstr(option(argc, argv, "-fsdev"), "path=");
	sscanf(shared, "path=%511[^,]", share);
	snprintf(path, sizeof path, "%s/made", share);
	int made = open(path, O_RDWR | O_CREAT, 0755);
	if (made < 0)
		fprintf(stderr, "fails: a file in the share: %s\n", strerror(errno));

	snprintf(path, sizeof path, "%s/old",
	         share); /* a set-user-id file of the host, which loses that when it is written */
	int old = open(path, O_WRONLY);
	if (old < 0 || write(old, "x", 1) != 1)
		fprintf(stderr, "fails: writing to a file in the share: %s\n", strerror(errno));

	snprintf(path, sizeof path, "%s/made", share);
	must_fail("set-user-id by fchmod", fchmod(made, 04755));
	must_fail("set-user-id by chmod", chmod(path, 04755));
	must_fail("set-group-id by fchmodat", fchmodat(AT_FDCWD, path, 02755, 0));
	must_fail("set-user-id by fchmodat2", syscall(452, AT_FDCWD, path, 04755, 0));
	snprintf(path, sizeof path, "%s/other", share);
	must_fail("set-user-id by open", open(path, O_RDWR | O_CREAT, 04755));
	must_fail("set-user-id by mknod", mknod(path, S_IFREG | 04755, 0));
	must_fail("a device", mknod(path, S_IFCHR | 0600, 0x0103));
	must_fail("another owner", fchown(made, 1000, 1000));
	must_fail("ptrace", ptrace(PTRACE_TRACEME, 0, 0, 0));
	must_fail("a user namespace", unshare(CLONE_NEWUSER));
	must_fail("a child in a user namespace", syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
	must_fail("a mount", mount("t", "/shares", "tmpfs", 0, 0));
	must_fail("unmounting", umount2("/shares/0", MNT_DETACH));
	must_fail("a new root", chroot(share));
	must_fail("open_by_handle_at", syscall(SYS_open_by_handle_at, AT_FDCWD, 0, 0) + (errno != EPERM));
	must_fail("bpf", syscall(SYS_bpf, 0, 0, 0) + (errno != EPERM));
	must_fail("io_uring", syscall(SYS_io_uring_setup, 1, 0) + (errno != EPERM));
	must_fail("typing on a terminal", ioctl(0, TIOCSTI, "x") + (errno != EPERM));
	must_fail("a signal to the init", kill(1, 0));
	snprintf(path, sizeof path, "%s/made", share);
	must_fail("a program in the share", execl(path, path, (char *)0) + (errno != EACCES));
	must_fail("writing to the root", open("/new", O_WRONLY | O_CREAT, 0600));
	must_fail("writing to the program", open(argv[0], O_WRONLY));
	must_fail("the init's memory", open("/proc/1/mem", O_RDONLY));
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct stat status;
	stat(share, &status);
	int length =
		snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "vc-jail-%lu", (unsigned long)status.st_ino);
	int client = socket(AF_UNIX, SOCK_STREAM, 0);
	must_fail("an abstract socket of the host",
	          connect(client, (struct sockaddr *)&address, sizeof(sa_family_t) + 1 + length));
	return 3;
}
