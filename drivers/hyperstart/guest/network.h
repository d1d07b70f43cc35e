/* Configures the network of the pod, which is that of the VM: interfaces and routes. */
#ifndef NETWORK_H
#define NETWORK_H

#include "util.h"

struct address {
	const char *address, *mask; /* the mask as a prefix length or, of IPv4, dotted */
};

struct interface {
	const char *device, *new_name; /* "": unchanged */
	struct address one, *addresses; /* one by itself, if not "", and a list that ends with a NULL address */
	uint64_t mtu; /* 0: unchanged */
	const char *mac; /* "": unchanged; of a clone, whose device has that of its template */
};

struct route {
	const char *dest;            /* "default", "any", "all" or an address, with or without prefix length */
	const char *gateway, *device; /* "": none, any */
};

struct resolver {
	const char **servers, **search, **options; /* each NULL, or ended by NULL */
};

/* Load the modules of the interfaces that the VM has. Without this the first interface that is set loads them. */
void network_prepare(void);

/* Each returns false and `failure` if it fails. To set what is set already succeeds. */
bool network_raise_loopback(void);
bool network_set_interface(const struct interface *interface);
bool network_set_route(const struct route *route);

/* Let processes without capabilities listen on any port, and send the echo requests of ping: all ports are the pod's. */
bool network_open_to_users(void);

/* Remove the device of an interface from the VM. */
bool network_remove_interface(const char *device);

#endif
