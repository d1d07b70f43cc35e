/* The dialect of the protocol that the host uses: an API version of the original agent, or this project's extensions. */
#ifndef DIALECT_H
#define DIALECT_H

#include <stdbool.h>

enum { API_2016 = 4242, API_2017 = 4243, API_FINAL = 4244 };

/* The version that GETVERSION returns. */
extern unsigned api_version;

/* The version is later than that of 2016, and no host of this boot has sent HELLO. */
extern bool version_is_later;

/* A host of this boot has sent HELLO, so that the extensions are in force, whatever the version. */
extern bool extended;

/* Called once at boot: read the version from the kernel command line (vc.api). */
void dialect_init(void);

#endif
