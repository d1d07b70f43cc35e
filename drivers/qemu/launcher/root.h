/* The root that QEMU sees: a small file system in memory with the places of the order, and nothing else of the host. */
#ifndef ROOT_H
#define ROOT_H

#include "order.h"

/* Enter new mount, IPC, UTS, cgroup and network namespaces, and the new root. `users`: descriptor of the user namespace
 * whose ids the places get. Called with all of the host's rights. Ends the process if it fails. */
void root_enter(struct order *order, int users);

#endif
