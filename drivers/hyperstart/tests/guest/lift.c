/* Run in a container: try to lift its bounds with the rights that a user namespace of its own gives it. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		perror(path);
}

int main(void)
{
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWCGROUP))
		perror("unshare");
	put("/proc/self/uid_map", "0 0 1");
	if (mount("cgroup", "/tmp", "cgroup2", 0, NULL))
		perror("mount");
	put("/tmp/memory.max", "max");
	put("/tmp/pids.max", "max");
	return 0;
}
