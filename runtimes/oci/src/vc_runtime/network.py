"""Connects a VM with the interface of a network namespace that an engine has prepared.

Frames pass between the interface and a tap device by the kernel's traffic control. So the guest has the address and the
MAC address of the interface, and what engines set up for these (ports, firewalls, name servers) works for the guest.
"""

from __future__ import annotations

import fcntl
import os
import struct
from typing import Any

from vc_core import NetworkConfig, Route
from vc_runtime.faults import Log, RuntimeFault

#: The tap device in the container's network namespace.
TAP = "vc-tap0"

#: linux/if.h and linux/rtnetlink.h.
_IFF_LOOPBACK, _NARROW_SCOPES = 0x8, (253, 254)  # RT_SCOPE_LINK, RT_SCOPE_HOST
_MAIN_TABLE, _BY_KERNEL = 254, 2  # RT_TABLE_MAIN, RTPROT_KERNEL

#: linux/if_ether.h, and the parent of a queueing discipline for what an interface receives (linux/pkt_sched.h).
_ETH_P_ALL, _INGRESS = 0x0003, 0xFFFF0000

#: The class that a filter of pyroute2 must name; that of an ingress discipline has no effect.
_CLASS = 0x10000

#: The ioctls of tap devices, their flags (linux/if_tun.h), and struct ifreq (linux/if.h).
_TUNSETIFF, _TUNSETPERSIST = 0x400454CA, 0x400454CB
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x2, 0x1000, 0x4000
_IFREQ = struct.Struct("16sH22x")


def connect(log: Log) -> NetworkConfig:
    """Return the network of a VM that is connected to the interface of this process' network namespace.

    A namespace without an interface gives no network. ``log``: to note what is left out. Raises RuntimeFault.
    """
    from pyroute2 import IPRoute, NetlinkError

    with IPRoute() as netlink:
        links = [one for one in netlink.get_links() if not one["flags"] & _IFF_LOOPBACK and one.get("index")]
        usable = [
            one for one in links if _name(one) != TAP and one.get_attr("IFLA_ADDRESS") and _addresses(netlink, one)
        ]
        if not usable:
            return NetworkConfig()
        link, *others = usable
        if others:
            log.warning(f"network interface {', '.join(map(_name, others))} is left out: a VM has one")
        try:
            _bridge(netlink, link)
        except (NetlinkError, OSError) as error:
            raise RuntimeFault(f"network interface {_name(link)} cannot be connected to the VM: {error}") from error
        return NetworkConfig(
            mode="tap",
            device=TAP,
            mac=link.get_attr("IFLA_ADDRESS"),
            mtu=link.get_attr("IFLA_MTU") or 0,
            addresses=_addresses(netlink, link),
            gateway=_gateway(netlink, link["index"]),
            routes=_routes(netlink, link["index"]),
        )


def _name(link: Any) -> str:
    return str(link.get_attr("IFLA_IFNAME"))


def _addresses(netlink: Any, link: Any) -> list[str]:
    """Return the addresses of an interface with their prefix lengths, those of the link alone left out."""
    return [
        f"{one.get_attr('IFA_ADDRESS')}/{one['prefixlen']}"
        for one in netlink.get_addr(index=link["index"])
        if one["scope"] not in _NARROW_SCOPES
    ]


def _gateway(netlink: Any, index: int) -> str:
    for family in (2, 10):  # AF_INET, AF_INET6
        for route in netlink.get_routes(family=family, table=_MAIN_TABLE):
            if not route["dst_len"] and route.get_attr("RTA_OIF") == index and route.get_attr("RTA_GATEWAY"):
                return str(route.get_attr("RTA_GATEWAY"))
    return ""


def _routes(netlink: Any, index: int) -> list[Route]:
    """Return the routes of an interface, without the default one and those that follow from its addresses."""
    return [
        Route(f"{route.get_attr('RTA_DST')}/{route['dst_len']}", str(route.get_attr("RTA_GATEWAY") or ""))
        for family in (2, 10)  # AF_INET, AF_INET6
        for route in netlink.get_routes(family=family, table=_MAIN_TABLE)
        if route["dst_len"] and route.get_attr("RTA_OIF") == index and route["proto"] != _BY_KERNEL
    ]


def _bridge(netlink: Any, link: Any) -> None:
    """Make the tap device, and let each of the two send what the other receives. Raises OSError, NetlinkError."""
    _make_tap()
    tap = netlink.link_lookup(ifname=TAP)[0]
    netlink.link("set", index=tap, mtu=link.get_attr("IFLA_MTU"), state="up")
    for one, other in ((link["index"], tap), (tap, link["index"])):
        for qdisc in netlink.get_qdiscs(index=one):
            if qdisc.get_attr("TCA_KIND") == "ingress":  # of a start that was killed
                netlink.tc("del", "ingress", one)
        netlink.tc("add", "ingress", one)
        redirect = {"kind": "mirred", "direction": "egress", "action": "redirect", "ifindex": other}
        netlink.tc(
            "add-filter",
            "u32",
            one,
            parent=_INGRESS,
            protocol=_ETH_P_ALL,
            target=_CLASS,
            keys=["0x0/0x0+0"],
            action=redirect,
        )


def _make_tap() -> None:
    """Make the tap device, unless it is there, for frames with the header that virtio puts before them."""
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(tap, _TUNSETIFF, _IFREQ.pack(TAP.encode(), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR))
        fcntl.ioctl(tap, _TUNSETPERSIST, 1)
    finally:
        os.close(tap)
