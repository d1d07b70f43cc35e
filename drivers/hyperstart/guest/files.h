/* Files of a container, by paths as its processes see them. */
#ifndef FILES_H
#define FILES_H

#include "container.h"

/* Write a whole file; it is created if it does not exist. False and `failure` if that fails. */
bool file_write(const struct container *container, const char *path, const uint8_t *bytes, size_t count);

/* Append the contents of a file to `contents`. False and `failure` if that fails or they do not fit. */
bool file_read(const struct container *container, const char *path, struct buffer *contents);

#endif
