/* Which dialect of the protocol the host speaks. */
#ifndef DIALECT_H
#define DIALECT_H

#include <stdbool.h>

enum { API_2016 = 4242, API_2017 = 4243, API_FINAL = 4244 };

/* What GETVERSION says. */
extern unsigned api_version;

/* The version is a later one than that of 2016, and no host has said HELLO. */
extern bool version_is_later;

/* A host of this boot said HELLO, so that our additions to the protocol are in force, whatever the version. */
extern bool extended;

/* At boot: take the version that the kernel command line names. */
void dialect_init(void);

#endif
