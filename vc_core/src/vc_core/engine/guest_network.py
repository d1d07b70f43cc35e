"""The network that a pod's agent configures in the guest."""

from __future__ import annotations

import ipaddress

from vc_core.driver.agent import GuestInterface, GuestNetwork, GuestRoute
from vc_core.driver.devices import NetworkInterface
from vc_core.driver.hypervisor import Hypervisor
from vc_core.errors import HypervisorError

#: The name of the pod's network interface in the guest: Linux counts interfaces of one driver from zero.
_INTERFACE = "eth0"


def guest_network(hypervisor: Hypervisor, interface: NetworkInterface, *, clone: bool = False) -> GuestNetwork:
    """Return the network that the agent configures in the guest of a VM that has ``interface`` and is prepared.

    ``clone``: its interface has the MAC address of its template, and must get its own.

    Raises HypervisorError for an address, gateway or name server of the hypervisor that is not valid.
    """
    resolved = hypervisor.resolve_network(interface)
    try:
        for address in resolved.addresses:
            ipaddress.ip_interface(address)
        for address in (*resolved.dns, *([resolved.gateway] if resolved.gateway else [])):
            ipaddress.ip_address(address)
    except (AttributeError, TypeError, ValueError) as error:
        raise HypervisorError(f"resolve_network of the hypervisor returned {resolved!r}: {error}") from error
    gateway = resolved.gateway
    return GuestNetwork(
        interfaces=(
            GuestInterface(
                _INTERFACE, tuple(resolved.addresses), interface.config.mtu, mac=interface.mac if clone else ""
            ),
        ),
        routes=(
            *(GuestRoute(one.destination, one.gateway, _INTERFACE) for one in interface.config.routes),
            *([GuestRoute("default", gateway, _INTERFACE)] if gateway else []),
        ),
        dns=tuple(resolved.dns),
    )
