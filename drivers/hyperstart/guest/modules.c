#include "modules.h"

#include "phase.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LISTS "/lib/modules/load"

static void load(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	/* ENODEV: the module does not support this processor. */
	if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST && errno != ENODEV))
		console("guest agent: kernel module %s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
}

void modules_load(const char *list)
{
	int64_t begun = phase_clock();
	char name[64], path[256];
	FILE *file;

	/* A list may have the name of a file system, which the host sends. */
	if (strchr(list, '/') || (size_t)snprintf(name, sizeof name, LISTS "%s%s", *list ? "." : "", list) >= sizeof name)
		return;
	file = fopen(name, "re");
	if (!file)
		return;
	while (fgets(path, sizeof path, file)) {
		path[strcspn(path, "\n")] = 0;
		if (*path)
			load(path);
	}
	fclose(file);
	unlink(name); /* so it is loaded once */
	phase_end("load kernel modules", begun);
}
