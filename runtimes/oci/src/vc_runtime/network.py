"""Connects a VM with the interfaces of a network namespace that an engine has prepared.

Frames pass between each interface and a tap device by the kernel's traffic control. So the guest has the addresses of
the interface, its MAC address too, and what engines set up for these (ports, firewalls, name servers) works for it.

Processes of the namespace itself reach the guest by these addresses too, such as what forwards the ports of a plain
user's podman: they have an address of the link alone for each interface, for which the guest has a route. What they
send to 127.0.0.1 arrives at that address of the guest, where `kubectl port-forward` looks for the ports of a pod.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from vc_core import NetworkConfig, Route, TapInterface
from vc_runtime import iproute
from vc_runtime.faults import Log, RuntimeFault
from vc_runtime.iproute import Link, RouteEntry

#: Names of the tap devices in the container's network namespace, each with the number of its interface.
_TAP = "vc-tap{}"

#: Interfaces that a VM has at most (INTERFACES_MAX of the hypervisor qemu).
_MOST = 8

#: What each network namespace has.
_LOOPBACK = "lo"
#: The addresses that processes of the namespace have for the guest, each with the number of an interface, from 1; they
#: have a meaning between these two only (RFC 3927).
_HOST = "169.254.178.{}"

#: The kind of the interfaces that a VM can have too, and scopes of addresses that have no meaning outside (ip(8)).
_ETHERNET, _NARROW_SCOPES = "ether", ("link", "host")

#: Where packets of IP and ARP have addresses: of their source, and their destination (RFC 791, RFC 826); in bytes.
_IP_FROM, _IP_TO, _ARP_TO = 12, 16, 24

#: The address of a host for itself, and what a filter compares to find all addresses of that kind (RFC 1122).
_LOCALHOST, _LOCALHOSTS = "127.0.0.1", "0x7f000000 0xff000000"

#: The parameter without which a kernel drops packets of other hosts from or to such addresses.
_ROUTE_LOCALNET = "/proc/sys/net/ipv4/conf/{}/route_localnet"

#: The ioctls of tap devices, their flags (linux/if_tun.h), and struct ifreq (linux/if.h).
_TUNSETIFF, _TUNSETPERSIST = 0x400454CA, 0x400454CB
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x2, 0x1000, 0x4000
_IFREQ = struct.Struct("16sH22x")


class _Pair(msgspec.Struct, frozen=True):
    """An interface, the tap device that it is connected with, and the namespace's address for the guest there."""

    link: Link
    tap: str
    host: str


def connect(log: Log) -> tuple[NetworkConfig, dict[str, str]]:
    """Return the network of a VM that is connected to the interfaces of this process' network namespace.

    The second value: parameters of the guest's kernel that it needs. A namespace without an interface gives no network.
    ``log``: to note what is left out. Raises RuntimeFault.
    """
    if all(name == _LOOPBACK for _, name in socket.if_nameindex()):
        return NetworkConfig(), {}
    links, routes = iproute.links(), iproute.routes()
    taps = [_TAP.format(number) for number in range(_MOST)]
    usable = [one for one in links if one.link_type == _ETHERNET and one.ifname not in taps and _addresses(one)]
    if not usable:
        return NetworkConfig(), {}
    # That of the default route is the first, because the pod's network has it.
    usable.sort(key=lambda link: not _gateway(routes, link))
    if others := usable[_MOST:]:
        left_out = ", ".join(one.ifname for one in others)
        log.warning(f"network interface {left_out} is left out: a VM has {_MOST} at most")
    pairs = [_Pair(link, taps[number], _HOST.format(number + 1)) for number, link in enumerate(usable[:_MOST])]
    known = {one.ifname for one in links}
    for pair in pairs:
        _make_tap(pair)
        if pair.tap in known:  # of a start that was killed
            for name in (pair.tap, pair.link.ifname):
                iproute.attempt("tc", f"qdisc del dev {name} ingress")
    changes = [line for pair in pairs for line in _reach(routes, pair)]
    filters = [line for pair in pairs for line in _bridge(pair)]
    if localhost := _accept_localhost(pairs[0]):
        changes.append(_localhost_route(pairs[0]))
        name = pairs[0].link.ifname
        filters += [_filter(name, 1, "ip", f"{_LOCALHOSTS} at {place}") for place in (_IP_FROM, _IP_TO)]
    iproute.change("ip", changes)
    iproute.change("tc", filters)
    first, *further = (_interface(routes, pair) for pair in pairs)
    network = NetworkConfig(
        mode="tap",
        device=first.device,
        mac=first.mac,
        mtu=first.mtu,
        addresses=first.addresses,
        gateway=_gateway(routes, usable[0]),
        routes=first.routes,
        interfaces=further,
    )
    return network, {"net.ipv4.conf.all.route_localnet": "1"} if localhost else {}


def _interface(routes: Sequence[RouteEntry], pair: _Pair) -> TapInterface:
    """Return what the VM has in the place of an interface."""
    link, own = pair.link, [Route(f"{pair.host}/32")] if _own(pair.link) else []
    return TapInterface(pair.tap, _addresses(link), [*_routes(routes, link), *own], link.address, link.mtu)


def _addresses(link: Link) -> list[str]:
    """Return the addresses of an interface with their prefix lengths, those of the link alone left out."""
    return [f"{one.local}/{one.prefixlen}" for one in link.addr_info if one.scope not in _NARROW_SCOPES]


def _own(link: Link) -> list[str]:
    """Return those of version 4, without their prefix lengths."""
    return [one.partition("/")[0] for one in _addresses(link) if ":" not in one]


def _of_main(routes: Sequence[RouteEntry], link: Link) -> list[RouteEntry]:
    return [one for one in routes if one.dev == link.ifname and one.table == "main"]


def _gateway(routes: Sequence[RouteEntry], link: Link) -> str:
    return next((one.gateway for one in _of_main(routes, link) if one.dst == "default" and one.gateway), "")


def _routes(routes: Sequence[RouteEntry], link: Link) -> list[Route]:
    """Return the routes of an interface, without the default one and those that follow from its addresses."""
    wanted = [one for one in _of_main(routes, link) if one.dst != "default" and one.protocol != "kernel"]
    return [Route(str(ipaddress.ip_network(one.dst)), one.gateway) for one in wanted]


def _bridge(pair: _Pair) -> Iterator[str]:
    """Yield the commands of tc that let an interface and its tap device each send what the other receives.

    But what the guest sends to the namespace's own address is not passed on.
    """
    for one, other in ((pair.link.ifname, pair.tap), (pair.tap, pair.link.ifname)):
        yield f"qdisc add dev {one} ingress"
        yield _filter(one, 3, "all", "0 0", f"action mirred egress redirect dev {other}")
    number = int.from_bytes(socket.inet_aton(pair.host), "big")
    for order, protocol, place in ((1, "ip", _IP_TO), (2, "arp", _ARP_TO)):
        yield _filter(pair.tap, order, protocol, f"{number:#x} 0xffffffff at {place}")


def _reach(routes: Sequence[RouteEntry], pair: _Pair) -> Iterator[str]:
    """Yield the commands of ip by which the namespace reaches the guest by its addresses, which are no longer its own.

    The interface keeps its address, for a start after one that was killed: so replies seem to come from here.
    """
    link, tap, host = pair.link, pair.tap, pair.host
    yield f"link set dev {tap} mtu {link.mtu} up"
    yield f"address replace {host}/32 dev {tap}"
    for address in _own(link):
        if any(one.dst == address and one.dev == link.ifname and one.table == "local" for one in routes):
            yield f"route del local {address} dev {link.ifname} table local"
        yield f"route replace {address}/32 dev {tap} src {host} scope link"


def _accept_localhost(pair: _Pair) -> bool:
    """Let what processes of the namespace send to 127.0.0.1 pass to the guest, and no frames from outside.

    Return whether it may: not where the interface has no address of version 4, or /proc/sys is read-only.
    """
    if not _own(pair.link):
        return False
    try:
        # A new namespace may have inherited another value from the host.
        for name, value in (("all", "0"), (pair.link.ifname, "0"), (pair.tap, "1")):
            Path(_ROUTE_LOCALNET.format(name)).write_text(value, encoding="utf-8")
    except OSError:
        return False
    return True


def _localhost_route(pair: _Pair) -> str:
    """Return the command of ip by which 127.0.0.1 is the guest.

    In the table that has 127.0.0.0/8, and in the place of what the loopback interface has added there. By way of the
    guest's own address, because no one asks for the hardware address of this one.
    """
    return f"route replace {_LOCALHOST}/32 via {_own(pair.link)[0]} dev {pair.tap} src {pair.host} table local"


def _filter(name: str, order: int, protocol: str, match: str, action: str = "flowid 1:") -> str:
    """Return the command of tc that does something with what an interface receives, and fits.

    Without an action it goes no further than the namespace: the class has no effect, but without one the filters are
    tried on. Each protocol has another order.
    """
    return f"filter add dev {name} ingress prio {order} protocol {protocol} u32 match u32 {match} {action}"


def _make_tap(pair: _Pair) -> None:
    """Make a tap device, unless it is there, for frames with the header that virtio puts before them.

    Raises RuntimeFault.
    """
    try:
        tap = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(tap, _TUNSETIFF, _IFREQ.pack(pair.tap.encode(), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR))
            fcntl.ioctl(tap, _TUNSETPERSIST, 1)
        finally:
            os.close(tap)
    except OSError as error:
        raise RuntimeFault(f"network interface {pair.link.ifname} cannot be connected to the VM: {error}") from error
    with suppress(OSError):  # where a host's /proc/sys is read-only, the guest is reached from outside alone
        Path(f"/proc/sys/net/ipv4/conf/{pair.tap}/accept_local").write_text("1", encoding="utf-8")
