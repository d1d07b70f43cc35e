"""A pod's network: what callers ask for, and what its guest is told of it.

A pod has no network unless it asks for one. Addresses are checked with :mod:`ipaddress`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from vc_core.errors import ConfigError

#: Longest name of a Linux network interface (IFNAMSIZ of linux/if.h, less the NUL).
_INTERFACE_NAME_MAX = 15

_MAC = re.compile(r"[0-9a-f][02468ace](:[0-9a-f]{2}){5}", re.ASCII)

_PROTOCOLS = ("tcp", "udp")


class NetworkMode(StrEnum):
    """How a pod is connected."""

    NONE = "none"  #: not at all
    USER = "user"  #: by the hypervisor's own translation of addresses, without rights on the host
    TAP = "tap"  #: by a tap device that exists on the host


@dataclass(frozen=True, slots=True, order=True)
class PortForward:
    """A port of the host, on 127.0.0.1 only, that leads to a port of the guest. A ``host_port`` of 0 is chosen."""

    guest_port: int
    host_port: int = 0
    protocol: str = "tcp"

    def __post_init__(self) -> None:
        for name, lowest in (("guest_port", 1), ("host_port", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= 65535:
                raise ConfigError(f"{name} of a port forward is {value!r}; give a number from {lowest} to 65535")
        if self.protocol not in _PROTOCOLS:
            raise ConfigError(f"protocol of a port forward is {self.protocol!r}; give {' or '.join(_PROTOCOLS)}")

    @classmethod
    def parse(cls, text: str) -> PortForward:
        """Return the forward that ``[HOST:]GUEST[/udp]`` says. Raises ConfigError."""
        match = re.fullmatch(r"(?:(\d{1,5}):)?(\d{1,5})(?:/(tcp|udp))?", text, re.ASCII)
        if not match:
            raise ConfigError(f"port forward {text!r} is not of the form [HOST:]GUEST[/udp]")
        return cls(int(match[2]), int(match[1] or 0), match[3] or "tcp")

    def __str__(self) -> str:
        return f"{self.host_port}:{self.guest_port}" + ("/udp" if self.protocol == "udp" else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """How a pod is connected to a network; by default not at all."""

    mode: NetworkMode = NetworkMode.NONE  #: none, user or tap
    forwards: Sequence[PortForward] = ()  #: with mode user: ports of the host that lead into the guest
    restrict: bool = True  #: with mode user: the guest reaches nothing, it can only answer
    device: str = ""  #: with mode tap: the host's tap device
    addresses: Sequence[str] = ()  #: of the guest, with prefix length; mode user has one by default
    gateway: str = ""  #: of the guest's default route; mode user has one by default, unless restricted
    dns: Sequence[str] = ()  #: addresses of name servers; mode user has one by default, unless restricted
    mac: str = ""  #: of the guest's interface, such as 52:54:00:12:34:56; empty: derived from the pod's id
    mtu: int = 0  #: bytes; 0 for the default

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "mode", NetworkMode(self.mode))
        except ValueError:
            raise ConfigError(f"network mode is {self.mode!r}; give {', '.join(NetworkMode)}") from None
        for name in ("forwards", "addresses", "dns"):
            if isinstance(value := getattr(self, name), str):
                raise ConfigError(f"{name} of the network is the string {value!r}; give a list")
            object.__setattr__(self, name, tuple(value))
        self._check_mode()
        for address in self.addresses:
            _check_address("address", address, "ip_interface")
        for address in (*self.dns, *([self.gateway] if self.gateway else [])):
            _check_address("gateway or name server", address, "ip_address")
        if self.mac and not _MAC.fullmatch(self.mac):
            raise ConfigError(
                f"mac of the network is {self.mac!r}; give one like 52:54:00:12:34:56, not a multicast one"
            )
        if self.mtu and not 576 <= self.mtu <= 65535:
            raise ConfigError(f"mtu of the network is {self.mtu!r}; give 576 to 65535 bytes, or 0 for the default")

    def _check_mode(self) -> None:
        mode = self.mode
        if self.forwards and mode is not NetworkMode.USER:
            raise ConfigError(f"forwards need network mode user, and this one is {mode}")
        if bool(self.device) != (mode is NetworkMode.TAP):
            raise ConfigError(f"network mode {mode} with device {self.device!r}; a device goes with mode tap, always")
        if len(self.device.encode()) > _INTERFACE_NAME_MAX or re.search(r"[\s/]", self.device):
            raise ConfigError(
                f"network device {self.device!r} is no name of an interface ({_INTERFACE_NAME_MAX} bytes at most)"
            )
        given = {"addresses", "gateway", "dns", "mac", "mtu"}
        if mode is NetworkMode.NONE and (set_ := sorted(name for name in given if getattr(self, name))):
            raise ConfigError(
                f"{', '.join(set_)} of the network: network mode none has no such thing; give mode user or tap"
            )


def _check_address(what: str, text: str, form: str) -> None:
    import ipaddress  # not at the top, because looking at pods does not need it

    try:
        getattr(ipaddress, form)(text)
    except ValueError as error:
        raise ConfigError(f"{what} {text!r} of the network is not valid: {error}") from None
