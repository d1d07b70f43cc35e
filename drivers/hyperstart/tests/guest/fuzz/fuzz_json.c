/* Target of the fuzzer: the parser of JSON, and the writer of strings. */
#include "fuzz.h"
#include "spec.h"

#include <string.h>

/* clang-format off */
const struct word fuzz_words[] = {
	WORD("{"), WORD("}"), WORD("["), WORD("]"), WORD(","), WORD(":"), WORD("\""), WORD("\\"), WORD("\\u"),
	WORD("\\ud800"), WORD("\\udc00"), WORD("\\u0000"), WORD("null"), WORD("true"), WORD("false"), WORD("-"), WORD("0"),
	WORD("."), WORD("e"), WORD("18446744073709551616"), WORD("9223372036854775808"), WORD("1e999"), WORD("\"\":"),
	WORD("{}"), WORD("[]"), WORD("\xff"), WORD("\xc3\xa9"), WORD(" "), WORD("[[[[[[[[[[[[[[[[["), {NULL, 0},
};
/* clang-format on */

void fuzz_begin(const char *program)
{
	(void)program;
}

/* Read every string of a value, as the agent does. */
static size_t weigh(const struct json *value)
{
	struct buffer text = {.limit = 6 * INPUT_MAX + 2};
	size_t weight = 0;

	for (; value; value = value->next) {
		weight += (value->key ? strlen(value->key) : 0) + weigh(value->child);
		if (value->type == JSON_STRING || value->type == JSON_NUMBER) {
			json_write_string(&text, value->text);
			require(!text.overflown, "a string grew");
			text.length = 0;
		}
	}
	buffer_free(&text);
	return weight;
}

void fuzz_one(const uint8_t *bytes, size_t length)
{
	struct message message;

#ifdef PLANTED_ERROR
	require(length < 2 || bytes[length] != PLANTED_ERROR, "found");
#endif
	failure.reason[0] = 0;
	if (message_read(&message, bytes, length))
		require(weigh(message.root) <= length, "keys are longer than the text");
	else
		require(failure.reason[0], "a failure without a reason");
	message_free(&message);
}
