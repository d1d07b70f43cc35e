#include "commands.h"

#include "channel.h"
#include "devices.h"
#include "dialect.h"
#include "files.h"
#include "phase.h"
#include "pod.h"
#include "root.h"
#include "start.h"
#include "wake.h"

#include <signal.h>
#include <string.h>

enum {
	EXTENSIONS_VERSION = 1,
	NOT_SET_UP = 125,
};

bool destroy_requested, off_after_answer;

static struct buffer *reply; /* of the command that is being performed */
static char token[2 * TOKEN_SIZE + 1]; /* in hexadecimal, of the boot's first HELLO */

/* The start that is in progress. */
static struct {
	enum { NO_START, START_PROCESS, START_CONTAINER, START_POD } kind;
	struct pod_spec pod;
	size_t started; /* containers of the pod */
} start;

static enum outcome outcome_of(bool done)
{
	return done ? DONE : FAILED;
}

static enum outcome acknowledge(struct message *message)
{
	(void)message;
	return DONE;
}

static enum outcome get_version(struct message *message)
{
	uint8_t version[4];

	(void)message;
	put_be32(version, api_version);
	buffer_add(reply, version, sizeof version);
	return DONE;
}

static enum outcome rescan_devices(struct message *message)
{
	(void)message;
	devices_rescan();
	return DONE;
}

static enum outcome begin(int kind)
{
	start.kind = kind;
	return LATER;
}

/* Undo the part of a pod's start that succeeded. */
static void undo_pod(void)
{
	struct failure kept = failure;

	processes_forget(NULL);
	pod_end();
	failure = kept;
	off_after_answer = !extended;
}

static enum outcome start_next_container(void)
{
	const struct container_spec *next = start.pod.containers ? &start.pod.containers[start.started++] : NULL;

	if (!next || !next->id)
		return DONE;
	if (container_start(next, NULL))
		return LATER;
	undo_pod();
	return FAILED;
}

static enum outcome start_pod(struct message *message)
{
	if (pod.started) {
		fail("a pod is started already");
		return FAILED;
	}
	if (!read_pod(message, &start.pod))
		return FAILED;
	if (!pod_start(&start.pod)) {
		off_after_answer = !extended;
		return FAILED;
	}
	pod.message = *message;
	*message = (struct message){0};
	start.started = 0;
	begin(START_POD);
	return start_next_container();
}

static enum outcome new_container(struct message *message)
{
	struct container_spec spec;

	if (!read_container(message, &spec))
		return FAILED;
	if (!pod.started) {
		fail("no pod is started");
		return FAILED;
	}
	return container_start(&spec, message) ? begin(START_CONTAINER) : FAILED;
}

static enum outcome run(struct container *container, const struct process_spec *spec)
{
	enum start outcome = process_start(container, false, spec);

	return outcome == STARTING ? begin(START_PROCESS) : outcome_of(outcome == STARTED);
}

static enum outcome exec_in_vm(const struct process_spec *spec)
{
	struct container *vm = container_find(VM_ITSELF);

	if (!vm)
		vm = container_of_guest(VM_ITSELF);
	return vm ? run(vm, spec) : FAILED;
}

static enum outcome exec_in_pod(const struct process_spec *spec)
{
	struct container *itself = NULL;

	if (!extended)
		fail("the exec has no 'container'");
	else if (!pod.started)
		fail("no pod is started");
	else
		itself = pod_itself();
	return itself ? run(itself, spec) : FAILED;
}

static enum outcome exec_command(struct message *message)
{
	struct exec_spec spec;
	struct container *container;

	if (!read_exec(message, &spec))
		return FAILED;
	if (!*spec.container)
		return exec_in_pod(&spec.process);
	if (pod.started && api_version > API_2016 && !strcmp(spec.container, VM_ITSELF))
		return exec_in_vm(&spec.process);
	container = container_find(spec.container);
	if (!container || !container->running) {
		fail_process(NOT_SET_UP, container ? "container '%s' does not run" : "there is no container '%s'",
		             spec.container);
		if (extended || version_is_later || spec.process.terminal)
			return FAILED;
		return outcome_of(process_stillborn(spec.container, &spec.process, NOT_SET_UP));
	}
	if (container->frozen) { /* so would be the process, and the agent waits for its execve */
		fail_process(NOT_SET_UP, "container '%s' is suspended", spec.container);
		return FAILED;
	}
	return run(container, &spec.process);
}

static enum outcome kill_container(struct message *message)
{
	struct kill_spec spec;
	struct container *container;
	struct process *process;

	if (!read_kill(message, &spec))
		return FAILED;
	container = container_find(spec.container);
	if (!container && version_is_later) {
		static const char reason[] = "no such container";

		buffer_add(reply, reason, sizeof reason);
	}
	if (!container) {
		fail("there is no container '%s'", spec.container);
		return FAILED;
	}
	process = container_first_process(container);
	return outcome_of(!process || process_kill(process, (int)MIN(spec.signal, INT32_MAX)) || !extended);
}

static enum outcome signal_process(struct message *message)
{
	struct signal_spec spec;
	struct process *process;

	if (!read_signal(message, &spec))
		return FAILED;
	process = process_by_stdio(spec.stdio);
	if (!process) {
		fail("there is no process with stream %llu", (unsigned long long)spec.stdio);
		return FAILED;
	}
	return outcome_of(process_signal(process, (int)MIN(spec.signal, INT32_MAX)));
}

static enum outcome signal_by_id(struct message *message)
{
	struct kill_spec spec;
	struct process *process;

	if (!read_kill(message, &spec))
		return FAILED;
	process = process_by_id(spec.container, spec.process);
	if (!process) {
		fail("there is no process '%s' in container '%s'", spec.process, spec.container);
		return FAILED;
	}
	/* To its process group, which the process leads. */
	if (!process->ended)
		kill(-process->pid, (int)MIN(spec.signal, INT32_MAX));
	return DONE;
}

/* Find a container by its id. NULL and `failure` if it does not exist. */
static struct container *known_container(const char *id)
{
	struct container *container = container_find(id);

	if (!container)
		fail("there is no container '%s'", id);
	return container;
}

/* Find the container of a message that names only a container. NULL and `failure` if it does not exist. */
static struct container *named_container(struct message *message)
{
	struct name_spec spec;

	return read_name(message, &spec) ? known_container(spec.container) : NULL;
}

/* The same for one that runs. */
static struct container *running_container(const char *id)
{
	struct container *container = known_container(id);

	if (!container || container->running)
		return container;
	fail("container '%s' does not run", id);
	return NULL;
}

static enum outcome freeze(struct message *message)
{
	struct freeze_spec spec;
	struct container *container;

	if (!read_freeze(message, &spec))
		return FAILED;
	container = running_container(spec.container);
	if (!container || !cgroup_freeze(&container->cgroup, spec.frozen))
		return FAILED;
	container->frozen = spec.frozen;
	return DONE;
}

static enum outcome update(struct message *message)
{
	struct update_spec spec;
	struct container *container;

	if (!read_update(message, &spec))
		return FAILED;
	container = running_container(spec.container);
	return outcome_of(container && cgroup_bound(&container->cgroup, spec.memory, spec.pids, spec.cpus));
}

static enum outcome remove_container(struct message *message)
{
	struct container *container = named_container(message);

	if (!container)
		return FAILED;
	if (container->running) {
		fail("container '%s' still runs", container->spec.id);
		return FAILED;
	}
	processes_forget(container);
	container_free(container);
	return DONE;
}

static enum outcome report_usage(struct message *message)
{
	struct container *container = named_container(message);

	if (!container)
		return FAILED;
	if (container->cgroup.directory < 0) {
		fail("container '%s' does not run", container->spec.id);
		return FAILED;
	}
	cgroup_write_usage(&container->cgroup, reply);
	return DONE;
}

static enum outcome resize(struct message *message)
{
	struct size_spec spec;
	struct process *process;

	if (!read_size(message, &spec))
		return FAILED;
	process = *spec.process ? process_by_id(spec.container, spec.process) : process_by_stdio(spec.stream);
	if (!process && *spec.process) {
		fail("there is no process '%s' in container '%s'", spec.process, spec.container);
		return FAILED;
	}
	if (process && process->terminal && process->out.watch.fd >= 0)
		set_terminal_size(process->out.watch.fd, spec.rows, spec.columns);
	return DONE;
}

/* Read a message about a file and find its container. NULL and `failure` if that fails. */
static struct container *named_file(struct message *message, struct file_spec *spec)
{
	struct container *container;

	if (!read_file(message, spec))
		return NULL;
	container = container_find(spec->container);
	if (!container)
		fail("there is no container '%s'", spec->container);
	return container;
}

static enum outcome write_container_file(struct message *message)
{
	struct file_spec spec;
	struct container *container = named_file(message, &spec);

	return outcome_of(container && file_write(container, spec.path, message->rest, message->rest_length));
}

static enum outcome read_container_file(struct message *message)
{
	struct file_spec spec;
	struct container *container = named_file(message, &spec);

	if (container && file_read(container, spec.path, reply))
		return DONE;
	reply->length = 0;
	return FAILED;
}

static enum outcome put_online(struct message *message)
{
	(void)message;
	devices_online();
	return DONE;
}

static enum outcome set_interface(struct message *message)
{
	struct interface spec;

	return outcome_of(read_interface(message, &spec) && network_set_interface(&spec));
}

static enum outcome remove_interface(struct message *message)
{
	struct interface spec;

	return outcome_of(read_interface(message, &spec) && network_remove_interface(spec.device));
}

static enum outcome set_routes(struct message *message)
{
	struct routes_spec spec;

	if (!read_routes(message, &spec))
		return FAILED;
	for (const struct route *route = spec.routes; route && route->dest; route++)
		if (!network_set_route(route))
			return FAILED;
	return DONE;
}

static enum outcome destroy_pod(struct message *message)
{
	(void)message;
	destroy_requested = true;
	pod_destroy();
	return LATER;
}

static void write_process(const struct process *process)
{
	json_write(reply, "{\"container\":");
	json_write_string(reply, process->container_id);
	json_write(reply, ",\"init\":%s,\"stdio\":%llu,\"stderr\":%llu", process->init ? "true" : "false",
	           (unsigned long long)process->out.stream, (unsigned long long)process->err.stream);
	json_write(reply, ",\"terminal\":%s,\"ended\":%s,\"status\":%d", process->terminal ? "true" : "false",
	           process->ended ? "true" : "false", process->status);
	json_write(reply, ",\"received\":%llu,\"consumed\":%llu,\"closed\":%s", (unsigned long long)process->in.received,
	           (unsigned long long)process->in.consumed, process->in.ends ? "true" : "false");
	json_write(reply, ",\"stdout_from\":%llu,\"stderr_from\":%llu}", (unsigned long long)process->out.consumed,
	           (unsigned long long)process->err.consumed);
}

static enum outcome answer_hello(void)
{
	static const char *const features[] = {
		"no-next",     "reasons", "exec-ack",       "signal",        "status128", "drain",        "credit",
		"sync",        "overlay", "pod-root",       "pod-stays",     "mounts",    "no-input",     "terminal-size",
		"confinement", "stats",   "isolation",      "wake",          "times",     "close-output", "archive",
		"own-pids",    "sysctls", "process-limits", "mount-options", "freeze",    "update",       "seccomp",
		"devices",     "clock",   "writable-roots",
	};
	const char *separator = "";

	json_write(reply, "{\"version\":%d,\"features\":", EXTENSIONS_VERSION);
	for (size_t i = 0; i < COUNT(features); i++) {
		json_write(reply, i ? "," : "[");
		json_write_string(reply, features[i]);
	}
	json_write(reply, "],\"processes\":[");
	for (struct process *process = processes; process; process = process->next) {
		if (process->hidden)
			continue;
		json_write(reply, "%s", separator);
		write_process(process);
		separator = ",";
	}
	json_write(reply, "]}");
	return DONE;
}

static enum outcome hello(struct message *message)
{
	struct hello_spec spec;
	uint8_t bytes[TOKEN_SIZE];

	if (!read_hello(message, &spec))
		return FAILED;
	if (!spec.version || !parse_hexadecimal(spec.token, bytes, TOKEN_SIZE)) {
		fail("HELLO needs a version and a token of %d hexadecimal digits", 2 * TOKEN_SIZE);
		return FAILED;
	}
	if (extended && strcasecmp(token, spec.token)) {
		fail("HELLO has another token than the first of this boot");
		return FAILED;
	}
	if (!extended) {
		strcpy(token, spec.token);
		channel_set_token(bytes);
		extended = true;
		version_is_later = false;
	}
	return answer_hello();
}

static enum outcome wake_clone(struct message *message)
{
	struct wake_spec spec;
	int64_t begun;

	if (!read_wake(message, &spec))
		return FAILED;
	if (extended || pod.started) {
		fail("WAKE must come before HELLO and STARTPOD");
		return FAILED;
	}
	phases_forget(); /* those of the saved VM */
	begun = phase_clock();
	if (!wake(&spec))
		return FAILED;
	phase_end("wake", begun);
	return DONE;
}

static enum outcome set_time(struct message *message)
{
	struct clock_spec spec;

	return outcome_of(read_clock(message, &spec) && set_clock(spec.time));
}

static enum outcome apply_sysctls(struct message *message)
{
	struct sysctls_spec spec;

	if (!read_sysctls(message, &spec))
		return FAILED;
	if (!pod.started) {
		fail("no pod is started");
		return FAILED;
	}
	return outcome_of(set_sysctls(spec.sysctls));
}

static enum outcome report_times(struct message *message)
{
	(void)message;
	phases_take(reply);
	return DONE;
}

/* The payload of a command. FILE_BYTES: JSON up to the first closing brace, then the bytes of a file. */
enum payload { NOTHING, JSON, FILE_BYTES };

/* After HELLO a host may use all commands, otherwise those of its version. */
enum { ALWAYS = API_FINAL, ONLY_EXTENDED = UINT32_MAX };

static const struct command {
	uint32_t code;
	enum payload payload;
	uint32_t first, last; /* API versions */
	enum outcome (*handle)(struct message *message);
} commands[] = {
	{GETVERSION, NOTHING, API_2016, ALWAYS, get_version},
	{STARTPOD, JSON, API_2016, ALWAYS, start_pod},
	{GETPOD, NOTHING, API_2016, API_2016, acknowledge},
	{DESTROYPOD, NOTHING, API_2016, ALWAYS, destroy_pod},
	{EXECCMD, JSON, API_2016, ALWAYS, exec_command},
	{READY, NOTHING, API_2016, ALWAYS, rescan_devices},
	{WINSIZE, JSON, API_2016, ALWAYS, resize},
	{PING, NOTHING, API_2016, ALWAYS, acknowledge},
	{WRITEFILE, FILE_BYTES, API_2016, ALWAYS, write_container_file},
	{READFILE, JSON, API_2016, ALWAYS, read_container_file},
	{NEWCONTAINER, JSON, API_2016, ALWAYS, new_container},
	{KILLCONTAINER, JSON, API_2016, ALWAYS, kill_container},
	{ONLINECPUMEM, NOTHING, API_2016, ALWAYS, put_online},
	{SETUPINTERFACE, JSON, API_2016, ALWAYS, set_interface},
	{SETUPROUTE, JSON, API_2016, ALWAYS, set_routes},
	{REMOVECONTAINER, JSON, API_2016, ALWAYS, remove_container},
	{SIGNALPROCESS, JSON, API_2017, ALWAYS, signal_by_id},
	{DELETEINTERFACE, JSON, API_2017, ALWAYS, remove_interface},
	{HELLO, JSON, API_2016, ALWAYS, hello},
	{WAKE, JSON, API_2016, ALWAYS, wake_clone},
	{SIGNAL, JSON, ONLY_EXTENDED, ALWAYS, signal_process},
	{STATS, JSON, ONLY_EXTENDED, ALWAYS, report_usage},
	{TIMES, NOTHING, ONLY_EXTENDED, ALWAYS, report_times},
	{FREEZE, JSON, ONLY_EXTENDED, ALWAYS, freeze},
	{UPDATE, JSON, ONLY_EXTENDED, ALWAYS, update},
	{SYSCTLS, JSON, ONLY_EXTENDED, ALWAYS, apply_sysctls},
	{CLOCK, JSON, ONLY_EXTENDED, ALWAYS, set_time},
};

static bool is_supported(const struct command *command)
{
	return extended || (command->first <= api_version && api_version <= command->last);
}

/* Where the JSON of a command ends. */
static size_t json_length(enum payload payload, const uint8_t *bytes, size_t length)
{
	const uint8_t *brace = payload == FILE_BYTES ? memchr(bytes, '}', length) : NULL;

	return brace ? (size_t)(brace + 1 - bytes) : length;
}

enum outcome command_perform(uint32_t code, const uint8_t *payload, size_t length, struct buffer *answer)
{
	const struct command *command = commands, *end = command + COUNT(commands);
	struct message message = {0};
	enum outcome outcome = FAILED;
	size_t json;

	reply = answer;
	while (command < end && command->code != code)
		command++;
	if (command == end || !is_supported(command)) {
		fail("this guest agent does not support command %u", (unsigned)code);
		return FAILED;
	}
	json = json_length(command->payload, payload, length);
	if (command->payload == NOTHING || message_read(&message, payload, json)) {
		message.rest = payload + json;
		message.rest_length = length - json;
		outcome = command->handle(&message);
	}
	if (outcome == DONE && reply->overflown) {
		fail("the guest has no memory for the answer");
		reply->length = 0;
		outcome = FAILED;
	}
	message_free(&message);
	if (outcome != LATER)
		start.kind = NO_START;
	return outcome;
}

bool command_waits(void)
{
	return start.kind != NO_START;
}

enum outcome command_started(struct process *process)
{
	enum outcome outcome = outcome_of(!process->hidden);

	if (start.kind == START_CONTAINER && outcome == FAILED)
		container_free(process->container);
	else if (start.kind == START_POD && outcome == FAILED)
		undo_pod();
	else if (start.kind == START_POD)
		outcome = start_next_container();
	if (outcome != LATER)
		start.kind = NO_START;
	return outcome;
}
