#include "spec.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How a key's value is read, and into what type of member. */
enum kind {
	TEXT,         /* const char *, "" if absent */
	WORD,         /* the same, but required and not empty */
	BOOLEAN,      /* bool */
	CHOICE,       /* enum choice */
	NUMBER,       /* uint64_t */
	LOOSE,        /* uint64_t; a string counts as 0, as in an original agent's parser */
	LIMIT,        /* uint64_t, UINT64_MAX if absent */
	SIGNED,       /* int64_t, INT64_MIN if absent */
	CAPABILITIES, /* uint64_t, a bit for each; all bits if absent */
	FILTER,       /* struct filter, in hexadecimal */
	TEXTS,        /* const char **, ends with NULL */
	OBJECT,       /* a structure, required */
	OPTIONAL,     /* a structure */
	LIST,         /* pointer to structures; one of zeros is the end */
	DICTIONARY,   /* struct variable *: the members of an object, as such a list */
	IGNORED,      /* accepted, without effect */
	UNSUPPORTED,  /* refused unless empty */
};

struct field {
	const char *key;
	enum kind kind;
	size_t offset;
	const struct table *table; /* of OBJECT and LIST */
};

/* The keys of one kind of JSON object, and the function that validates its structure. `strict`: other keys are refused. */
struct table {
	const char *name;
	bool strict;
	const struct field *fields;
	size_t count, size;
	bool (*check)(struct message *message, void *spec);
};

enum { FIELDS_MAX = 32 };

/* clang-format off */
#define FIELD(type, member, key, kind) {key, kind, offsetof(struct type, member), NULL}
#define PART(type, member, key, kind, table) {key, kind, offsetof(struct type, member), &table##_table}
#define WITHOUT(key, kind) {key, kind, 0, NULL}
#define TABLE(name, type, strict, check) \
	_Static_assert(COUNT(name##_fields) <= FIELDS_MAX, "read_object has a bit for each field"); \
	static const struct table name##_table = {#name, strict, name##_fields, COUNT(name##_fields), sizeof(struct type), check}

static bool check_variable(struct message *message, void *spec);
static bool check_node(struct message *message, void *spec);
static bool check_mapping(struct message *message, void *spec);
static bool check_sets(struct message *message, void *spec);
static bool check_process(struct message *message, void *spec);

static const struct field variable_fields[] = {
	FIELD(variable, name, "env", WORD),
	FIELD(variable, value, "value", TEXT),
};
TABLE(variable, variable, true, check_variable);

static const struct field mapping_fields[] = {
	FIELD(mapping, source, "source", TEXT),
	FIELD(mapping, path, "path", WORD),
	FIELD(mapping, read_only, "readOnly", BOOLEAN),
	FIELD(mapping, writable, "writable", BOOLEAN),
	FIELD(mapping, populate, "dockerVolume", BOOLEAN),
	FIELD(mapping, tmpfs, "tmpfs", BOOLEAN),
	FIELD(mapping, size, "size", NUMBER),
	FIELD(mapping, mode, "mode", NUMBER),
	FIELD(mapping, no_exec, "noExec", BOOLEAN),
	FIELD(mapping, no_suid, "noSuid", BOOLEAN),
};
TABLE(mapping, mapping, true, check_mapping);

static const struct field volume_fields[] = {
	FIELD(mapping, disk.name, "device", TEXT),
	FIELD(mapping, disk.addr, "addr", TEXT),
	FIELD(mapping, disk.fstype, "fstype", WORD),
	FIELD(mapping, path, "mount", WORD),
	FIELD(mapping, read_only, "readOnly", BOOLEAN),
	FIELD(mapping, populate, "dockerVolume", BOOLEAN),
};
TABLE(volume, mapping, true, NULL);

static const struct field limit_fields[] = {
	FIELD(limit, name, "name", WORD),
	FIELD(limit, soft, "soft", LIMIT),
	FIELD(limit, hard, "hard", LIMIT),
};
TABLE(limit, limit, true, NULL);

static const struct field sets_fields[] = {
	FIELD(capability_sets, bounding, "bounding", CAPABILITIES),
	FIELD(capability_sets, effective, "effective", CAPABILITIES),
	FIELD(capability_sets, permitted, "permitted", CAPABILITIES),
	FIELD(capability_sets, inheritable, "inheritable", CAPABILITIES),
	FIELD(capability_sets, ambient, "ambient", CAPABILITIES),
};
TABLE(sets, capability_sets, true, check_sets);

static const struct field process_fields[] = {
	FIELD(process_spec, id, "id", TEXT),
	FIELD(process_spec, terminal, "terminal", BOOLEAN),
	FIELD(process_spec, rows, "rows", NUMBER),
	FIELD(process_spec, columns, "columns", NUMBER),
	FIELD(process_spec, no_input, "noInput", BOOLEAN),
	FIELD(process_spec, stdio, "stdio", NUMBER),
	FIELD(process_spec, stderr_stream, "stderr", NUMBER),
	FIELD(process_spec, args, "args", TEXTS),
	PART(process_spec, envs, "envs", LIST, variable),
	FIELD(process_spec, workdir, "workdir", TEXT),
	FIELD(process_spec, user, "user", TEXT),
	FIELD(process_spec, group, "group", TEXT),
	FIELD(process_spec, groups, "additionalGroups", TEXTS),
	FIELD(process_spec, archive, "archive", TEXT),
	FIELD(process_spec, exact_groups, "exactGroups", BOOLEAN),
	PART(process_spec, limits, "rlimits", LIST, limit),
	PART(process_spec, sets, "capabilities", OPTIONAL, sets),
	FIELD(process_spec, no_new_privs, "noNewPrivs", CHOICE),
	FIELD(process_spec, umask, "umask", LIMIT),
	FIELD(process_spec, oom_score, "oomScoreAdj", SIGNED),
};
TABLE(process, process_spec, true, check_process);

static const struct field node_fields[] = {
	FIELD(node, path, "path", WORD),
	FIELD(node, type, "type", WORD),
	FIELD(node, major, "major", NUMBER),
	FIELD(node, minor, "minor", NUMBER),
	FIELD(node, mode, "mode", NUMBER),
	FIELD(node, uid, "uid", NUMBER),
	FIELD(node, gid, "gid", NUMBER),
};
TABLE(node, node, true, check_node);

static const struct field container_fields[] = {
	FIELD(container_spec, id, "id", WORD),
	FIELD(container_spec, image.name, "image", TEXT),
	FIELD(container_spec, image.addr, "addr", TEXT),
	FIELD(container_spec, image.fstype, "fstype", TEXT),
	FIELD(container_spec, rootfs, "rootfs", TEXT),
	FIELD(container_spec, overlay, "overlay", BOOLEAN),
	FIELD(container_spec, overlay_size, "overlaySize", NUMBER),
	FIELD(container_spec, writable_root, "writableRoot", BOOLEAN),
	FIELD(container_spec, initialize, "initialize", BOOLEAN),
	PART(container_spec, volumes, "volumes", LIST, volume),
	PART(container_spec, mappings, "fsmap", LIST, mapping),
	FIELD(container_spec, sysctls, "sysctl", DICTIONARY),
	FIELD(container_spec, bounds.read_only, "readOnly", BOOLEAN),
	FIELD(container_spec, bounds.memory, "memory", NUMBER),
	FIELD(container_spec, bounds.pids, "pids", NUMBER),
	FIELD(container_spec, bounds.cpus, "cpus", NUMBER),
	PART(container_spec, bounds.limits, "rlimits", LIST, limit),
	FIELD(container_spec, bounds.capabilities, "capabilities", CAPABILITIES),
	FIELD(container_spec, bounds.no_new_privs, "noNewPrivs", BOOLEAN),
	FIELD(container_spec, bounds.isolated, "isolate", BOOLEAN),
	PART(container_spec, nodes, "devices", LIST, node),
	FIELD(container_spec, bounds.seccomp, "seccomp", FILTER),
	FIELD(container_spec, masked, "maskedPaths", TEXTS),
	FIELD(container_spec, read_only, "readonlyPaths", TEXTS),
	FIELD(container_spec, shared_memory, "sharedMemory", NUMBER),
	FIELD(container_spec, bounds.own_pids, "ownPids", BOOLEAN),
	PART(container_spec, process, "process", OBJECT, process),
	WITHOUT("restartPolicy", IGNORED),
	WITHOUT("ports", IGNORED), /* they have an effect only with the pod's white lists */
};
TABLE(container, container_spec, true, NULL);

static const struct field address_fields[] = {
	FIELD(address, address, "ipAddress", WORD),
	FIELD(address, mask, "netMask", WORD),
};
TABLE(address, address, true, NULL);

static const struct field interface_fields[] = {
	FIELD(interface, device, "device", WORD),
	FIELD(interface, new_name, "newDeviceName", TEXT),
	FIELD(interface, one.address, "ipAddress", TEXT),
	FIELD(interface, one.mask, "netMask", TEXT),
	PART(interface, addresses, "ipAddresses", LIST, address),
	FIELD(interface, mtu, "mtu", NUMBER),
	FIELD(interface, mac, "mac", TEXT),
};
TABLE(interface, interface, true, NULL);

static const struct field route_fields[] = {
	FIELD(route, dest, "dest", WORD),
	FIELD(route, gateway, "gateway", TEXT),
	FIELD(route, device, "device", TEXT),
};
TABLE(route, route, true, NULL);

/* Rules for iptables, which the guest does not have. */
static const struct field white_list_fields[] = {
	WITHOUT("internalNetworks", UNSUPPORTED),
	WITHOUT("externalNetworks", UNSUPPORTED),
};
struct white_list {
	char nothing;
};
TABLE(white_list, white_list, true, NULL);

static const struct field pod_fields[] = {
	FIELD(pod_spec, hostname, "hostname", WORD),
	FIELD(pod_spec, share, "shareDir", TEXT),
	FIELD(pod_spec, live, "liveDir", TEXT),
	FIELD(pod_spec, writable, "writableDir", TEXT),
	FIELD(pod_spec, written_roots, "rootsDir", TEXT),
	FIELD(pod_spec, root, "root", TEXT),
	PART(pod_spec, containers, "containers", LIST, container),
	PART(pod_spec, interfaces, "interfaces", LIST, interface),
	PART(pod_spec, routes, "routes", LIST, route),
	FIELD(pod_spec, resolver.servers, "dns", TEXTS),
	FIELD(pod_spec, resolver.search, "dnsSearch", TEXTS),
	FIELD(pod_spec, resolver.options, "dnsOptions", TEXTS),
	PART(pod_spec, white_lists, "portmappingWhiteLists", OPTIONAL, white_list),
	WITHOUT("restartPolicy", IGNORED),
};
TABLE(pod, pod_spec, true, NULL);

static const struct field exec_fields[] = {
	FIELD(exec_spec, container, "container", TEXT),
	PART(exec_spec, process, "process", OBJECT, process),
};
TABLE(exec, exec_spec, false, NULL);

static const struct field kill_fields[] = {
	FIELD(kill_spec, container, "container", WORD),
	FIELD(kill_spec, process, "process", TEXT),
	FIELD(kill_spec, signal, "signal", LOOSE),
};
TABLE(kill, kill_spec, false, NULL);

static const struct field signal_fields[] = {
	FIELD(signal_spec, stdio, "stdio", NUMBER),
	FIELD(signal_spec, signal, "signal", NUMBER),
};
TABLE(signal, signal_spec, false, NULL);

static const struct field size_fields[] = {
	FIELD(size_spec, stream, "seq", LOOSE),
	FIELD(size_spec, container, "container", TEXT),
	FIELD(size_spec, process, "process", TEXT),
	FIELD(size_spec, rows, "row", LOOSE),
	FIELD(size_spec, columns, "column", LOOSE),
};
TABLE(size, size_spec, false, NULL);

static const struct field hello_fields[] = {
	FIELD(hello_spec, version, "version", NUMBER),
	FIELD(hello_spec, token, "token", WORD),
};
TABLE(hello, hello_spec, false, NULL);

static const struct field wake_fields[] = {
	FIELD(wake_spec, time, "time", NUMBER),
	FIELD(wake_spec, entropy, "entropy", WORD),
};
TABLE(wake, wake_spec, true, NULL);

static const struct field clock_fields[] = {FIELD(clock_spec, time, "time", NUMBER)};
TABLE(clock, clock_spec, true, NULL);

static const struct field sysctls_fields[] = {FIELD(sysctls_spec, sysctls, "sysctl", DICTIONARY)};
TABLE(sysctls, sysctls_spec, true, NULL);

static const struct field freeze_fields[] = {
	FIELD(freeze_spec, container, "container", WORD),
	FIELD(freeze_spec, frozen, "frozen", BOOLEAN),
};
TABLE(freeze, freeze_spec, true, NULL);

static const struct field update_fields[] = {
	FIELD(update_spec, container, "container", WORD),
	FIELD(update_spec, memory, "memory", LIMIT),
	FIELD(update_spec, pids, "pids", LIMIT),
	FIELD(update_spec, cpus, "cpus", LIMIT),
};
TABLE(update, update_spec, true, NULL);

static const struct field name_fields[] = {FIELD(name_spec, container, "container", WORD)};
TABLE(name, name_spec, false, NULL);

static const struct field file_fields[] = {
	FIELD(file_spec, container, "container", WORD),
	FIELD(file_spec, path, "file", WORD),
};
TABLE(file, file_spec, false, NULL);

static const struct field routes_fields[] = {PART(routes_spec, routes, "routes", LIST, route)};
TABLE(routes, routes_spec, false, NULL);
/* clang-format on */

static bool read_object(struct message *message, const struct table *table, struct json *object, void *spec);

/* Allocate memory that is freed with the message; linked through its first bytes. */
static void *keep(struct message *message, size_t count, size_t size)
{
	void **part = calloc(1, sizeof(void *) + count * size);

	if (!part) {
		fail("the guest has no memory for this message");
		return NULL;
	}
	*part = message->parts;
	message->parts = part;
	return part + 1;
}

static size_t item_count(const struct json *array)
{
	size_t count = 0;

	for (const struct json *item = array->child; item; item = item->next)
		count++;
	return count;
}

static bool read_texts(struct message *message, struct json *array, const char ***texts)
{
	const char **text = keep(message, item_count(array) + 1, sizeof *text);

	*texts = text;
	for (struct json *item = array->child; text && item; item = item->next) {
		if (item->type != JSON_STRING)
			return fail("'%s' is not a list of strings", array->key);
		*text++ = item->text;
	}
	return text;
}

/* Read an array of objects into equally sized structures, ended by one of zeros. */
static bool read_list(struct message *message, struct json *array, const struct table *table, void *list)
{
	char *spec = keep(message, item_count(array) + 1, table->size);

	*(void **)list = spec;
	for (struct json *item = array->child; spec && item; item = item->next, spec += table->size)
		if (!read_object(message, table, item, spec))
			return false;
	return spec;
}

static bool read_dictionary(struct message *message, struct json *object, struct variable **list)
{
	struct variable *variable = keep(message, item_count(object) + 1, sizeof *variable);

	*list = variable;
	for (struct json *item = object->child; variable && item; item = item->next, variable++) {
		if (item->type != JSON_STRING || !*item->key)
			return fail("'%s' has a value that is not a string", object->key);
		variable->name = item->key;
		variable->value = item->text;
	}
	return variable;
}

static bool read_capabilities(const struct json *array, uint64_t *mask)
{
	uint64_t capability;

	*mask = 0;
	for (const struct json *item = array->child; item; item = item->next) {
		if (item->type != JSON_STRING)
			return fail("'%s' is not a list of strings", array->key);
		if (!find_capability(item->text, &capability))
			return false;
		*mask |= (uint64_t)1 << capability;
	}
	return true;
}

static bool check_variable(struct message *message, void *spec)
{
	struct variable *variable = spec;
	size_t size = strlen(variable->name) + 1 + strlen(variable->value) + 1;

	variable->text = keep(message, size, 1);
	if (!variable->text)
		return false;
	snprintf(variable->text, size, "%s=%s", variable->name, variable->value);
	return true;
}

/* Validate a process beyond the types of its members. */
static bool check_node(struct message *message, void *spec)
{
	const struct node *node = spec;

	(void)message;
	if (strncmp(node->path, "/dev/", 5) || strstr(node->path, ".."))
		return fail("device '%s' is not below /dev", node->path);
	if (!strchr("cbp", *node->type) || node->type[1])
		return fail("device '%s' has the type '%s'; it can be c, b or p", node->path, node->type);
	return (node->mode <= 07777 && MAX(node->uid, node->gid) < UINT32_MAX &&
	        MAX(node->major, node->minor) <= UINT32_MAX) ||
	       fail("device '%s' has a number that is not valid", node->path);
}

static bool check_mapping(struct message *message, void *spec)
{
	const struct mapping *mapping = spec;

	(void)message;
	if (mapping->size > UINT64_MAX >> 20 || mapping->mode > 07777)
		return fail("the mapping has a size or mode that is not valid");
	return mapping->tmpfs || *mapping->source || fail("the mapping has no 'source'");
}

static bool check_sets(struct message *message, void *spec)
{
	struct capability_sets *sets = spec;
	const uint64_t all[] = {sets->bounding, sets->effective, sets->permitted, sets->inheritable, sets->ambient};

	(void)message;
	for (size_t i = 0; i < COUNT(all); i++)
		if (all[i] == UINT64_MAX)
			return fail("the process lacks one of the five sets of capabilities");
	sets->given = true;
	return true;
}

static bool check_process(struct message *message, void *spec)
{
	const struct process_spec *process = spec;

	(void)message;
	if (!process->args || !process->args[0])
		return fail("the process has no 'args'");
	if (!process->stdio || process->stdio > INT64_MAX || process->stderr_stream > INT64_MAX)
		return fail("'stdio' and 'stderr' must be between 1 and 2^63-1");
	if (!process->stderr_stream && !process->terminal)
		return fail("a process without a terminal needs a 'stderr' stream");
	return process->stdio != process->stderr_stream || fail("'stdio' and 'stderr' are the same stream");
}

static bool read_number(const struct json *value, uint64_t *number)
{
	const char *text = value->text;
	char *end;

	errno = 0;
	*number = strtoull(text, &end, 10);
	/* Some JSON writers make every number a double: 9 may come as 9.0. */
	if (end[0] == '.')
		end += 1 + strspn(end + 1, "0");
	return (*text != '-' && !*end && !errno) || fail("'%s' is %s, not a whole number", value->key, text);
}

static bool read_signed(const struct json *value, int64_t *number)
{
	char *end;

	errno = 0;
	*number = strtoll(value->text, &end, 10);
	return (!*end && !errno) || fail("'%s' is %s, not a whole number", value->key, value->text);
}

/* Decode a filter in the place of its text. */
static bool read_filter(const struct json *value, struct filter *filter)
{
	enum { INSTRUCTION = 8, INSTRUCTIONS_MAX = 4096 };
	size_t length = strlen(value->text) / 2;

	filter->bytes = (const uint8_t *)value->text;
	filter->length = length;
	return (length % INSTRUCTION == 0 && length <= INSTRUCTION * INSTRUCTIONS_MAX &&
	        parse_hexadecimal(value->text, (uint8_t *)(uintptr_t)value->text, length)) ||
	       fail("'%s' is not a program of at most %d instructions in hexadecimal", value->key, INSTRUCTIONS_MAX);
}

static bool is_empty(const struct json *value)
{
	return value->type == JSON_NULL || value->type == JSON_FALSE || (value->type == JSON_STRING && !*value->text) ||
	       ((value->type == JSON_ARRAY || value->type == JSON_OBJECT) && !value->child);
}

static bool expect(const struct json *value, enum json_type type, const char *name)
{
	return value->type == type || fail("'%s' is not %s", value->key, name);
}

static bool read_field(struct message *message, const struct field *field, struct json *value, void *member)
{
	switch (field->kind) {
	case TEXT:
	case WORD:
		*(const char **)member = value->text;
		return expect(value, JSON_STRING, "a string");
	case BOOLEAN:
		*(bool *)member = value->type == JSON_TRUE;
		return value->type == JSON_TRUE || expect(value, JSON_FALSE, "true or false");
	case CHOICE:
		*(enum choice *)member = value->type == JSON_TRUE ? YES : NO;
		return value->type == JSON_TRUE || expect(value, JSON_FALSE, "true or false");
	case LOOSE:
		if (value->type == JSON_STRING)
			return true;
		/* fall through */
	case NUMBER:
	case LIMIT:
		return expect(value, JSON_NUMBER, "a number") && read_number(value, member);
	case SIGNED:
		return expect(value, JSON_NUMBER, "a number") && read_signed(value, member);
	case CAPABILITIES:
		return expect(value, JSON_ARRAY, "a list") && read_capabilities(value, member);
	case FILTER:
		return expect(value, JSON_STRING, "a string") && read_filter(value, member);
	case TEXTS:
		return expect(value, JSON_ARRAY, "a list") && read_texts(message, value, member);
	case OBJECT:
	case OPTIONAL:
		return read_object(message, field->table, value, member);
	case LIST:
		return expect(value, JSON_ARRAY, "a list") && read_list(message, value, field->table, member);
	case DICTIONARY:
		return expect(value, JSON_OBJECT, "an object") && read_dictionary(message, value, member);
	case IGNORED:
		return true;
	case UNSUPPORTED:
		return is_empty(value) || fail("this guest agent does not support '%s'", value->key);
	}
	return false;
}

static void set_defaults(const struct table *table, char *spec)
{
	for (size_t i = 0; i < table->count; i++) {
		const struct field *field = &table->fields[i];

		if (field->kind == TEXT)
			*(const char **)(spec + field->offset) = "";
		else if (field->kind == LIMIT || field->kind == CAPABILITIES)
			*(uint64_t *)(spec + field->offset) = UINT64_MAX;
		else if (field->kind == SIGNED)
			*(int64_t *)(spec + field->offset) = INT64_MIN;
	}
}

/* `seen` has a bit for each field that was read. */
static bool check_required(const struct table *table, const char *spec, uint32_t seen)
{
	for (size_t i = 0; i < table->count; i++) {
		const struct field *field = &table->fields[i];
		bool there = seen >> i & 1;

		if (field->kind == WORD)
			there = there && **(const char *const *)(spec + field->offset);
		if ((field->kind == WORD || field->kind == OBJECT) && !there)
			return fail("the %s has no '%s'", table->name, field->key);
	}
	return true;
}

static bool read_object(struct message *message, const struct table *table, struct json *object, void *spec)
{
	uint32_t seen = 0;

	if (object->type != JSON_OBJECT)
		return fail("the %s is not a JSON object", table->name);
	set_defaults(table, spec);
	for (struct json *value = object->child; value; value = value->next) {
		size_t i = 0;

		while (i < table->count && strcmp(table->fields[i].key, value->key))
			i++;
		if (i == table->count && table->strict)
			return fail("the %s has an unknown key '%.64s'", table->name, value->key);
		if (i == table->count)
			continue;
		if (!read_field(message, &table->fields[i], value, (char *)spec + table->fields[i].offset))
			return false;
		seen |= (uint32_t)1 << i;
	}
	return check_required(table, spec, seen) && (!table->check || table->check(message, spec));
}

bool message_read(struct message *message, const uint8_t *bytes, size_t length)
{
	*message = (struct message){.text = malloc(length + 1)};
	if (!message->text)
		return fail("the guest has no memory for a message of %zu bytes", length);
	memcpy(message->text, bytes, length);
	message->root = json_read(message->text, length);
	return message->root;
}

void message_free(struct message *message)
{
	while (message->parts) {
		void *part = message->parts;

		message->parts = *(void **)part;
		free(part);
	}
	free(message->root);
	free(message->text);
	*message = (struct message){0};
}

#define READER(name, type) \
	bool read_##name(struct message *message, struct type *spec) \
	{ \
		memset(spec, 0, sizeof *spec); \
		return read_object(message, &name##_table, message->root, spec); \
	}

READER(pod, pod_spec)
READER(container, container_spec)
READER(exec, exec_spec)
READER(kill, kill_spec)
READER(signal, signal_spec)
READER(size, size_spec)
READER(hello, hello_spec)
READER(wake, wake_spec)
READER(clock, clock_spec)
READER(sysctls, sysctls_spec)
READER(freeze, freeze_spec)
READER(update, update_spec)
READER(name, name_spec)
READER(file, file_spec)
READER(interface, interface)
READER(routes, routes_spec)
