/* What the process that becomes QEMU gives up, from the outermost right to the last one. */
#ifndef CONFINE_H
#define CONFINE_H

#include "order.h"

/* Limit descriptors, processes and core dumps. */
void confine_resources(const struct order *order);

/* Become the first user of a user namespace that has the ids. */
void confine_user(const struct order *order, int users);

/* Keep the order's capabilities, those in this user namespace, and never gain any again. */
void confine_capabilities(const struct order *order);

/* Keep to the places of the order by Landlock; a kernel without it is noted. */
void confine_files(const struct order *order);

/* Refuse the system calls that QEMU does not need and its own filter allows. */
void confine_calls(void);

/* Close all descriptors at execve but those that QEMU inherits. */
void confine_descriptors(const struct order *order);

#endif
