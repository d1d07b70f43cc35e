/* Files of a container, by paths as its processes see them. */
#ifndef FILES_H
#define FILES_H

#include "container.h"

/* Write a whole file, made if it is missing. False and `failure` if that fails. */
bool file_write(const struct container *container, const char *path, const uint8_t *bytes, size_t count);

/* Append what is in a file, which must fit. Likewise. */
bool file_read(const struct container *container, const char *path, struct buffer *contents);

#endif
