/* Copying trees of files. */
#ifndef COPY_H
#define COPY_H

#include "util.h"

/* Copy what is in one directory to another unless that holds something; owners, modes and links are kept. False and errno
 * if that fails. */
bool copy_into_empty(int from, int to);

#endif
