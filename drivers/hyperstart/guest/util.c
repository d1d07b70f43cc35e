#include "util.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <time.h>
#include <unistd.h>

struct failure failure;

static bool set_failure(enum stage stage, int exit_code, const char *format, va_list args)
{
	failure.stage = stage;
	failure.exit_code = exit_code;
	vsnprintf(failure.reason, sizeof failure.reason, format, args);
	return false;
}

bool fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	set_failure(STAGE_SETUP, 0, format, args);
	va_end(args);
	return false;
}

bool fail_process(int exit_code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	set_failure(STAGE_PROCESS, exit_code, format, args);
	va_end(args);
	return false;
}

static void console_line(const char *format, va_list args)
{
	char line[600];
	int length = vsnprintf(line, sizeof line - 1, format, args);

	length = length < 0 ? 0 : MIN(length, (int)sizeof line - 2);
	line[length++] = '\n';
	if (write(2, line, length) < 0)
		return; /* a VM without a console */
}

void console(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	console_line(format, args);
	va_end(args);
}

void power_off(void)
{
	sync();
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

void fatal(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	console_line(format, args);
	va_end(args);
	power_off();
}

bool parse_hexadecimal(const char *text, uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i < 2 * size; i++) {
		const char *digits = "0123456789abcdef", *digit = text[i] ? strchr(digits, text[i] | 32) : NULL;

		if (!digit)
			return false;
		bytes[i / 2] = (uint8_t)(bytes[i / 2] << 4 | (digit - digits));
	}
	return !text[2 * size];
}

uint32_t get_be32(const uint8_t *bytes)
{
	return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

uint64_t get_be64(const uint8_t *bytes)
{
	return (uint64_t)get_be32(bytes) << 32 | get_be32(bytes + 4);
}

void put_be32(uint8_t *bytes, uint32_t value)
{
	for (int i = 3; i >= 0; i--, value >>= 8)
		bytes[i] = (uint8_t)value;
}

void put_be64(uint8_t *bytes, uint64_t value)
{
	put_be32(bytes, (uint32_t)(value >> 32));
	put_be32(bytes + 4, (uint32_t)value);
}

bool buffer_reserve(struct buffer *buffer, size_t more)
{
	size_t wanted, capacity;
	uint8_t *data;

	if (buffer->limit - buffer->length < more)
		return false;
	wanted = buffer->length + more;
	if (wanted <= buffer->capacity)
		return true;
	capacity = MIN(wanted * 2, buffer->limit);
	data = realloc(buffer->data, capacity);
	if (!data)
		return false;
	buffer->data = data;
	buffer->capacity = capacity;
	return true;
}

bool buffer_add(struct buffer *buffer, const void *bytes, size_t count)
{
	if (!buffer_reserve(buffer, count)) {
		buffer->overflown = true;
		return false;
	}
	if (count)
		memcpy(buffer->data + buffer->length, bytes, count);
	buffer->length += count;
	return true;
}

void buffer_shrink(struct buffer *buffer, size_t capacity)
{
	uint8_t *data;

	if (buffer->length || buffer->capacity <= capacity)
		return;
	data = realloc(buffer->data, capacity);
	if (!data)
		return;
	buffer->data = data;
	buffer->capacity = capacity;
}

void buffer_free(struct buffer *buffer)
{
	free(buffer->data);
	buffer->data = NULL;
	buffer->length = buffer->capacity = 0;
}

bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	size_t length = strlen(text);
	bool done;

	if (fd < 0)
		return false;
	done = write(fd, text, length) == (ssize_t)length;
	close(fd); /* cannot fail there, so errno is still that of write */
	return done;
}

int64_t milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
