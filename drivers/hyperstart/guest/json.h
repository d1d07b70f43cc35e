/* A strict JSON reader (RFC 8259) that decodes in place, and a writer into a buffer. Strings are read byte for byte, valid
 * UTF-8 or not, because they name files and are arguments of programs. What is written is valid UTF-8. */
#ifndef JSON_H
#define JSON_H

#include "util.h"

enum json_type { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json {
	enum json_type type;
	const char *key;    /* of a member of an object, else NULL */
	const char *text;   /* a string decoded (never contains NUL), a number as written */
	struct json *child; /* the first item or member */
	struct json *next;  /* the one after this in the same array or object */
};

/* Read one JSON value from `text`, which it overwrites with decoded strings; text[length] must be writable.
 * Returns the value, to be freed with free() (once, the root only), or NULL and sets `failure`. */
struct json *json_read(char *text, size_t length);

/* Append to a buffer, which sets `overflown` if it does not fit. In a string, bytes that are not UTF-8 are written as
 * '?'. */
void json_write_string(struct buffer *buffer, const char *text);
void json_write(struct buffer *buffer, const char *format, ...) PRINTF(2, 3);

#endif
