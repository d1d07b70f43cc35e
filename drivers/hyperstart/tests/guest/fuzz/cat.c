/* The program of containers in the fuzzer of the whole agent: it copies its input to its output and to its error output. */
#include <unistd.h>

int main(void)
{
	char bytes[4096];

	for (ssize_t count; (count = read(0, bytes, sizeof bytes)) > 0;)
		if (write(1, bytes, count) < 0 || write(2, bytes, count) < 0)
			return 1;
	return 0;
}
