/* Finds users and groups in the container's own /etc/passwd and /etc/group; no name service is used. */
#ifndef USERS_H
#define USERS_H

#include "util.h"

#include <sys/types.h>

struct user {
	uid_t uid;
	gid_t gid;
	bool listed; /* in /etc/passwd, which has its name and home directory */
	char name[64];
	char home[256];
};

/* Look up a user by name or number. With `any_number`, a number that is not listed is a user too. False and `failure` if
 * it is not found. */
bool find_user(const char *name, bool any_number, struct user *user);

/* Look up a group likewise. */
bool find_group(const char *name, bool any_number, gid_t *gid);

/* Write the groups that list the user to `gids`, at most `room` of them; return how many list it. */
size_t groups_of_user(const struct user *user, gid_t *gids, size_t room);

#endif
