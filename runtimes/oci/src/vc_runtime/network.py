"""Connects a VM with the interface of a network namespace that an engine has prepared.

Frames pass between the interface and a tap device by the kernel's traffic control, so that the guest has the address and
the MAC address of the interface, and what engines set up for that (ports, firewalls, name servers) works for the guest.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from vc_core import NetworkConfig
from vc_runtime.faults import RuntimeFault

#: The tap device in the container's network namespace.
TAP = "vc-tap0"

#: linux/if_link.h, linux/if_addr.h and linux/rtnetlink.h.
_LOOPBACK_FLAG, _TENTATIVE_SCOPES = 0x8, (253, 254)  # RT_SCOPE_LINK, RT_SCOPE_HOST
_MAIN_TABLE = 254

#: linux/if_ether.h, and the parent of a queueing discipline for what an interface receives (linux/pkt_sched.h).
_ETH_P_ALL, _INGRESS = 0x0003, 0xFFFF0000


def connect(log: Any) -> NetworkConfig:
    """Return the network of a VM that is connected to the interface of this process' network namespace.

    A namespace without an interface gives no network. ``log``: to note what is left out. Raises RuntimeFault.
    """
    from pyroute2 import IPRoute, NetlinkError

    with IPRoute() as netlink:
        links = [one for one in netlink.get_links() if not one["flags"] & _LOOPBACK_FLAG and one.get("index")]
        usable = [one for one in links if _name(one) != TAP and one.get_attr("IFLA_ADDRESS") and _addresses(netlink, one)]
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
        )


def _name(link: Any) -> str:
    return str(link.get_attr("IFLA_IFNAME"))


def _addresses(netlink: Any, link: Any) -> list[str]:
    """Return the addresses of an interface with their prefix lengths, those of the link alone left out."""
    return [
        f"{one.get_attr('IFA_ADDRESS')}/{one['prefixlen']}"
        for one in netlink.get_addr(index=link["index"])
        if one["scope"] not in _TENTATIVE_SCOPES
    ]


def _gateway(netlink: Any, index: int) -> str:
    for family in (2, 10):  # AF_INET, AF_INET6
        for route in netlink.get_routes(family=family, table=_MAIN_TABLE):
            if not route["dst_len"] and route.get_attr("RTA_OIF") == index and route.get_attr("RTA_GATEWAY"):
                return str(route.get_attr("RTA_GATEWAY"))
    return ""


def _bridge(netlink: Any, link: Any) -> None:
    """Make the tap device, and let each of the two send what the other receives."""
    from pyroute2 import NetlinkError

    with suppress(NetlinkError):  # of a start that was killed
        netlink.link("del", index=netlink.link_lookup(ifname=TAP)[0]) if netlink.link_lookup(ifname=TAP) else None
    netlink.link("add", ifname=TAP, kind="tuntap", tun_type="tap", tun_vnet_hdr=True)
    tap = netlink.link_lookup(ifname=TAP)[0]
    netlink.link("set", index=tap, mtu=link.get_attr("IFLA_MTU"), state="up")
    for one, other in ((link["index"], tap), (tap, link["index"])):
        with suppress(NetlinkError):
            netlink.tc("del", "ingress", one)
        netlink.tc("add", "ingress", one)
        netlink.tc(
            "add-filter",
            "u32",
            one,
            parent=_INGRESS,
            protocol=_ETH_P_ALL,
            keys=["0x0/0x0+0"],
            action={"kind": "mirred", "direction": "egress", "action": "redirect", "ifindex": other},
        )
