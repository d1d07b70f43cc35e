/* Loads kernel modules by lists that the guest builder wrote, each in the order of loading. */
#ifndef MODULES_H
#define MODULES_H

/* Load the modules of a list; "" is the list of the boot. A second call, and one for a list that does not exist, has no
 * effect: either the kernel has the feature built in, or the operation that needs it fails with a reason. */
void modules_load(const char *list);

#endif
