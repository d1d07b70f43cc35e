/* The blocks of a tar archive in GNU's format, as this project's host writes and reads it. */
#ifndef TAR_H
#define TAR_H

#include "util.h"

/* Bytes of a block; what is between two headers fills whole ones. CHUNK: how much is moved at once. */
enum { BLOCK = 512, CHUNK = 65536 };

/* The types of entries; LONG_NAME and LONG_TARGET hold a text that does not fit into the header which follows. */
enum tar_type {
	TAR_FILE = '0',
	TAR_HARD_LINK = '1',
	TAR_LINK = '2',
	TAR_CHARACTER_DEVICE = '3',
	TAR_BLOCK_DEVICE = '4',
	TAR_DIRECTORY = '5',
	TAR_PIPE = '6',
	TAR_LONG_TARGET = 'K',
	TAR_LONG_NAME = 'L',
};

/* A text fills its field, or ends with a zero. */
struct tar_header {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, target[100], magic[8];
	char user[32], group[32], major[8], minor[8], unused[167];
};

/* The bytes that fill the last block of so many. */
size_t tar_padding(uint64_t size);

/* A number: octal digits, or where these do not suffice, 0x80 and a big-endian number. */
void tar_put(char *field, size_t size, uint64_t value);
bool tar_get(const char *field, size_t size, uint64_t *value);

/* Set the magic and the checksum of a header that is complete otherwise. */
void tar_seal(struct tar_header *header);

/* Check them. False and `failure` for a block that is not a header. */
bool tar_check(const struct tar_header *header);

#endif
