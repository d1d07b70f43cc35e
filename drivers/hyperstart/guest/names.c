#include "names.h"

#include "dialect.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HOSTNAME, HOSTS, RESOLVER, TEXT_MAX = 1 << 20 };

const char *const name_files[NAME_FILES] = {"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"};

static struct buffer texts[NAME_FILES] = {{.limit = TEXT_MAX}, {.limit = TEXT_MAX}, {.limit = TEXT_MAX}};

static void add(int file, const char *text)
{
	buffer_add(&texts[file], text, strlen(text));
}

/* Add a line of a keyword and its words, if `words` is not NULL. */
static void add_line(const char *keyword, const char **words)
{
	if (!words)
		return;
	add(RESOLVER, keyword);
	for (; *words; words++) {
		add(RESOLVER, " ");
		add(RESOLVER, *words);
	}
	add(RESOLVER, "\n");
}

static void compose_resolver(const struct resolver *resolver)
{
	for (const char **server = resolver->servers; server && *server; server++) {
		add(RESOLVER, "nameserver ");
		add(RESOLVER, *server);
		add(RESOLVER, "\n");
	}
	add_line("search", resolver->search);
	add_line("options", resolver->options);
}

static void add_host(const char *address, const char *hostname)
{
	const char *dot = strchr(hostname, '.');

	add(HOSTS, address);
	add(HOSTS, "\t");
	add(HOSTS, hostname);
	if (dot && dot != hostname) { /* the first part alone names the host, too */
		add(HOSTS, " ");
		buffer_add(&texts[HOSTS], hostname, (size_t)(dot - hostname));
	}
	add(HOSTS, "\n");
}

static void compose_hosts(const char *hostname, const struct interface *interface)
{
	bool found = false;

	add(HOSTS, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
	for (; interface && interface->device; interface++) {
		if (*interface->one.address)
			add_host(interface->one.address, hostname);
		for (const struct address *one = interface->addresses; one && one->address; one++)
			add_host(one->address, hostname);
		found = found || *interface->one.address || (interface->addresses && interface->addresses->address);
	}
	if (!found)
		add_host("127.0.0.1", hostname);
}

bool names_set(const char *hostname, const struct interface *interfaces, const struct resolver *resolver)
{
	for (int file = 0; file < NAME_FILES; file++) {
		texts[file].length = 0;
		texts[file].overflown = false;
		if (unlink(name_files[file]) && errno != ENOENT)
			return fail("%s: %s", name_files[file], strerror(errno));
	}
	compose_resolver(resolver);
	if (extended) {
		add(HOSTNAME, hostname);
		add(HOSTNAME, "\n");
		compose_hosts(hostname, interfaces);
	}
	for (int file = 0; file < NAME_FILES; file++)
		if (texts[file].overflown)
			return fail("%s: %s", name_files[file], strerror(EFBIG));
	mkdir("/etc", 0755);
	return names_write("/etc");
}

/* Write a whole file or none: a part of it would name only some of the servers. */
static bool write_name(int directory, int file)
{
	const char *name = strrchr(name_files[file], '/') + 1;
	const struct buffer *text = &texts[file];
	int fd;
	bool done;

	if (!text->length)
		return true;
	fd = openat(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	done = fd >= 0 && write(fd, text->data, text->length) == (ssize_t)text->length;
	if (!done)
		fail("%s: %s", name_files[file], strerror(fd < 0 ? errno : ENOSPC));
	if (fd >= 0)
		close(fd);
	if (fd >= 0 && !done)
		unlinkat(directory, name, 0);
	return done;
}

bool names_write(const char *directory)
{
	int fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	bool done = fd >= 0 || fail("%s: %s", directory, strerror(errno));

	for (int file = 0; done && file < NAME_FILES; file++)
		done = write_name(fd, file);
	if (fd >= 0)
		close(fd);
	return done;
}
