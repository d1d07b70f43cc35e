/* The files by which programs find names: /etc/hostname, /etc/hosts and /etc/resolv.conf. The guest's own root has them, and
 * each container whose root is an overlay has a copy that it may change. */
#ifndef NAMES_H
#define NAMES_H

#include "network.h"

enum { NAME_FILES = 3 };

extern const char *const name_files[NAME_FILES]; /* their paths */

/* Compose the files of a pod, and write those of the guest's own root. A pod without name servers has no resolv.conf, and
 * without HELLO there is none of the other two. False and `failure` if that fails. */
bool names_set(const char *hostname, const struct interface *interfaces, const struct resolver *resolver);

/* Write the files into a new directory. False and `failure` if that fails. */
bool names_write(const char *directory);

#endif
