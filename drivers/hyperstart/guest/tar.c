#include "tar.h"

#include <stdio.h>
#include <string.h>

static const char magic[8] = "ustar  ";

_Static_assert(sizeof(struct tar_header) == BLOCK, "a header fills a block");

size_t tar_padding(uint64_t size)
{
	return (size_t)(-size % BLOCK);
}

void tar_put(char *field, size_t size, uint64_t value)
{
	char digits[32];

	if (snprintf(digits, sizeof digits, "%0*llo", (int)size - 1, (unsigned long long)value) < (int)size) {
		memcpy(field, digits, size);
		return;
	}
	for (size_t i = size; i--; value >>= 8)
		field[i] = (char)value;
	field[0] = (char)0x80;
}

bool tar_get(const char *field, size_t size, uint64_t *value)
{
	const char *end = field + size;

	*value = 0;
	if ((uint8_t)*field == 0x80) {
		while (++field < end)
			*value = *value << 8 | (uint8_t)*field;
		return *value <= INT64_MAX || fail("the archive has a number that is too large");
	}
	for (; field < end && *field == ' '; field++)
		;
	for (; field < end && '0' <= *field && *field <= '7'; field++)
		*value = *value << 3 | (uint64_t)(*field - '0');
	return field == end || !*field || *field == ' ' || fail("the archive has a number that is not valid");
}

static uint64_t sum_of(const struct tar_header *header)
{
	struct tar_header copy = *header;
	const uint8_t *bytes = (const uint8_t *)&copy;
	uint64_t sum = 0;

	memset(copy.checksum, ' ', sizeof copy.checksum);
	for (size_t i = 0; i < sizeof copy; i++)
		sum += bytes[i];
	return sum;
}

void tar_seal(struct tar_header *header)
{
	memcpy(header->magic, magic, sizeof magic);
	tar_put(header->checksum, sizeof header->checksum, sum_of(header));
}

bool tar_check(const struct tar_header *header)
{
	uint64_t sum;

	if (!tar_get(header->checksum, sizeof header->checksum, &sum))
		return false;
	return (sum == sum_of(header) && !memcmp(header->magic, magic, sizeof magic)) ||
	       fail("the archive has a block that is not a header of GNU's format");
}
