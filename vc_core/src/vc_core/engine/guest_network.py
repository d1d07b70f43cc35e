"""The network that a pod's agent configures in the guest."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from vc_core.config.network import NetworkConfig, NetworkMode
from vc_core.driver.agent import GuestInterface, GuestNetwork, GuestRoute

#: The name of the pod's network interface in the guest: Linux counts interfaces of one driver from zero.
_INTERFACE = "eth0"

#: The guest's address in a user network unless the caller gives one, and the host parts of the addresses of gateway
#: and name server there (QEMU's manual, "Network options", -netdev user; its net/slirp.c for other networks).
_USER_ADDRESS, _USER_GATEWAY, _USER_DNS = "10.0.2.15/24", 0x0202, 0x0203


def guest_network(network: NetworkConfig) -> GuestNetwork | None:
    """Return the network that the agent configures in the guest; None for a pod without one."""
    if network.mode is NetworkMode.NONE:
        return None
    addresses, gateway, dns = network.addresses, network.gateway, network.dns
    if network.mode is NetworkMode.USER:
        addresses = addresses or (_USER_ADDRESS,)
        if not network.restrict:
            gateway = gateway or _in_user_network(addresses, _USER_GATEWAY)
            dns = dns or tuple(filter(None, [_in_user_network(addresses, _USER_DNS)]))
    return GuestNetwork(
        interfaces=(GuestInterface(_INTERFACE, tuple(addresses), network.mtu),),
        routes=(GuestRoute("default", gateway, _INTERFACE),) if gateway else (),
        dns=tuple(dns),
    )


def _in_user_network(addresses: Sequence[str], part: int) -> str:
    """Return the address that the hypervisor itself has in a user network, "" if the guest has no IPv4 there."""
    for interface in map(ipaddress.ip_interface, addresses):
        if isinstance(interface, ipaddress.IPv4Interface):
            network = interface.network
            return str(network.network_address + (part & int(network.hostmask)))
    return ""
