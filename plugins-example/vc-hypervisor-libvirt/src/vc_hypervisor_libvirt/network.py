"""A VM's network: arguments for QEMU, since libvirt's user network has neither forwards nor restrictions. Pure.

A pod has up to two interfaces: that of its network, which the guest finds first, and one for GuestPorts, to which only
the host connects. With a user network one interface serves both. A tap device is libvirt's own kind of interface, in
``domain``.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from vc_core.driver import Device, GuestPort, NetworkConfig, NetworkInterface, NetworkMode, PortForward
from vc_core.errors import ConfigError, HypervisorError

#: The only address of the host where ports are forwarded; QEMU's own default is all of them.
LOOPBACK = "127.0.0.1"

#: MAC of the interface for GuestPorts, which no network sees: locally administered (IEEE 802, second bit).
_PRIVATE_MAC = "02:00:00:00:00:01"

#: A forwarded port in the answer to ``info usernet`` (slirp_connection_info of libslirp): protocol, descriptor, address
#: and port of the host, address and port of the guest.
_FORWARD = re.compile(rf"^ *(TCP|UDP)\[HOST_FORWARD\] +\d+ +{re.escape(LOOPBACK)} +(\d+) +\S+ +(\d+) ", re.MULTILINE)


#: The guest's address in a user network unless the caller gives one, and the host parts of the addresses of gateway
#: and name server there (QEMU's manual, "Network options", -netdev user; its net/slirp.c for other networks).
_USER_ADDRESS, _USER_GATEWAY, _USER_DNS = "10.0.2.15/24", 0x0202, 0x0203


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
    for one in map(ipaddress.ip_interface, addresses):
        if isinstance(one, ipaddress.IPv4Interface):
            return str(one.network.network_address + (part & int(one.network.hostmask)))
    return ""


def interface(devices: Sequence[Device]) -> NetworkInterface | None:
    """Return the interface of a pod's network; None without one."""
    found = (device for device in devices if isinstance(device, NetworkInterface))
    return next((one for one in found if one.config.mode is not NetworkMode.NONE), None)


def check(config: NetworkConfig) -> None:
    """Refuse a network that QEMU cannot provide. Raises ConfigError."""
    if config.mode is NetworkMode.USER and config.addresses and not _first_of(config, 4):
        raise ConfigError(
            f"addresses {', '.join(config.addresses)} of a user network: with hypervisor libvirt give an IPv4 address "
            "too"
        )
    fixed = [(one.protocol, one.host_port) for one in config.forwards if one.host_port]
    if twice := {one for one in fixed if fixed.count(one) > 1}:
        protocol, port = min(twice)
        raise ConfigError(f"{protocol} port {port} of the host is forwarded twice; choose another host port")


def forwards(devices: Sequence[Device]) -> tuple[PortForward, ...]:
    """Return the ports forwarded into a VM: those of its pod's network, then each GuestPort, in their order."""
    own = interface(devices)
    ports = (PortForward(device.port) for device in devices if isinstance(device, GuestPort))
    return (*(own.config.forwards if own else ()), *ports)


def arguments(devices: Sequence[Device], slots: Iterator[int]) -> Iterator[str]:
    """Return QEMU's arguments for user networks; ``slots`` are free ones of the machine's bus."""
    own, wanted = interface(devices), forwards(devices)
    if own is not None and own.config.mode is NetworkMode.USER:
        yield from _interface("vcnet0", own.mac, _user(own.config, wanted), next(slots))
    elif wanted:
        user = _user(NetworkConfig(mode=NetworkMode.USER), wanted)
        yield from _interface("vcnet1", _PRIVATE_MAC, user, next(slots))


def chosen(wanted: Sequence[PortForward], usernet: str) -> tuple[PortForward, ...]:
    """Return ``wanted`` with the host's ports that QEMU chose, from its answer to ``info usernet``.

    Raises HypervisorError when a port is missing in that answer.
    """
    given = {(one.protocol, one.host_port) for one in wanted}
    free: dict[tuple[str, int], list[int]] = {}
    for found in _FORWARD.finditer(usernet):
        protocol, host_port, guest_port = found[1].lower(), int(found[2]), int(found[3])
        if (protocol, host_port) not in given:
            free.setdefault((protocol, guest_port), []).append(host_port)
    try:
        return tuple(
            one if one.host_port else replace(one, host_port=free[one.protocol, one.guest_port].pop()) for one in wanted
        )
    except (IndexError, KeyError) as error:
        raise HypervisorError(f"QEMU does not list the ports of the host that it forwards: {usernet!r}") from error


def _interface(id: str, mac: str, user: dict[str, object], slot: int) -> Iterator[str]:
    yield from ("-netdev", json.dumps({"type": "user", "id": id, **user}))
    # No boot ROM: a guest's kernel comes from the host, never from a network.
    place = {"bus": "pcie.0", "addr": hex(slot)}
    yield from ("-device", json.dumps({"driver": "virtio-net-pci", "netdev": id, "mac": mac, "romfile": "", **place}))


def _user(config: NetworkConfig, wanted: Sequence[PortForward]) -> dict[str, object]:
    """Return the options of a user network (NetdevUserOptions of QEMU); it has IPv6 only if the guest has."""
    v4, v6 = _first_of(config, 4), _first_of(config, 6)
    options: dict[str, object] = {"restrict": config.restrict, "ipv4": True, "ipv6": bool(v6)}
    if v4:
        options["net"] = str(v4.network)
    if v6:
        options["ipv6-prefix"], options["ipv6-prefixlen"] = str(v6.network.network_address), v6.network.prefixlen
    if config.gateway:
        options["ipv6-host" if ":" in config.gateway else "host"] = config.gateway
    guest = v4.ip if v4 else ""  # empty: the address that QEMU assigns
    if wanted:
        options["hostfwd"] = [
            {"str": f"{one.protocol}:{LOOPBACK}:{one.host_port}-{guest}:{one.guest_port}"} for one in wanted
        ]
    return options


def _first_of(config: NetworkConfig, version: int) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface | None:
    addresses = map(ipaddress.ip_interface, config.addresses)
    return next((address for address in addresses if address.version == version), None)
