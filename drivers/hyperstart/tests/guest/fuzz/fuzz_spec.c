/* Target of the fuzzer: what makes structures of a command's JSON. Each input is read as every command. */
#include "fuzz.h"
#include "spec.h"

#include <string.h>

/* clang-format off */
const struct word fuzz_words[] = {
	WORD("{}"), WORD("[]"), WORD("null"), WORD("true"), WORD("-1"), WORD("0"), WORD("\"\""), WORD("\"x\""), WORD(","),
	WORD("18446744073709551616"), WORD("1e999"), WORD("\"\":"), WORD("\"id\":"), WORD("\"args\":[]"), WORD("\"envs\":[{}]"),
	WORD("\"fsmap\":"), WORD("\"volumes\":"), WORD("\"rlimits\":"), WORD("\"process\":{"), WORD("\"CAP_MKNOD\""),
	WORD("\"isolate\":true"), WORD("\\u0000"), WORD("\"stderr\":"), WORD("\"addr\":\"1:2\""), {NULL, 0},
};
/* clang-format on */

void fuzz_begin(const char *program)
{
	(void)program;
}

/* Check what holds of each container that was read without failure. */
static void check_container(const struct container_spec *container)
{
	size_t total = strlen(container->id) + strlen(container->image.name) + strlen(container->rootfs);

	for (const char **arg = container->process.args; *arg; arg++)
		total += strlen(*arg);
	for (const struct variable *variable = container->process.envs; variable && variable->name; variable++)
		require(strchr(variable->text, '='), "a variable without a value");
	for (const struct mapping *mapping = container->mappings; mapping && mapping->path; mapping++)
		total += strlen(mapping->source);
	for (const struct mapping *volume = container->volumes; volume && volume->path; volume++)
		total += strlen(volume->disk.name) + strlen(volume->disk.fstype);
	for (const struct limit *limit = container->bounds.limits; limit && limit->name; limit++)
		total += strlen(limit->name);
	require(total < INPUT_MAX && *container->id && container->process.args[0], "an invalid container was accepted");
}

union spec {
	struct pod_spec pod;
	struct container_spec container;
	struct exec_spec exec;
	struct kill_spec kill;
	struct signal_spec signal;
	struct size_spec size;
	struct hello_spec hello;
	struct wake_spec wake;
	struct name_spec name;
	struct file_spec file;
	struct interface interface;
	struct routes_spec routes;
};

static void read_as_every_command(struct message *message)
{
	union spec spec;
	uint8_t entropy[64];

	if (read_container(message, &spec.container))
		check_container(&spec.container);
	if (read_pod(message, &spec.pod))
		for (const struct container_spec *each = spec.pod.containers; each && each->id; each++)
			check_container(each);
	if (read_exec(message, &spec.exec))
		require(spec.exec.process.args[0], "an exec without a command");
	if (read_kill(message, &spec.kill))
		require(*spec.kill.container, "a signal for no container");
	if (read_hello(message, &spec.hello))
		require(*spec.hello.token, "a hello without a token");
	if (read_wake(message, &spec.wake) && parse_hexadecimal(spec.wake.entropy, entropy, sizeof entropy))
		require(strlen(spec.wake.entropy) == 2 * sizeof entropy, "entropy of another length");
	read_signal(message, &spec.signal);
	read_size(message, &spec.size);
	read_name(message, &spec.name);
	read_file(message, &spec.file);
	read_interface(message, &spec.interface);
	read_routes(message, &spec.routes);
}

void fuzz_one(const uint8_t *bytes, size_t length)
{
	struct message message;

	if (message_read(&message, bytes, length))
		read_as_every_command(&message);
	message_free(&message);
}
