/* Writes a file or a tree of files as a tar archive. */
#ifndef PACK_H
#define PACK_H

#include "util.h"

/* Write what is at `path` to standard output, as "."; what is below it has names without "./". Sockets, and what is in
 * file systems that hold no files, such as /proc, are left out. `follow`: if `path` is a link, write what it leads to.
 * False and `failure` if that fails. */
bool pack(const char *path, bool follow);

#endif
