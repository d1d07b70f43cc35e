"""NetworkConfig: the network that a caller configures for a pod.

The addresses and routes that the agent configures in the guest are ``vc_core.driver.GuestNetwork``.
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
    """How a pod is connected to a network."""

    NONE = "none"  #: not connected
    USER = "user"  #: by address translation inside the hypervisor, which needs no rights on the host
    TAP = "tap"  #: by a tap device that exists on the host


@dataclass(frozen=True, slots=True, order=True)
class PortForward:
    """A port of the host, on 127.0.0.1 only, forwarded to a port of the guest. ``host_port`` 0: any free port."""

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
        """Return the forward given as ``[HOST:]GUEST[/udp]``. Raises ConfigError."""
        match = re.fullmatch(r"(?:(\d{1,5}):)?(\d{1,5})(?:/(tcp|udp))?", text, re.ASCII)
        if not match:
            raise ConfigError(f"port forward {text!r} is not of the form [HOST:]GUEST[/udp]")
        return cls(int(match[2]), int(match[1] or 0), match[3] or "tcp")

    def __str__(self) -> str:
        return f"{self.host_port}:{self.guest_port}" + ("/udp" if self.protocol == "udp" else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """The network of a pod; by default it has none."""

    mode: NetworkMode = NetworkMode.NONE  #: none, user or tap
    forwards: Sequence[PortForward] = ()  #: with mode user: ports of the host forwarded to the guest
    restrict: bool = True  #: with mode user: the guest cannot open connections, only answer
    device: str = ""  #: with mode tap: the host's tap device
    addresses: Sequence[str] = ()  #: of the guest, with prefix length; mode user has one by default
    gateway: str = ""  #: of the guest's default route; mode user has one by default, unless restricted
    dns: Sequence[str] = ()  #: addresses of name servers; mode user has one by default, unless restricted
    mac: str = ""  #: of the guest's interface, such as 52:54:00:12:34:56; empty: derived from the pod's UUID
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
            raise ConfigError(f"mac of the network is {self.mac!r}; give a unicast address such as 52:54:00:12:34:56")
        if self.mtu and not 576 <= self.mtu <= 65535:
            raise ConfigError(f"mtu of the network is {self.mtu!r}; give 576 to 65535 bytes, or 0 for the default")

    def _check_mode(self) -> None:
        mode = self.mode
        if self.forwards and mode is not NetworkMode.USER:
            raise ConfigError(f"forwards need network mode user, but the mode is {mode}")
        if self.device and mode is not NetworkMode.TAP:
            raise ConfigError(f"device {self.device!r} needs network mode tap, but the mode is {mode}")
        if mode is NetworkMode.TAP and not self.device:
            raise ConfigError("network mode tap needs a device; give the name of a tap device of the host")
        if len(self.device.encode()) > _INTERFACE_NAME_MAX or re.search(r"[\s/]", self.device):
            raise ConfigError(
                f"network device {self.device!r} is not a name of an interface; "
                f"give {_INTERFACE_NAME_MAX} bytes at most, without spaces and '/'"
            )
        given = {"addresses", "gateway", "dns", "mac", "mtu"}
        if mode is NetworkMode.NONE and (set_ := sorted(name for name in given if getattr(self, name))):
            raise ConfigError(f"network mode none takes no {', '.join(set_)}; give mode user or tap")


def _check_address(what: str, text: str, form: str) -> None:
    import ipaddress  # here, because listing pods does not need it

    try:
        getattr(ipaddress, form)(text)
    except ValueError as error:
        raise ConfigError(f"{what} {text!r} of the network is not valid: {error}") from None
