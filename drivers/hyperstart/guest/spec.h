/* Reads the JSON of commands into structures, and validates it. Strings point into the message. */
#ifndef SPEC_H
#define SPEC_H

#include "confine.h"
#include "disk.h"
#include "json.h"
#include "network.h"

/* True or false, or not given. */
enum choice { UNSET, NO, YES };

struct variable {
	const char *name, *value;
	char *text; /* NAME=VALUE */
};

struct process_spec {
	const char *id; /* for hosts of version 4243 and 4244, unique in its container */
	bool terminal;
	uint64_t rows, columns; /* of the terminal; 0 where not given */
	bool no_input; /* standard input is empty */
	uint64_t stdio, stderr_stream;
	const char **args;       /* ends with NULL, at least one */
	struct variable *envs;   /* ends with a NULL name */
	const char **groups;     /* additional ones, ends with NULL */
	bool exact_groups;       /* those are all: /etc/group adds none */
	/* What differs from the container's bounds. */
	struct limit *limits; /* ends with a NULL name; NULL if not given */
	struct capability_sets sets;
	enum choice no_new_privs;
	uint64_t umask;    /* UINT64_MAX if not given */
	int64_t oom_score; /* /proc/PID/oom_score_adj; INT64_MIN if not given */
	const char *workdir, *user, *group; /* "" where not given */
	const char *archive; /* "" for a program, else what the agent does in its place, see launch.c */
};

/* A mount of a container, seen at `path`. */
struct mapping {
	const char *source; /* below a shared directory */
	bool writable;      /* below the one that is writable */
	struct disk disk;   /* the source instead, if it has a file system */
	bool tmpfs;         /* a new one instead, of `size` MiB (0: half of the memory) */
	uint64_t size, mode;
	const char *path;
	bool read_only, no_exec, no_suid;
	bool populate; /* if the source is empty, the contents of the root at `path` are copied to it */
	int mount;     /* for root_make: a mount of the source that is not attached yet */
};

/* A device to make in /dev. */
struct node {
	const char *path, *type; /* "c", "b", or "p" for a pipe */
	uint64_t major, minor, mode, uid, gid;
};

struct container_spec {
	const char *id;
	/* The root is `rootfs` below the disk `image` if that has a file system, else below the directory of that name. */
	struct disk image;
	const char *rootfs;
	bool overlay;
	uint64_t overlay_size; /* MiB, 0: half of the memory */
	bool writable_root; /* the directory is one that the container writes to, in another share */
	bool initialize;
	struct mapping *volumes, *mappings; /* mounted in this order; each list ends with a NULL path */
	struct variable *sysctls; /* ends with a NULL name */
	struct node *nodes; /* ends with a NULL path */
	const char **masked, **read_only; /* paths; end with NULL */
	uint64_t shared_memory; /* MiB of the pod's /dev/shm; 0: one of its own */
	struct confinement bounds;
	struct process_spec process;
};

struct pod_spec {
	const char *hostname;
	const char *share, *live, *writable, *written_roots; /* mount tags, "" for none */
	const char *root; /* of the pod itself, below the shared directory; "" for none */
	struct container_spec *containers; /* ends with a NULL id */
	struct interface *interfaces; /* ends with a NULL device */
	struct route *routes; /* ends with a NULL dest */
	struct resolver resolver;
	char white_lists; /* must be empty */
};

struct exec_spec {
	const char *container; /* "" for the pod itself */
	struct process_spec process;
};

struct kill_spec {
	const char *container;
	const char *process; /* id in the container; "" for its first process */
	uint64_t signal;
};

struct signal_spec {
	uint64_t stdio, signal;
};

/* The terminal is named by its stream, or by container and process. */
struct size_spec {
	uint64_t stream;
	const char *container, *process;
	uint64_t rows, columns;
};

struct hello_spec {
	uint64_t version;
	const char *token;
};

struct wake_spec {
	uint64_t time; /* nanoseconds since the epoch */
	const char *entropy; /* hexadecimal */
};

struct clock_spec {
	uint64_t time; /* nanoseconds since the epoch */
};

struct sysctls_spec {
	struct variable *sysctls; /* ends with a NULL name */
};

struct freeze_spec {
	const char *container;
	bool frozen;
};

/* UINT64_MAX where not given. */
struct update_spec {
	const char *container;
	uint64_t memory, pids, cpus;
};

struct name_spec {
	const char *container;
};

struct file_spec {
	const char *container, *path;
};

struct routes_spec {
	struct route *routes; /* ends with a NULL dest */
};

/* The memory of a message, which its specification points to. */
struct message {
	char *text;
	struct json *root;
	void *parts; /* lists made while reading */
	const uint8_t *rest; /* bytes of the command that follow the JSON */
	size_t rest_length;
};

/* Copy and parse `length` bytes of JSON. False and `failure` if they are not valid JSON. Call message_free in either
 * case. */
bool message_read(struct message *message, const uint8_t *bytes, size_t length);
void message_free(struct message *message);

/* Each reads the message as one command. False and `failure` if a key is missing, unsupported or of the wrong type. */
bool read_pod(struct message *message, struct pod_spec *spec);
bool read_container(struct message *message, struct container_spec *spec);
bool read_exec(struct message *message, struct exec_spec *spec);
bool read_kill(struct message *message, struct kill_spec *spec);
bool read_signal(struct message *message, struct signal_spec *spec);
bool read_size(struct message *message, struct size_spec *spec);
bool read_hello(struct message *message, struct hello_spec *spec);
bool read_wake(struct message *message, struct wake_spec *spec);
bool read_clock(struct message *message, struct clock_spec *spec);
bool read_sysctls(struct message *message, struct sysctls_spec *spec);
bool read_freeze(struct message *message, struct freeze_spec *spec);
bool read_update(struct message *message, struct update_spec *spec);
bool read_name(struct message *message, struct name_spec *spec);
bool read_file(struct message *message, struct file_spec *spec);
bool read_interface(struct message *message, struct interface *spec);
bool read_routes(struct message *message, struct routes_spec *spec);

#endif
