/* Reads a tar archive and makes the files that it holds. */
#ifndef UNPACK_H
#define UNPACK_H

#include "util.h"

/* Make what the archive on standard input holds, until its end. Its entry "." becomes `path`, or `name` in the directory
 * `path` if that exists and `name` is not empty; its other entries come below that. With an empty `name`, `path` is a
 * directory, which is made if it is missing. No name of an entry, and no link, leads out of there. Devices are refused.
 * False and `failure` if that fails; what was made stays. */
bool unpack(const char *path, const char *name);

#endif
