"""The network that a pod's agent configures in the guest."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from vc_core.driver.agent import GuestInterface, GuestNetwork, GuestRoute
from vc_core.driver.devices import NetworkInterface
from vc_core.driver.hypervisor import Hypervisor
from vc_core.errors import HypervisorError


def guest_network(
    hypervisor: Hypervisor, interfaces: Sequence[NetworkInterface], *, clone: bool = False
) -> GuestNetwork | None:
    """Return the network that the agent configures in the guest of a VM that has ``interfaces`` and is prepared.

    None without interfaces. ``clone``: they have the MAC addresses of its template, and must get their own.
    Raises HypervisorError for an address, gateway or name server of the hypervisor that is not valid.
    """
    if not interfaces:
        return None
    # Linux counts interfaces of one driver from zero.
    parts = [_of_interface(hypervisor, one, f"eth{number}", clone) for number, one in enumerate(interfaces)]
    return GuestNetwork(
        interfaces=tuple(interface for part in parts for interface in part.interfaces),
        routes=tuple(route for part in parts for route in part.routes),
        dns=tuple(server for part in parts for server in part.dns),
    )


def _of_interface(hypervisor: Hypervisor, interface: NetworkInterface, name: str, clone: bool) -> GuestNetwork:
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
            GuestInterface(name, tuple(resolved.addresses), interface.config.mtu, mac=interface.mac if clone else ""),
        ),
        routes=(
            *(GuestRoute(one.destination, one.gateway, name) for one in interface.config.routes),
            *([GuestRoute("default", gateway, name)] if gateway else []),
        ),
        dns=tuple(resolved.dns),
    )
