/* Init of a hostile guest: it answers the host as the guest agent does (docs/reference/guest-protocol.md), until a command
 * whose first argument is the name of an attack. */

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum code { GETVERSION, EXECCMD = 6, READY = 8, ACK, ERROR, NEXT = 14, HELLO = 4096 };
enum control_type { CREDIT = 1 };

/* Flow control of guest-protocol.md: bytes that the host may not have consumed. */
#define WINDOW 524288

static int control, stream, greeted;

static const char features[] =
	"{\"version\":1,\"features\":[\"no-next\",\"reasons\",\"exec-ack\",\"signal\",\"status128\",\"drain\",\"credit\","
	"\"sync\",\"pod-stays\",\"pod-root\",\"mounts\",\"no-input\",\"terminal-size\"],\"processes\":[]}";

/* A title, a line break, a colour by an 8-bit control character, and text from right to left. */
static const char reason[] =
	"{\"reason\":\"\\u001b]0;owned\\u0007\\r\\nforged line\\u009b31m\\u202e%0100000d\",\"exit_code\":127}";
static const char shown[] = "\033]0;owned\007\r\nforged\302\23331m\342\200\256\377\n";

static void send_all(int fd, const void *data, size_t length)
{
	for (const char *at = data; length;) {
		ssize_t sent = write(fd, at, length);
		if (sent < 0 && errno != EINTR && errno != EAGAIN)
			return;
		if (sent > 0)
			at += sent, length -= sent;
	}
}

static void answer(uint32_t code, const void *payload, uint32_t length)
{
	uint32_t header[2] = {htonl(code), htonl(8 + length)};

	send_all(control, header, sizeof header);
	send_all(control, payload, length);
}

/* Fills in a stream frame; returns its length. */
static size_t frame(char *to, uint64_t sequence, const void *payload, uint32_t length)
{
	uint64_t first = htobe64(sequence);
	uint32_t second = htonl(12 + length);

	memcpy(to, &first, 8);
	memcpy(to + 8, &second, 4);
	memcpy(to + 12, payload, length);
	return 12 + length;
}

static void output(uint64_t sequence, const void *payload, uint32_t length)
{
	static char bytes[65536];

	send_all(stream, bytes, frame(bytes, sequence, payload, length));
}

static void end(uint64_t sequence, char status)
{
	output(sequence, "", 0);
	output(sequence, &status, 1);
}

/* Sends so many bytes of output, each in a frame of its own. */
static void drip(uint64_t sequence, size_t count)
{
	static char bytes[13 * 4096];
	size_t length = 0;

	while (count--) {
		length += frame(bytes + length, sequence, "x", 1);
		if (length == sizeof bytes || !count) {
			send_all(stream, bytes, length);
			length = 0;
		}
	}
}

static void credit(uint64_t sequence, uint64_t value)
{
	char payload[17] = {CREDIT};
	uint64_t numbers[2] = {htobe64(sequence), htobe64(value)};

	memcpy(payload + 1, numbers, sizeof numbers);
	output(0, payload, sizeof payload);
}

static uint64_t number(const char *payload, const char *key)
{
	const char *found = strstr(payload, key);

	return found ? strtoull(found + strlen(key), NULL, 10) : 0;
}

static void attack(const char *payload)
{
	static char large[200000];
	uint64_t stdio = number(payload, "\"stdio\":");
	const char *args = strstr(payload, "\"args\":[\"");
	char name[32] = "";

	if (args)
		sscanf(args + strlen("\"args\":[\""), "%31[a-z-]", name);
#define IS(wanted) !strcmp(name, wanted)
	if (IS("reason")) {
		answer(ERROR, large, snprintf(large, sizeof large, reason, 0));
		return;
	}
	if (IS("garbage")) {
		int random = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
		send_all(control, large, read(random, large, 100000));
		return;
	}
	answer(ACK, "", 0);
	if (IS("drip"))
		drip(stdio, WINDOW);
	if (IS("unknown"))
		for (int i = 0; i < 1000; i++)
			output(1 + (stdio + 1 + i) % 1000, large, 16384);
	if (IS("credit"))
		for (int i = 0; i < 100000; i++)
			credit(stdio + 1 + i, ~0ULL);
	if (IS("console")) {
		int console = open("/dev/console", O_WRONLY | O_NOCTTY | O_CLOEXEC);
		for (int i = 0; i < 20; i++)
			send_all(console, shown, sizeof shown - 1);
		close(console);
	}
	if (IS("unknown") || IS("credit") || IS("console")) {
		output(stdio, shown, sizeof shown - 1);
		end(stdio, 3);
	}
	if (IS("never-ends"))
		output(stdio, "runs", 4); /* and nothing more */
}

static void obey(uint32_t code, const char *payload)
{
	uint32_t version = htonl(4242);

	if (code == GETVERSION)
		answer(ACK, &version, sizeof version);
	else if (code == HELLO)
		answer(ACK, features, sizeof features - 1), greeted = 1;
	else if (code == EXECCMD)
		attack(payload);
	else
		answer(ACK, "", 0); /* also DESTROYPOD, and runs on */
}

static void serve(void)
{
	static char buffer[1 << 20];
	size_t length = 0;

	answer(READY, "", 0);
	for (;;) {
		ssize_t got = read(control, buffer + length, sizeof buffer - 1 - length);
		uint32_t count = htonl(got), header[2];
		if (got <= 0) { /* no process of the host is connected */
			usleep(5000);
			continue;
		}
		length += got;
		if (!greeted)
			answer(NEXT, &count, sizeof count);
		for (;;) {
			memcpy(header, buffer, sizeof header);
			size_t whole = ntohl(header[1]);
			if (length < sizeof header || length < whole)
				break;
			char next = buffer[whole];
			buffer[whole] = 0;
			obey(ntohl(header[0]), buffer + sizeof header);
			buffer[whole] = next;
			memmove(buffer, buffer + whole, length -= whole);
		}
	}
}

static void load_modules(void)
{
	char path[256];
	FILE *list = fopen("/lib/modules/load", "re");

	while (list && fgets(path, sizeof path, list)) {
		path[strcspn(path, "\n")] = 0;
		int module = open(path, O_RDONLY | O_CLOEXEC);
		syscall(SYS_finit_module, module, "", 0);
		close(module);
	}
}

/* Returns the port of a name, once there is one. */
static int port(const char *wanted)
{
	for (;; usleep(5000)) {
		glob_t found;
		if (glob("/sys/class/virtio-ports/*/name", 0, NULL, &found))
			continue;
		for (size_t i = 0; i < found.gl_pathc; i++) {
			char name[64] = "", device[300];
			FILE *file = fopen(found.gl_pathv[i], "re");
			if (file && fgets(name, sizeof name, file))
				name[strcspn(name, "\n")] = 0;
			if (file)
				fclose(file);
			*strrchr(found.gl_pathv[i], '/') = 0;
			snprintf(device, sizeof device, "/dev/%s", strrchr(found.gl_pathv[i], '/') + 1);
			int opened = strcmp(name, wanted) ? -1 : open(device, O_RDWR | O_CLOEXEC);
			if (opened >= 0)
				return opened;
		}
		globfree(&found);
	}
}

int main(void)
{
	static const char *const directories[] = {"/proc", "/sys", "/dev"};

	for (size_t i = 0; i < sizeof directories / sizeof *directories; i++)
		mkdir(directories[i], 0755);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sysfs", "/sys", "sysfs", 0, NULL);
	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	load_modules();
	control = port("sh.hyper.channel.0");
	stream = port("sh.hyper.channel.1");
	serve();
}
