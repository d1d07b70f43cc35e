#include "network.h"

#include "devices.h"
#include "dialect.h"
#include "modules.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* Of linux/netlink.h, linux/rtnetlink.h, linux/if_link.h and linux/if_addr.h. They are copied, as are those of other files,
 * because musl-gcc has only the headers of musl, and none of the kernel's below linux/. */
enum { NETLINK_ROUTE_ = 0, NLMSG_ERROR_ = 2 };
enum { REQUEST = 1, ACKNOWLEDGE = 4, REPLACE = 0x100, CREATE = 0x400 };
enum { NEWLINK = 16, NEWADDR = 20, NEWROUTE = 24 };
enum { LINK_ADDRESS = 1, LINK_NAME = 3, LINK_MTU = 4 };
enum { ADDRESS_PEER = 1, ADDRESS_LOCAL = 2, ADDRESS_BROADCAST = 4, ADDRESS_NO_DUPLICATES = 2 };
enum { ROUTE_DEST = 1, ROUTE_DEVICE = 4, ROUTE_GATEWAY = 5 };
enum { TABLE_MAIN = 254, PROTOCOL_BOOT = 3, SCOPE_LINK = 253, TYPE_UNICAST = 1 };

/* The type of a network device ("Device Types" of the virtio specification). */
enum { VIRTIO_NETWORK = 1 };

struct header {
	uint32_t length;
	uint16_t type, flags;
	uint32_t sequence, port;
};

struct request {
	struct header header;
	uint8_t body[256];
};

struct link {
	uint8_t family, pad;
	uint16_t type;
	int32_t index;
	uint32_t flags, change;
};

struct link_address {
	uint8_t family, prefix, flags, scope;
	uint32_t index;
};

struct link_route {
	uint8_t family, dest_prefix, source_prefix, tos, table, protocol, scope, type;
	uint32_t flags;
};

_Static_assert(sizeof(struct header) == 16, "struct nlmsghdr of linux/netlink.h");
_Static_assert(sizeof(struct link) == 16, "struct ifinfomsg of linux/rtnetlink.h");
_Static_assert(sizeof(struct link_address) == 8, "struct ifaddrmsg of linux/if_addr.h");
_Static_assert(sizeof(struct link_route) == 12, "struct rtmsg of linux/rtnetlink.h");

struct ip {
	int family;
	unsigned size; /* bytes */
	uint8_t bytes[16];
};

/* Append to a request. The requests of this program are all shorter than its room. */
static void request_append(struct request *request, const void *bytes, size_t count)
{
	if (count > sizeof *request - request->header.length)
		fatal("guest agent: a netlink request has more than %zu bytes", sizeof *request);
	memcpy((uint8_t *)request + request->header.length, bytes, count);
	request->header.length += (uint32_t)(count + 3) & ~3u;
}

static struct request request_begin(unsigned type, unsigned flags, const void *bytes, size_t count)
{
	struct request request = {
		.header.length = sizeof(struct header),
		.header.type = (uint16_t)type,
		.header.flags = (uint16_t)(REQUEST | ACKNOWLEDGE | flags),
	};

	request_append(&request, bytes, count);
	return request;
}

static void request_append_attribute(struct request *request, unsigned type, const void *bytes, size_t count)
{
	uint16_t header[2] = {(uint16_t)(sizeof header + count), (uint16_t)type};

	request_append(request, header, sizeof header);
	request_append(request, bytes, count);
}

/* Send a request to the kernel and read its answer. False and errno if it is refused. */
static bool netlink_request(const struct request *request)
{
	struct {
		struct header header;
		int32_t error;
		uint8_t more[1024]; /* the request */
	} answer = {.error = -EIO};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE_);
	ssize_t count = -1;

	if (fd < 0)
		return false;
	/* The kernel has answered when the call returns. */
	if (send(fd, request, request->header.length, 0) >= 0)
		count = recv(fd, &answer, sizeof answer, MSG_DONTWAIT);
	close(fd);
	if (count < 0)
		return false;
	if (answer.header.type == NLMSG_ERROR_ && !answer.error)
		return true;
	errno = -answer.error;
	return false;
}

static bool parse_ip(const char *text, struct ip *ip)
{
	*ip = (struct ip){.family = AF_INET, .size = 4};
	if (inet_pton(AF_INET, text, ip->bytes) == 1)
		return true;
	*ip = (struct ip){.family = AF_INET6, .size = 16};
	/* An original agent supports IPv4 only; without HELLO this one behaves alike. */
	return (extended && inet_pton(AF_INET6, text, ip->bytes) == 1) || fail("'%s' is not an IP address", text);
}

static bool parse_prefix(const char *text, const struct ip *ip, unsigned *prefix)
{
	uint8_t dotted[4];
	uint32_t bits;
	char *end;

	if (ip->family == AF_INET && inet_pton(AF_INET, text, dotted) == 1) {
		bits = get_be32(dotted);
		for (*prefix = 0; *prefix < 32 && bits >> 31; ++*prefix)
			bits <<= 1;
		return !bits || fail("'%s' is not a network mask", text);
	}
	*prefix = (unsigned)strtoul(text, &end, 10);
	return (*text >= '0' && *text <= '9' && !*end && *prefix <= 8 * ip->size) ||
	       fail("'%s' is not a network mask or prefix length", text);
}

void network_prepare(void)
{
	if (devices_have(VIRTIO_NETWORK))
		modules_load("network");
}

static unsigned find_interface(const char *name)
{
	unsigned index = if_nametoindex(name);

	if (index)
		return index;
	modules_load("network");
	index = if_nametoindex(name);
	if (index)
		return index;
	devices_rescan();
	return if_nametoindex(name);
}

static bool set_link(unsigned index, unsigned attribute, const void *bytes, size_t count)
{
	struct link link = {.index = (int32_t)index};
	struct request request = request_begin(NEWLINK, 0, &link, sizeof link);

	request_append_attribute(&request, attribute, bytes, count);
	return netlink_request(&request);
}

static bool set_up(unsigned index, bool up)
{
	struct link link = {.index = (int32_t)index, .flags = up ? IFF_UP : 0, .change = IFF_UP};
	struct request request = request_begin(NEWLINK, 0, &link, sizeof link);

	return netlink_request(&request);
}

static bool add_address(const char *device, unsigned index, const struct address *address)
{
	struct link_address body = {.flags = ADDRESS_NO_DUPLICATES, .index = index};
	struct request request;
	struct ip ip;
	uint8_t broadcast[4];
	unsigned prefix;

	if (!parse_ip(address->address, &ip) || !parse_prefix(address->mask, &ip, &prefix))
		return false;
	body.family = (uint8_t)ip.family;
	body.prefix = (uint8_t)prefix;
	request = request_begin(NEWADDR, CREATE | REPLACE, &body, sizeof body);
	request_append_attribute(&request, ADDRESS_LOCAL, ip.bytes, ip.size);
	request_append_attribute(&request, ADDRESS_PEER, ip.bytes, ip.size);
	if (ip.family == AF_INET && prefix < 31) {
		put_be32(broadcast, get_be32(ip.bytes) | UINT32_MAX >> prefix);
		request_append_attribute(&request, ADDRESS_BROADCAST, broadcast, sizeof broadcast);
	}
	return netlink_request(&request) ||
	       fail("address %s/%s of interface %s: %s", address->address, address->mask, device, strerror(errno));
}

static bool add_addresses(const char *device, unsigned index, const struct interface *interface)
{
	if (*interface->one.address && !add_address(device, index, &interface->one))
		return false;
	for (const struct address *address = interface->addresses; address && address->address; address++)
		if (!add_address(device, index, address))
			return false;
	return true;
}

static bool set_mac(unsigned index, const char *device, const char *mac)
{
	uint8_t bytes[6];
	int end = 0;

	if (!*mac)
		return true;
	if (sscanf(mac, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", bytes, bytes + 1, bytes + 2, bytes + 3, bytes + 4,
	           bytes + 5, &end) < 6 ||
	    mac[end])
		return fail("'%s' is not a MAC address", mac);
	return set_link(index, LINK_ADDRESS, bytes, sizeof bytes) ||
	       fail("MAC address of interface %s: %s", device, strerror(errno));
}

bool network_set_interface(const struct interface *interface)
{
	const char *device = interface->device, *name = *interface->new_name ? interface->new_name : device;
	uint32_t mtu = (uint32_t)MIN(interface->mtu, UINT32_MAX);
	unsigned index = find_interface(device);

	if (strlen(name) >= IF_NAMESIZE)
		return fail("'%s' is too long for an interface's name", name);
	if (!index)
		index = if_nametoindex(name); /* a previous pod renamed it already */
	else if (strcmp(name, device) && (!set_up(index, false) || !set_link(index, LINK_NAME, name, strlen(name) + 1)))
		return fail("interface %s: cannot be called %s: %s", device, name, strerror(errno));
	if (!index)
		return fail("the VM has no network interface '%s'", device);
	if (mtu && !set_link(index, LINK_MTU, &mtu, sizeof mtu))
		return fail("mtu %u of interface %s: %s", (unsigned)mtu, name, strerror(errno));
	return set_mac(index, name, interface->mac) && add_addresses(name, index, interface) &&
	       (set_up(index, true) || fail("interface %s: %s", name, strerror(errno)));
}

bool network_raise_loopback(void)
{
	unsigned index = if_nametoindex("lo");

	/* The kernel may be built without network. */
	return !index || set_up(index, true) || fail("interface lo: %s", strerror(errno));
}

bool network_open_to_users(void)
{
	static const char *const settings[][2] = {
		{"/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"},
		{"/proc/sys/net/ipv4/ping_group_range", "0 2147483647"},
	};

	for (size_t i = 0; i < COUNT(settings); i++)
		if (!write_file(settings[i][0], settings[i][1]) && errno != ENOENT) /* a kernel without network */
			return fail("%s: %s", settings[i][0], strerror(errno));
	return true;
}

/* Parse the destination of a route; the words for a default route have the family of its gateway. */
static bool parse_dest(const struct route *route, const struct ip *gateway, struct ip *dest, unsigned *prefix)
{
	static const char *const all[] = {"default", "any", "all"};
	char text[INET6_ADDRSTRLEN + 1];
	size_t length = strcspn(route->dest, "/");

	*prefix = 0;
	*dest = *gateway;
	for (size_t i = 0; i < COUNT(all); i++)
		if (!strcmp(route->dest, all[i]))
			return true;
	snprintf(text, sizeof text, "%.*s", (int)MIN(length, sizeof text), route->dest);
	if (!parse_ip(text, dest))
		return false;
	*prefix = 8 * dest->size;
	return !route->dest[length] || parse_prefix(route->dest + length + 1, dest, prefix);
}

bool network_set_route(const struct route *route)
{
	struct link_route body = {.table = TABLE_MAIN, .protocol = PROTOCOL_BOOT, .type = TYPE_UNICAST};
	struct ip gateway = {.family = AF_INET, .size = 4}, dest;
	unsigned prefix, index = 0;
	struct request request;

	if ((*route->gateway && !parse_ip(route->gateway, &gateway)) || !parse_dest(route, &gateway, &dest, &prefix))
		return false;
	if (*route->gateway && gateway.family != dest.family)
		return fail("route to %s: its gateway %s is of another kind", route->dest, route->gateway);
	if (*route->device && !(index = if_nametoindex(route->device)))
		return fail("route to %s: there is no interface '%s'", route->dest, route->device);
	body.family = (uint8_t)dest.family;
	body.dest_prefix = (uint8_t)prefix;
	body.scope = *route->gateway ? 0 : SCOPE_LINK;
	request = request_begin(NEWROUTE, CREATE | REPLACE, &body, sizeof body);
	if (prefix)
		request_append_attribute(&request, ROUTE_DEST, dest.bytes, dest.size);
	if (*route->gateway)
		request_append_attribute(&request, ROUTE_GATEWAY, gateway.bytes, gateway.size);
	if (index)
		request_append_attribute(&request, ROUTE_DEVICE, &index, sizeof index);
	return netlink_request(&request) || fail("route to %s: %s", route->dest, strerror(errno));
}

bool network_remove_interface(const char *device)
{
	char path[64];

	if (!if_nametoindex(device) || strchr(device, '/'))
		return fail("the VM has no network interface '%s'", device);
	/* The interface's parent is a virtio device, whose parent is the device on the bus. */
	snprintf(path, sizeof path, "/sys/class/net/%.16s/device/../remove", device);
	return write_file(path, "1") || fail("interface %s: %s", device, strerror(errno));
}
