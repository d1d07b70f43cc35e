/* Kernel modules, in lists that whoever built the guest wrote in the order to load them. */
#ifndef MODULES_H
#define MODULES_H

/* Load the modules of a list, once: "" is that for the boot. Nothing happens where there is no such list: the kernel has
 * what is needed, or what needs it will say so. */
void modules_load(const char *list);

#endif
