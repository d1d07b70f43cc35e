/* The launcher's orders: its arguments before "--", read into one struct. jail/launcher.py writes them. */
#ifndef ORDER_H
#define ORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What QEMU may do with a file or directory of the host that it can see. */
enum access {
	ACCESS_PROGRAM, /* read and execute; owned by the host's users */
	ACCESS_READ,    /* read, with the owners translated if any are */
	ACCESS_WRITE,   /* read and write, likewise */
	ACCESS_DEVICE,  /* a device: made in the jail if owners are translated, else that of the host */
	ACCESS_CHECK,   /* not visible: only checked that its owners could be translated */
};

struct place {
	enum access access;
	bool whole; /* with what is mounted below it */
	bool top;   /* of mount points, in a file system of the supervisor's: read-only itself, and not translated */
	const char *source, *target; /* on the host and in the jail; with ACCESS_CHECK its name, and where it is open */
	int tree; /* descriptor of the detached mount */
};

struct link {
	const char *target, *name;
};

struct order {
	bool namespaces; /* the full jail, in which only the places exist */
	bool network;    /* QEMU stays in the network namespace of the host */
	const char *users, *groups; /* the maps of the user namespace (user_namespaces(7)) */
	bool translated; /* QEMU has ids of its own, and files appear in the jail with their owners as ids there */
	uid_t first_id;  /* of the host's ids that QEMU then has */
	uint64_t capabilities;
	unsigned long open_files, processes;
	int held; /* descriptor that stays open as long as QEMU runs, -1 for none */
	size_t place_count, link_count, cgroup_count, inherited_count;
	struct place *places;
	struct link *links;
	const char **cgroups; /* files to which the process writes itself */
	int *inherited;       /* descriptors that QEMU gets */
	char **program;       /* QEMU's argument vector */
	const char *preload;  /* library that QEMU's dynamic loader adds, as QEMU sees it; NULL for none */
};

/* Read the arguments. Ends the process with a message if they are not valid. */
void order_read(struct order *order, int argc, char **argv);

#endif
