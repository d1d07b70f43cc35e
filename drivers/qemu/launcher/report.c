#include "report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int report_fd = -1;

static void send_line(const char *kind, const char *format, va_list arguments, const char *why)
{
	char text[900], line[1000];

	vsnprintf(text, sizeof text, format, arguments);
	for (char *at = text; *at; at++) /* a path can contain anything; the line must not */
		if ((unsigned char)*at < ' ')
			*at = '?';
	int length = snprintf(line, sizeof line, "%s %s%s%s\n", kind, text, why ? ": " : "", why ? why : "");
	if (write(report_fd, line, length) < 0) /* nobody reads any more */
		return;
}

void note(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	send_line("note", format, arguments, NULL);
	va_end(arguments);
}

void fail(const char *format, ...)
{
	const char *why = strerror(errno);
	va_list arguments;

	va_start(arguments, format);
	send_line("error", format, arguments, why);
	va_end(arguments);
	_exit(127);
}

void unusable(const char *format, ...)
{
	const char *why = strerror(errno);
	va_list arguments;

	va_start(arguments, format);
	send_line("unusable", format, arguments, why);
	va_end(arguments);
	_exit(127);
}

void report(const char *format, ...)
{
	char text[100];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof text - 1, format, arguments);
	va_end(arguments);
	dprintf(report_fd, "%s\n", text);
}

void missing(const char *path)
{
	if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP || errno == EACCES)
		unusable("'%s' cannot be opened", path);
	fail("'%s' cannot be opened", path);
}
