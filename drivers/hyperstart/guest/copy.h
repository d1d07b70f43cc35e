/* Copying trees of files. */
#ifndef COPY_H
#define COPY_H

#include "util.h"

/* Copy the contents of directory `from` to directory `to` if that is empty; owners, modes and links are kept. False and
 * errno if that fails. */
bool copy_into_empty(int from, int to);

#endif
