/* The network of the pod, which is that of the VM: interfaces, routes, names. */
#ifndef NETWORK_H
#define NETWORK_H

#include "util.h"

struct address {
	const char *address, *mask; /* the mask as a prefix length or, of IPv4, dotted */
};

struct interface {
	const char *device, *new_name; /* "": the same */
	struct address one, *addresses; /* one by itself, if not "", and a list that ends with a NULL address */
	uint64_t mtu; /* 0: as it is */
};

struct route {
	const char *dest;            /* "default", "any", "all" or an address, with or without prefix length */
	const char *gateway, *device; /* "": none, any */
};

struct resolver {
	const char **servers, **search, **options; /* each NULL, or ended by NULL */
};

/* Where the guest and all containers find what the resolver is to know; there is no such file if it is nothing. */
#define RESOLVER_FILE "/etc/resolv.conf"

/* Each is false and `failure` if that fails. What is so already is no failure. */
bool network_raise_loopback(void);
bool network_set_interface(const struct interface *interface);
bool network_set_route(const struct route *route);
bool network_set_resolver(const struct resolver *resolver);

/* Take the device behind an interface out of the VM. */
bool network_remove_interface(const char *device);

#endif
