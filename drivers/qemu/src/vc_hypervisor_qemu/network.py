"""A VM's network interfaces and forwarded ports: QEMU's arguments for them, and its answer about ports. Pure.

The guest finds the interfaces of the pod's networks first, and behind them one for GuestPorts, to which only the host
connects. If the pod's first interface is on QEMU's user network, it serves GuestPorts too.
"""

from __future__ import annotations

import ipaddress
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from vc_core.driver import Device, GuestPort, NetworkConfig, NetworkInterface, NetworkMode, PortForward
from vc_core.errors import ConfigError, HypervisorError
from vc_hypervisor_qemu.arguments import MODERN, options

#: The only address of the host where ports are forwarded; QEMU's own default is all of them.
LOOPBACK = "127.0.0.1"

#: Interfaces that a pod's networks have at most: some of the bus's slots are for other devices.
INTERFACES_MAX = 8

#: MAC of the interface for GuestPorts, which no network sees: locally administered (IEEE 802, second bit).
_PRIVATE_MAC = "02:00:00:00:00:01"

#: A forwarded port in the answer to ``info usernet`` (slirp_connection_info of libslirp): protocol, descriptor, address
#: and port of the host, address and port of the guest.
_FORWARD = rf"(?m)^ *(TCP|UDP)\[HOST_FORWARD\] +\d+ +{re.escape(LOOPBACK)} +(\d+) +\S+ +(\d+) "


#: The guest's address in a user network unless the caller gives one, and the host parts of the addresses of gateway
#: and name server there (QEMU's manual, "Network options", -netdev user; its net/slirp.c for other networks).
_USER_ADDRESS, _USER_GATEWAY, _USER_DNS = "10.0.2.15/24", 0x0202, 0x0203


def check(config: NetworkConfig) -> None:
    """Refuse a network that QEMU cannot provide. Raises ConfigError."""
    if config.mode is NetworkMode.USER and config.addresses and not _first_of(config, 4):
        raise ConfigError(
            f"addresses {', '.join(config.addresses)} of a user network: with hypervisor qemu give an IPv4 address too"
        )
    fixed = [(one.protocol, one.host_port) for one in config.forwards if one.host_port]
    if twice := {one for one in fixed if fixed.count(one) > 1}:
        protocol, port = min(twice)
        raise ConfigError(f"{protocol} port {port} of the host is forwarded twice; choose another host port")


def resolve(interface: NetworkInterface) -> NetworkInterface:
    """Return an interface with the addresses that QEMU's user network has by default; see ``resolve_network``."""
    if interface.config.mode is not NetworkMode.USER:
        return interface
    resolved = replace(interface, addresses=interface.addresses or (_USER_ADDRESS,))
    if interface.config.restrict:
        return resolved
    return replace(
        resolved,
        gateway=interface.gateway or _of_qemu(resolved.addresses, _USER_GATEWAY),
        dns=interface.dns or tuple(filter(None, [_of_qemu(resolved.addresses, _USER_DNS)])),
    )


def _of_qemu(addresses: Sequence[str], part: int) -> str:
    """Return an address that QEMU itself has in a user network, "" if the guest has no IPv4 there."""
    for interface in map(ipaddress.ip_interface, addresses):
        if isinstance(interface, ipaddress.IPv4Interface):
            network = interface.network
            return str(network.network_address + (part & int(network.hostmask)))
    return ""


def forwards(devices: Sequence[Device]) -> tuple[PortForward, ...]:
    """Return the ports forwarded into a VM: those of its pod's network, then each GuestPort, in their order."""
    network = tuple(one for device in _interfaces(devices) for one in device.config.forwards)
    return (*network, *(PortForward(device.port) for device in devices if isinstance(device, GuestPort)))


def uses_host(devices: Sequence[Device]) -> bool:
    """Return whether QEMU itself connects to the host's network, or listens there."""
    return bool(forwards(devices)) or any(one.config.mode is NetworkMode.USER for one in _interfaces(devices))


def tap_interfaces(devices: Sequence[Device]) -> list[NetworkInterface]:
    """Return the interfaces of a VM that are connected to tap devices, in their order in the guest."""
    return [device for device in _interfaces(devices) if device.config.mode is NetworkMode.TAP]


def arguments(devices: Sequence[Device], taps: Sequence[int]) -> Iterator[str]:
    """Return the arguments for a VM's interfaces, the pod's own first.

    ``taps``: descriptors of the tap devices of :func:`tap_interfaces`, in that order.
    """
    interfaces, wanted, descriptors = list(_interfaces(devices)), forwards(devices), iter(taps)
    for number, own in enumerate(interfaces):
        if own.config.mode is NetworkMode.USER:
            yield from _interface(f"net{number}", own.mac, "user", *_user(own.config, wanted))
        else:
            yield from _interface(f"net{number}", own.mac, "tap", ("fd", str(next(descriptors))))
    if wanted and not any(one.config.mode is NetworkMode.USER for one in interfaces):
        private = _user(NetworkConfig(mode=NetworkMode.USER), wanted)
        yield from _interface(f"net{len(interfaces)}", _PRIVATE_MAC, "user", *private)


def chosen(wanted: Sequence[PortForward], usernet: str) -> tuple[PortForward, ...]:
    """Return ``wanted`` with the host's ports that QEMU chose, from its answer to ``info usernet``.

    Raises HypervisorError when a port is missing in that answer.
    """
    given = {(one.protocol, one.host_port) for one in wanted}
    free = defaultdict(list)
    for found in re.finditer(_FORWARD, usernet):
        protocol, host_port, guest_port = found[1].lower(), int(found[2]), int(found[3])
        if (protocol, host_port) not in given:
            free[protocol, guest_port].append(host_port)
    try:
        return tuple(
            one if one.host_port else replace(one, host_port=free[one.protocol, one.guest_port].pop()) for one in wanted
        )
    except IndexError as error:
        raise HypervisorError(f"QEMU does not list the ports of the host that it forwards: {usernet!r}") from error


def _interfaces(devices: Sequence[Device]) -> Iterator[NetworkInterface]:
    for device in devices:
        if isinstance(device, NetworkInterface) and device.config.mode is not NetworkMode.NONE:
            yield device


def _interface(id: str, mac: str, kind: str, *values: tuple[str, str]) -> Iterator[str]:
    yield from ("-netdev", options(kind, [("id", id), *values]))
    # No boot ROM: a guest's kernel comes from the host, never from a network.
    device = {"netdev": id, "mac": mac, "romfile": "", **MODERN}
    yield from ("-device", options("virtio-net-pci", device))


def _user(config: NetworkConfig, wanted: Sequence[PortForward]) -> Iterator[tuple[str, str]]:
    """Return the options of a user network; it has IPv6 only if the guest has an IPv6 address."""
    v4, v6 = _first_of(config, 4), _first_of(config, 6)
    yield from (("restrict", "on" if config.restrict else "off"), ("ipv4", "on"), ("ipv6", "on" if v6 else "off"))
    if v4:
        yield "net", str(v4.network)
    if v6:
        yield "ipv6-net", str(v6.network)
    if config.gateway:
        yield "ipv6-host" if ":" in config.gateway else "host", config.gateway
    guest = v4.ip if v4 else ""  # empty: the address that QEMU assigns
    for one in wanted:
        yield "hostfwd", f"{one.protocol}:{LOOPBACK}:{one.host_port}-{guest}:{one.guest_port}"


def _first_of(config: NetworkConfig, version: int) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface | None:
    addresses = map(ipaddress.ip_interface, config.addresses)
    return next((address for address in addresses if address.version == version), None)
