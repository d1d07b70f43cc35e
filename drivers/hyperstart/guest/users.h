/* Users and groups from the container's own files; no name service, no library of ours reads them. */
#ifndef USERS_H
#define USERS_H

#include "util.h"

#include <sys/types.h>

struct user {
	uid_t uid;
	gid_t gid;
	bool listed; /* /etc/passwd has it, so that name and home are known */
	char name[64];
	char home[256];
};

/* Look up a user by name or number. Any number is a user if `any_number`. False and `failure` if there is none. */
bool find_user(const char *name, bool any_number, struct user *user);

/* Look up a group by name or number, likewise. */
bool find_group(const char *name, bool any_number, gid_t *gid);

/* Add to `gids`, which has room for `room`, the groups that list the user; returns how many list it, with or without
 * room. */
size_t groups_of_user(const struct user *user, gid_t *gids, size_t room);

#endif
