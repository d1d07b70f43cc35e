#include "dialect.h"

#include "boot.h"

#include <stdlib.h>

unsigned api_version = API_2016;
bool version_is_later, extended;

void dialect_init(void)
{
	const char *given = boot_option("api", "");
	unsigned long version = given ? strtoul(given, NULL, 10) : API_2016;

	if (version < API_2016 || version > API_FINAL)
		fatal("guest agent: vc.api=%s is not between %d and %d", given, API_2016, API_FINAL);
	api_version = (unsigned)version;
	version_is_later = api_version > API_2016;
}
