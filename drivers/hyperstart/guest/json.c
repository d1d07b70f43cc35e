#include "json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	DEPTH_MAX = 16,     /* the deepest message of the protocol has 6 */
	VALUES_MAX = 65536, /* bounds the memory of one message */
};

struct reader {
	char *at, *end;
	struct json *nodes; /* one allocation, as many as the text can hold */
	size_t used;
};

static bool read_value(struct reader *r, struct json **value, int depth);

static bool bad(const char *what)
{
	return fail("the message is not valid JSON: %s", what);
}

static void skip_space(struct reader *r)
{
	while (r->at < r->end && strchr(" \t\r\n", *r->at) && *r->at)
		r->at++;
}

static bool take(struct reader *r, char c)
{
	skip_space(r);
	if (r->at == r->end || *r->at != c)
		return false;
	r->at++;
	return true;
}

static bool read_hex4(struct reader *r, unsigned *value)
{
	*value = 0;
	if (r->end - r->at < 4)
		return false;
	for (int i = 0; i < 4; i++) {
		char c = *r->at++;

		if (c >= '0' && c <= '9')
			*value = *value << 4 | (unsigned)(c - '0');
		else if ((c | 32) >= 'a' && (c | 32) <= 'f')
			*value = *value << 4 | (unsigned)((c | 32) - 'a' + 10);
		else
			return false;
	}
	return true;
}

static char *put_utf8(char *to, unsigned code)
{
	if (code < 0x80) {
		*to++ = (char)code;
	} else if (code < 0x800) {
		*to++ = (char)(0xc0 | code >> 6);
		*to++ = (char)(0x80 | (code & 63));
	} else if (code < 0x10000) {
		*to++ = (char)(0xe0 | code >> 12);
		*to++ = (char)(0x80 | (code >> 6 & 63));
		*to++ = (char)(0x80 | (code & 63));
	} else {
		*to++ = (char)(0xf0 | code >> 18);
		*to++ = (char)(0x80 | (code >> 12 & 63));
		*to++ = (char)(0x80 | (code >> 6 & 63));
		*to++ = (char)(0x80 | (code & 63));
	}
	return to;
}

/* After the backslash. */
static bool read_escape(struct reader *r, char **to)
{
	static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
	unsigned code, low;
	const char *name;

	if (r->at == r->end)
		return bad("a string does not end");
	if (*r->at != 'u') {
		name = *r->at ? strchr(names, *r->at) : NULL;
		if (!name)
			return bad("an unknown escape in a string");
		*(*to)++ = values[name - names];
		r->at++;
		return true;
	}
	r->at++;
	if (!read_hex4(r, &code))
		return bad("\\u without four hexadecimal digits");
	if (code >= 0xd800 && code < 0xdc00) {
		if (r->end - r->at < 2 || r->at[0] != '\\' || r->at[1] != 'u')
			return bad("half a surrogate pair");
		r->at += 2;
		if (!read_hex4(r, &low) || low < 0xdc00 || low > 0xdfff)
			return bad("half a surrogate pair");
		code = 0x10000 + ((code - 0xd800) << 10 | (low - 0xdc00));
	} else if (code >= 0xdc00 && code < 0xe000) {
		return bad("half a surrogate pair");
	}
	if (!code)
		return bad("a NUL character in a string");
	*to = put_utf8(*to, code);
	return true;
}

/* After the opening quote. A decoded string is never longer than its source, so it is written over it. */
static bool read_string(struct reader *r, const char **text)
{
	char *to = r->at;

	*text = to;
	while (r->at < r->end && *r->at != '"') {
		char c = *r->at++;

		if (c == '\\') {
			if (!read_escape(r, &to))
				return false;
			continue;
		}
		if ((uint8_t)c < 0x20)
			return bad("a control character in a string");
		*to++ = c;
	}
	if (r->at == r->end)
		return bad("a string does not end");
	r->at++;
	*to = 0;
	return true;
}

static size_t digits(struct reader *r)
{
	char *from = r->at;

	while (r->at < r->end && *r->at >= '0' && *r->at <= '9')
		r->at++;
	return (size_t)(r->at - from);
}

static bool read_number(struct reader *r, struct json *value)
{
	value->type = JSON_NUMBER;
	value->text = r->at;
	if (*r->at == '-')
		r->at++;
	if (r->at < r->end && *r->at == '0')
		r->at++;
	else if (!digits(r))
		return bad("a value is missing");
	if (r->at < r->end && *r->at == '.') {
		r->at++;
		if (!digits(r))
			return bad("a number without digits after its point");
	}
	if (r->at < r->end && (*r->at | 32) == 'e') {
		r->at++;
		if (r->at < r->end && (*r->at == '+' || *r->at == '-'))
			r->at++;
		if (!digits(r))
			return bad("a number without digits in its exponent");
	}
	return true;
}

/* After the opening bracket or brace. */
static bool read_items(struct reader *r, struct json *value, int depth)
{
	bool object = value->type == JSON_OBJECT;
	char close = object ? '}' : ']';
	struct json **link = &value->child;

	if (depth == DEPTH_MAX)
		return bad("too deep");
	if (take(r, close))
		return true;
	do {
		const char *key = NULL;

		if (object) {
			if (!take(r, '"'))
				return bad("a key is missing");
			if (!read_string(r, &key))
				return false;
			if (!take(r, ':'))
				return bad("a colon is missing");
		}
		if (!read_value(r, link, depth + 1))
			return false;
		(*link)->key = key;
		link = &(*link)->next;
	} while (take(r, ','));
	return take(r, close) || bad("a comma or closing bracket is missing");
}

static bool read_word(struct reader *r, struct json *value)
{
	static const struct {
		const char *word;
		enum json_type type;
	} words[] = {{"null", JSON_NULL}, {"false", JSON_FALSE}, {"true", JSON_TRUE}};

	for (size_t i = 0; i < COUNT(words); i++) {
		size_t length = strlen(words[i].word);

		if ((size_t)(r->end - r->at) >= length && !memcmp(r->at, words[i].word, length)) {
			r->at += length;
			value->type = words[i].type;
			return true;
		}
	}
	return read_number(r, value);
}

static bool read_value(struct reader *r, struct json **value, int depth)
{
	struct json *node = &r->nodes[r->used++];

	*value = node;
	skip_space(r);
	if (r->at == r->end)
		return bad("it ends too early");
	switch (*r->at) {
	case '"':
		r->at++;
		node->type = JSON_STRING;
		return read_string(r, &node->text);
	case '[':
	case '{':
		node->type = *r->at == '[' ? JSON_ARRAY : JSON_OBJECT;
		r->at++;
		return read_items(r, node, depth);
	default:
		return read_word(r, node);
	}
}

/* End all numbers by NUL. Only once all is read, because the byte behind a number may be a comma that the reader needs. */
static void end_numbers(struct reader *r)
{
	for (size_t i = 0; i < r->used; i++) {
		struct json *node = &r->nodes[i];

		if (node->type == JSON_NUMBER)
			((char *)node->text)[strspn(node->text, "-+.0123456789eE")] = 0;
	}
}

struct json *json_read(char *text, size_t length)
{
	struct reader r = {.at = text, .end = text + length};
	struct json *root;
	size_t most = 1;

	/* Every value but the root follows one of these characters. */
	for (size_t i = 0; i < length; i++)
		most += text[i] == '[' || text[i] == '{' || text[i] == ',';
	if (most > VALUES_MAX) {
		bad("too many values");
		return NULL;
	}
	r.nodes = calloc(most, sizeof *r.nodes);
	if (!r.nodes) {
		fail("the guest has no memory for a message of %zu bytes", length);
		return NULL;
	}
	if (!read_value(&r, &root, 0)) {
		free(r.nodes);
		return NULL;
	}
	skip_space(&r);
	if (r.at != r.end) {
		bad("text after its end");
		free(r.nodes);
		return NULL;
	}
	*r.end = 0;
	end_numbers(&r);
	return root;
}

/* The length of the UTF-8 sequence at `text` (at most `left` bytes), 0 if it is not one. */
static size_t utf8_length(const uint8_t *text, size_t left)
{
	uint8_t first = text[0];
	uint8_t low = 0x80, high = 0xbf; /* bounds of the second byte: no overlong forms, no surrogates, <= U+10FFFF */
	size_t length;

	if (first < 0x80)
		return 1;
	if (first < 0xc2 || first > 0xf4)
		return 0;
	length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
	if (first == 0xe0)
		low = 0xa0;
	else if (first == 0xed)
		high = 0x9f;
	else if (first == 0xf0)
		low = 0x90;
	else if (first == 0xf4)
		high = 0x8f;
	if (left < length || text[1] < low || text[1] > high)
		return 0;
	for (size_t i = 2; i < length; i++)
		if (text[i] < 0x80 || text[i] > 0xbf)
			return 0;
	return length;
}

void json_write(struct buffer *buffer, const char *format, ...)
{
	char text[160]; /* enough for the formats of this program, which contain no strings from outside */
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(text, sizeof text, format, args);
	va_end(args);
	if (length < 0 || (size_t)length >= sizeof text)
		buffer->overflown = true;
	else
		buffer_add(buffer, text, (size_t)length);
}

void json_write_string(struct buffer *buffer, const char *text)
{
	size_t left = strlen(text);

	buffer_add(buffer, "\"", 1);
	while (left) {
		size_t length = utf8_length((const uint8_t *)text, left);

		if (!length) {
			length = 1;
			buffer_add(buffer, "?", 1);
		} else if (*text == '"' || *text == '\\') {
			json_write(buffer, "\\%c", *text);
		} else if ((uint8_t)*text < 0x20) {
			json_write(buffer, "\\u%04x", *text);
		} else {
			buffer_add(buffer, text, length);
		}
		text += length;
		left -= length;
	}
	buffer_add(buffer, "\"", 1);
}
