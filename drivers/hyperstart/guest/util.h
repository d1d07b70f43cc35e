/* Used by every part of the agent: failures with a reason, the console, big-endian numbers, byte buffers. */
#ifndef UTIL_H
#define UTIL_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define PRINTF(text, first) __attribute__((__format__(__printf__, text, first)))

/* Which part of a start failed: the container around a process, or the process itself. */
enum stage { STAGE_NONE, STAGE_SETUP, STAGE_PROCESS };

/* The last failure: one sentence for the host, and the exit code of a process that cannot start (else 0).
 * Functions that can fail return false (or NULL) after setting it. A child sends it to the agent as it is,
 * in one write to a pipe, so it stays below PIPE_BUF. */
struct failure {
	uint8_t stage;
	uint8_t exit_code;
	char reason[510];
};
extern struct failure failure;

/* Both set `failure` and return false, for `return fail(...)`. */
bool fail(const char *format, ...) PRINTF(1, 2);
bool fail_process(int exit_code, const char *format, ...) PRINTF(2, 3);

/* Write a line to the VM's console. */
void console(const char *format, ...) PRINTF(1, 2);

/* Write a line to the console, then power off: if pid 1 exited, the kernel would panic. */
_Noreturn void fatal(const char *format, ...) PRINTF(1, 2);
_Noreturn void power_off(void);

/* Read `size` bytes from twice as many hexadecimal digits, which must be all of the text. */
bool parse_hexadecimal(const char *text, uint8_t *bytes, size_t size);

uint32_t get_be32(const uint8_t *bytes);
uint64_t get_be64(const uint8_t *bytes);
void put_be32(uint8_t *bytes, uint32_t value);
void put_be64(uint8_t *bytes, uint64_t value);

/* Bytes that grow up to a limit. An append that does not fit (or finds no memory) appends nothing and returns false;
 * it sets `overflown`, so that a caller can check once at the end. */
struct buffer {
	uint8_t *data;
	size_t length, capacity, limit;
	bool overflown;
};
bool buffer_reserve(struct buffer *buffer, size_t more);
bool buffer_add(struct buffer *buffer, const void *bytes, size_t count);
void buffer_shrink(struct buffer *buffer, size_t capacity); /* only while empty */
void buffer_free(struct buffer *buffer);

/* Write a short text to a file below /proc or /sys. False and errno if that fails. */
bool write_file(const char *path, const char *text);

int64_t milliseconds(void);

#endif
