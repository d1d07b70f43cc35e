#include "spec.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How a key's value is read, and into what type of member. */
enum kind {
	TEXT,      /* const char *, "" if absent */
	WORD,      /* the same, but required and not empty */
	BOOLEAN,   /* bool */
	NUMBER,    /* uint64_t */
	LIMIT,     /* the same, UINT64_MAX if absent */
	LOOSE,     /* uint64_t; a string counts as 0, as the original's parser has it */
	TEXTS,     /* const char **, ends with NULL */
	VARIABLES, /* struct variable * */
	MAPPINGS,  /* struct mapping * */
	VOLUMES,   /* the same, each a disk */
	LIMITS,    /* struct limit *, and its count in the next member */
	RESOURCE,  /* uint64_t, the number behind a resource's name */
	CAPABILITIES, /* uint64_t, a bit for each; all bits if absent */
	PROCESS,   /* struct process_spec, required */
	CONTAINERS,  /* struct container_spec *, and its count in the next member */
	IGNORED,     /* nothing depends on it */
	UNSUPPORTED, /* refused unless empty */
};

struct field {
	const char *key;
	enum kind kind;
	size_t offset;
};

/* What messages are made of; `strict` objects have no other keys. */
struct table {
	const char *name;
	bool strict;
	const struct field *fields;
	size_t count;
};

#define FIELD(type, member, key, kind) {key, kind, offsetof(struct type, member)}
#define TABLE(name, strict, fields) static const struct table name##_table = {#name, strict, fields, COUNT(fields)}

static const struct field variable_fields[] = {
	FIELD(variable, name, "env", WORD),
	FIELD(variable, value, "value", TEXT),
};
TABLE(variable, true, variable_fields);

static const struct field mapping_fields[] = {
	FIELD(mapping, source, "source", WORD),
	FIELD(mapping, path, "path", WORD),
	FIELD(mapping, read_only, "readOnly", BOOLEAN),
	FIELD(mapping, writable, "writable", BOOLEAN),
	FIELD(mapping, populate, "dockerVolume", BOOLEAN),
};
TABLE(mapping, true, mapping_fields);

static const struct field volume_fields[] = {
	FIELD(mapping, disk.name, "device", TEXT),
	FIELD(mapping, disk.addr, "addr", TEXT),
	FIELD(mapping, disk.fstype, "fstype", WORD),
	FIELD(mapping, path, "mount", WORD),
	FIELD(mapping, read_only, "readOnly", BOOLEAN),
	FIELD(mapping, populate, "dockerVolume", BOOLEAN),
};
TABLE(volume, true, volume_fields);

static const struct field limit_fields[] = {
	FIELD(limit, resource, "name", RESOURCE),
	FIELD(limit, soft, "soft", LIMIT),
	FIELD(limit, hard, "hard", LIMIT),
};
TABLE(limit, true, limit_fields);

static const struct field process_fields[] = {
	FIELD(process_spec, terminal, "terminal", BOOLEAN),
	FIELD(process_spec, rows, "rows", NUMBER),
	FIELD(process_spec, columns, "columns", NUMBER),
	FIELD(process_spec, no_input, "noInput", BOOLEAN),
	FIELD(process_spec, stdio, "stdio", NUMBER),
	FIELD(process_spec, stderr_stream, "stderr", NUMBER),
	FIELD(process_spec, args, "args", TEXTS),
	FIELD(process_spec, envs, "envs", VARIABLES),
	FIELD(process_spec, workdir, "workdir", TEXT),
	FIELD(process_spec, user, "user", TEXT),
	FIELD(process_spec, group, "group", TEXT),
	FIELD(process_spec, groups, "additionalGroups", TEXTS),
};
TABLE(process, true, process_fields);

static const struct field container_fields[] = {
	FIELD(container_spec, id, "id", WORD),
	FIELD(container_spec, rootfs, "rootfs", TEXT),
	FIELD(container_spec, overlay, "overlay", BOOLEAN),
	FIELD(container_spec, overlay_size, "overlaySize", NUMBER),
	FIELD(container_spec, initialize, "initialize", BOOLEAN),
	FIELD(container_spec, image.name, "image", TEXT),
	FIELD(container_spec, image.addr, "addr", TEXT),
	FIELD(container_spec, image.fstype, "fstype", TEXT),
	FIELD(container_spec, volumes, "volumes", VOLUMES),
	FIELD(container_spec, mappings, "fsmap", MAPPINGS),
	FIELD(container_spec, bounds.read_only, "readOnly", BOOLEAN),
	FIELD(container_spec, bounds.memory, "memory", NUMBER),
	FIELD(container_spec, bounds.pids, "pids", NUMBER),
	FIELD(container_spec, bounds.limits, "rlimits", LIMITS),
	FIELD(container_spec, bounds.capabilities, "capabilities", CAPABILITIES),
	FIELD(container_spec, bounds.no_new_privs, "noNewPrivs", BOOLEAN),
	FIELD(container_spec, process, "process", PROCESS),
	{"restartPolicy", IGNORED, 0},
	{"sysctl", UNSUPPORTED, 0},
	{"ports", UNSUPPORTED, 0},
};
TABLE(container, true, container_fields);

static const struct field pod_fields[] = {
	FIELD(pod_spec, hostname, "hostname", WORD),
	FIELD(pod_spec, share, "shareDir", TEXT),
	FIELD(pod_spec, live, "liveDir", TEXT),
	FIELD(pod_spec, writable, "writableDir", TEXT),
	FIELD(pod_spec, root, "root", TEXT),
	FIELD(pod_spec, containers, "containers", CONTAINERS),
	{"restartPolicy", IGNORED, 0},
	{"interfaces", UNSUPPORTED, 0},
	{"routes", UNSUPPORTED, 0},
	{"dns", UNSUPPORTED, 0},
	{"portmappingWhiteLists", UNSUPPORTED, 0},
};
TABLE(pod, true, pod_fields);

static const struct field exec_fields[] = {
	FIELD(exec_spec, container, "container", TEXT),
	FIELD(exec_spec, process, "process", PROCESS),
};
TABLE(exec, false, exec_fields);

static const struct field kill_fields[] = {
	FIELD(kill_spec, container, "container", WORD),
	FIELD(kill_spec, signal, "signal", LOOSE),
};
TABLE(kill, false, kill_fields);

static const struct field signal_fields[] = {
	FIELD(signal_spec, stdio, "stdio", NUMBER),
	FIELD(signal_spec, signal, "signal", NUMBER),
};
TABLE(signal, false, signal_fields);

static const struct field size_fields[] = {
	FIELD(size_spec, stream, "seq", LOOSE),
	FIELD(size_spec, rows, "row", LOOSE),
	FIELD(size_spec, columns, "column", LOOSE),
};
TABLE(size, false, size_fields);

static const struct field hello_fields[] = {
	FIELD(hello_spec, version, "version", NUMBER),
	FIELD(hello_spec, token, "token", WORD),
};
TABLE(hello, false, hello_fields);

struct only_container {
	const char *container;
};
static const struct field remove_fields[] = {FIELD(only_container, container, "container", WORD)};
TABLE(remove, false, remove_fields);
TABLE(stats, false, remove_fields);

static bool read_object(struct message *message, const struct table *table, struct json *object, void *spec);

/* Memory that lives as long as the message; linked through its first bytes. */
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

/* Read an array of objects into zero-ended, equally sized structures. */
static bool read_list(struct message *message, struct json *array, const struct table *table, size_t size, void *list)
{
	char *spec = keep(message, item_count(array) + 1, size);

	*(void **)list = spec;
	for (struct json *item = array->child; spec && item; item = item->next, spec += size)
		if (!read_object(message, table, item, spec))
			return false;
	return spec;
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

/* What the protocol's process needs beyond the types of its members. */
static bool check_process(const struct process_spec *process)
{
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

static bool is_empty(const struct json *value)
{
	return value->type == JSON_NULL || value->type == JSON_FALSE || (value->type == JSON_STRING && !*value->text) ||
	       ((value->type == JSON_ARRAY || value->type == JSON_OBJECT) && !value->child);
}

static bool expect(const struct json *value, enum json_type type, const char *name)
{
	return value->type == type || fail("'%s' is not %s", value->key, name);
}

static bool join_variables(struct message *message, struct variable *variable)
{
	for (; variable->name; variable++) {
		size_t size = strlen(variable->name) + 1 + strlen(variable->value) + 1;

		variable->text = keep(message, size, 1);
		if (!variable->text)
			return false;
		snprintf(variable->text, size, "%s=%s", variable->name, variable->value);
	}
	return true;
}

static bool read_field(struct message *message, const struct field *field, struct json *value, void *member)
{
	size_t *count = (size_t *)((char *)member + sizeof(void *)); /* of a list that has one */

	switch (field->kind) {
	case TEXT:
	case WORD:
		*(const char **)member = value->text;
		return expect(value, JSON_STRING, "a string");
	case BOOLEAN:
		*(bool *)member = value->type == JSON_TRUE;
		return value->type == JSON_TRUE || expect(value, JSON_FALSE, "true or false");
	case LOOSE:
		if (value->type == JSON_STRING)
			return true;
		/* fall through */
	case NUMBER:
	case LIMIT:
		return expect(value, JSON_NUMBER, "a number") && read_number(value, member);
	case TEXTS:
		return expect(value, JSON_ARRAY, "a list") && read_texts(message, value, member);
	case VARIABLES:
		return expect(value, JSON_ARRAY, "a list") &&
		       read_list(message, value, &variable_table, sizeof(struct variable), member) &&
		       join_variables(message, *(struct variable **)member);
	case MAPPINGS:
		return expect(value, JSON_ARRAY, "a list") &&
		       read_list(message, value, &mapping_table, sizeof(struct mapping), member);
	case VOLUMES:
		return expect(value, JSON_ARRAY, "a list") &&
		       read_list(message, value, &volume_table, sizeof(struct mapping), member);
	case LIMITS:
		*count = item_count(value);
		return expect(value, JSON_ARRAY, "a list") &&
		       read_list(message, value, &limit_table, sizeof(struct limit), member);
	case RESOURCE:
		return expect(value, JSON_STRING, "a string") && find_resource(value->text, member);
	case CAPABILITIES:
		return expect(value, JSON_ARRAY, "a list") && read_capabilities(value, member);
	case PROCESS:
		return read_object(message, &process_table, value, member) && check_process(member);
	case CONTAINERS:
		*count = item_count(value);
		return expect(value, JSON_ARRAY, "a list") &&
		       read_list(message, value, &container_table, sizeof(struct container_spec), member);
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
		else if (field->kind == LIMIT || field->kind == CAPABILITIES || field->kind == RESOURCE)
			*(uint64_t *)(spec + field->offset) = UINT64_MAX;
	}
}

static bool check_required(const struct table *table, char *spec)
{
	for (size_t i = 0; i < table->count; i++) {
		const struct field *field = &table->fields[i];
		const char **text = (const char **)(spec + field->offset);

		if (field->kind == WORD && (!*text || !**text))
			return fail("the %s has no '%s'", table->name, field->key);
		if ((field->kind == PROCESS && !((struct process_spec *)text)->args) ||
		    (field->kind == RESOURCE && *(uint64_t *)text == UINT64_MAX))
			return fail("the %s has no '%s'", table->name, field->key);
	}
	return true;
}

static bool read_object(struct message *message, const struct table *table, struct json *object, void *spec)
{
	if (object->type != JSON_OBJECT)
		return fail("the %s is not a JSON object", table->name);
	set_defaults(table, spec);
	for (struct json *value = object->child; value; value = value->next) {
		const struct field *field = table->fields, *end = field + table->count;

		while (field < end && strcmp(field->key, value->key))
			field++;
		if (field == end && table->strict)
			return fail("the %s has an unknown key '%.64s'", table->name, value->key);
		if (field < end && !read_field(message, field, value, (char *)spec + field->offset))
			return false;
	}
	return check_required(table, spec);
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

#define READER(name, type)                                           \
	bool read_##name(struct message *message, type *spec)        \
	{                                                            \
		memset(spec, 0, sizeof *spec);                       \
		return read_object(message, &name##_table, message->root, spec); \
	}

READER(pod, struct pod_spec)
READER(container, struct container_spec)
READER(exec, struct exec_spec)
READER(kill, struct kill_spec)
READER(signal, struct signal_spec)
READER(size, struct size_spec)
READER(hello, struct hello_spec)
READER(remove, const char *)
READER(stats, const char *)
