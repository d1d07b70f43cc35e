/* Runs what the guest agent does with archives on the host, with the sanitizers.
 *
 *     archives pack PATH            write an archive; pack-target: of what the link PATH leads to
 *     archives unpack PATH [NAME]   read one */
#include "pack.h"
#include "unpack.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
	bool done;

	if (argc < 3)
		return 2;
	done = strcmp(argv[1], "unpack") ? pack(argv[2], strcmp(argv[1], "pack"))
	                                 : unpack(argv[2], argc > 3 ? argv[3] : "");
	if (!done)
		fprintf(stderr, "%s\n", failure.reason);
	return !done;
}
