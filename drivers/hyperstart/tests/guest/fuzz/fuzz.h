/* What each target of the fuzzer defines, and what the fuzzer offers it. A target is one program: fuzz.c, one fuzz_NAME.c,
 * and sources of the agent that are compiled with the sanitizers. */
#ifndef FUZZ_H
#define FUZZ_H

#include "util.h"

enum { INPUT_MAX = 8192 };

/* Bytes that are inserted at random: what the readers under test look for, and values at their limits. */
struct word {
	const char *bytes;
	size_t length;
};

#define WORD(text) {(text), sizeof(text) - 1}

/* Of the target: its words, ended by one of NULL; called once before the first input, `program` is the path of this
 * program; called with each input. */
extern const struct word fuzz_words[];
void fuzz_begin(const char *program);
void fuzz_one(const uint8_t *bytes, size_t length);

/* Of the fuzzer: end the run, and keep the input, unless the condition holds. */
void require(bool condition, const char *what);

/* A number below `limit` that depends only on the input and on how often it was called for that. */
size_t below(size_t limit);

#endif
