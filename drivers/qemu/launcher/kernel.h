/* What the kernel offers and musl's headers do not declare. Names and values are those of the headers named. */
#ifndef KERNEL_H
#define KERNEL_H

#include <stdint.h>

/* linux/mount.h; AT_RECURSIVE and AT_EMPTY_PATH are of linux/fcntl.h. */
enum {
	OPEN_TREE_CLONE_ = 0x1,
	OPEN_TREE_CLOEXEC_ = 02000000,
	MOVE_MOUNT_F_EMPTY_PATH_ = 0x4,
	AT_RECURSIVE_ = 0x8000,
	AT_EMPTY_PATH_ = 0x1000,
	MOUNT_ATTR_RDONLY_ = 0x1,
	MOUNT_ATTR_NOSUID_ = 0x2,
	MOUNT_ATTR_NODEV_ = 0x4,
	MOUNT_ATTR_NOEXEC_ = 0x8,
	MOUNT_ATTR_IDMAP_ = 0x100000,
};

struct mount_attributes { /* struct mount_attr */
	uint64_t set, clear, propagation, user_namespace;
};

/* linux/landlock.h, up to version 6 of its interface. */
enum {
	LANDLOCK_CREATE_RULESET_VERSION_ = 1,
	LANDLOCK_RULE_PATH_BENEATH_ = 1,
	LANDLOCK_EXECUTE = 1 << 0,
	LANDLOCK_WRITE_FILE = 1 << 1,
	LANDLOCK_READ_FILE = 1 << 2,
	LANDLOCK_READ_DIR = 1 << 3,
	LANDLOCK_FIRST_VERSION = (1 << 13) - 1, /* the rights of version 1 */
	LANDLOCK_MAKE_CHAR = 1 << 6,
	LANDLOCK_MAKE_BLOCK = 1 << 11,
	LANDLOCK_REFER = 1 << 13,     /* version 2 */
	LANDLOCK_TRUNCATE = 1 << 14,  /* version 3 */
	LANDLOCK_IOCTL_DEV = 1 << 15, /* version 5 */
	LANDLOCK_NET_BIND_TCP = 1 << 0, /* both version 4 */
	LANDLOCK_NET_CONNECT_TCP = 1 << 1,
	LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET_ = 1 << 0, /* both version 6 */
	LANDLOCK_SCOPE_SIGNAL_ = 1 << 1,
};

struct landlock_rules { /* struct landlock_ruleset_attr */
	uint64_t files, network, scopes;
};

struct landlock_path { /* struct landlock_path_beneath_attr */
	uint64_t allowed;
	int32_t directory;
} __attribute__((packed));

/* linux/filter.h and linux/seccomp.h */
struct filter_instruction { /* struct sock_filter */
	uint16_t code;
	uint8_t if_true, if_false;
	uint32_t value;
};

struct filter_program { /* struct sock_fprog */
	unsigned short length;
	const struct filter_instruction *instructions;
};

struct filter_data { /* struct seccomp_data */
	int number;
	uint32_t architecture;
	uint64_t instruction_pointer, arguments[6];
};

/* linux/capability.h */
enum { CAPABILITY_VERSION_3 = 0x20080522 };

#endif
