"""NetworkConfig: the network that a caller configures for a pod.

The addresses and routes that the agent configures in the guest are ``vc_core.driver.GuestNetwork``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from functools import total_ordering
from typing import Annotated, Any, Literal

import msgspec

from vc_core.config.fields import Accepts, Count, check_fields
from vc_core.errors import ConfigError
from vc_core.frozen import frozen

#: Longest name of a Linux network interface (IFNAMSIZ of linux/if.h, less the NUL).
_INTERFACE_NAME_MAX = 15

_MAC = r"(?a)[0-9a-f][02468ace](:[0-9a-f]{2}){5}"


class NetworkMode(StrEnum):
    """How a pod is connected to a network."""

    NONE = "none"  #: not connected
    USER = "user"  #: by address translation inside the hypervisor, which needs no rights on the host
    TAP = "tap"  #: by a tap device that exists on the host


#: The default of a field of type ``Accepts``, which a type checker takes for another type.
_NONE: Any = NetworkMode.NONE


@total_ordering
@frozen
class PortForward:
    """A port of the host, on 127.0.0.1 only, forwarded to a port of the guest."""

    guest_port: Annotated[int, msgspec.Meta(ge=1, le=65535)]  #: the port in the guest
    host_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0  #: the port of the host; 0: any free one
    protocol: Literal["tcp", "udp"] = "tcp"  #: tcp or udp

    def __post_init__(self) -> None:
        check_fields(self)

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, PortForward):
            return NotImplemented
        one, two = ((each.guest_port, each.host_port, each.protocol) for each in (self, other))
        return one < two

    @classmethod
    def parse(cls, text: str) -> PortForward:
        """Return the forward given as ``[HOST:]GUEST[/udp]``. Raises ConfigError."""
        match = re.fullmatch(r"(?:(\d{1,5}):)?(\d{1,5})(?:/(tcp|udp))?", text, re.ASCII)
        if not match:
            raise ConfigError(f"port forward {text!r} is not of the form [HOST:]GUEST[/udp]")
        return cls(int(match[2]), int(match[1] or 0), "udp" if match[3] == "udp" else "tcp")

    def __str__(self) -> str:
        return f"{self.host_port}:{self.guest_port}" + ("/udp" if self.protocol == "udp" else "")


@frozen
class Route:
    """A route of the guest: to a network, by a gateway, or directly by its interface if there is none."""

    destination: str  #: the network, with prefix length
    gateway: str = ""  #: address of the gateway

    def __post_init__(self) -> None:
        check_fields(self)
        _check_address("destination", self.destination, "ip_network", "destination")
        if self.gateway:
            _check_address("gateway", self.gateway, "ip_address", "gateway")
        if self.gateway and (":" in self.gateway) is not (":" in self.destination):
            raise ConfigError(
                f"route {str(self)!r} has a gateway of another kind than its network; give both of IPv4, or of IPv6",
                field="gateway",
            )

    @classmethod
    def parse(cls, text: str) -> Route:
        """Return the route given as ``NETWORK/BITS`` or ``NETWORK/BITS=GATEWAY``. Raises ConfigError."""
        destination, _, gateway = text.partition("=")
        return cls(destination, gateway)

    def __str__(self) -> str:
        return f"{self.destination}={self.gateway}" if self.gateway else self.destination


@frozen
class TapInterface:
    """A further interface of a pod, connected by a tap device of the host."""

    device: str  #: the host's tap device
    addresses: Sequence[str] = ()  #: of the guest, with prefix length
    routes: Sequence[Route] = ()  #: routes of the guest by this interface
    mac: str = ""  #: of the guest's interface, such as 52:54:00:12:34:56; empty: derived from the pod's UUID
    mtu: Count = 0  #: bytes; 0 for the default

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.device:
            raise ConfigError("a further interface of the network has no tap device; name one", field="device")
        _check_interface(self)

    @classmethod
    def parse(cls, text: str) -> TapInterface:
        """Return the interface given as ``DEVICE[,address=ADDRESS/BITS][,route=ROUTE][,mac=MAC][,mtu=BYTES]``.

        ``address`` and ``route`` can be repeated. Raises ConfigError.
        """
        device, *parts = text.split(",")
        given: dict[str, list[str]] = {"address": [], "route": [], "mac": [], "mtu": []}
        for part in parts:
            key, equals, value = part.partition("=")
            if not equals or key not in given or (key in ("mac", "mtu") and given[key]):
                raise ConfigError(
                    f"interface {text!r} has the part {part!r}; "
                    "give DEVICE, then address=ADDRESS/BITS, route=NETWORK/BITS[=GATEWAY], and once mac= and mtu="
                )
            given[key].append(value)
        mtu = "".join(given["mtu"])
        if mtu and not re.fullmatch(r"\d+", mtu, re.ASCII):
            raise ConfigError(f"interface {text!r} has the mtu {mtu!r}; give bytes, a whole number")
        routes = [Route.parse(route) for route in given["route"]]
        return cls(device, given["address"], routes, "".join(given["mac"]), int(mtu or 0))

    def __str__(self) -> str:
        return ",".join(
            [
                self.device,
                *(f"address={one}" for one in self.addresses),
                *(f"route={one}" for one in self.routes),
                *([f"mac={self.mac}"] if self.mac else []),
                *([f"mtu={self.mtu}"] if self.mtu else []),
            ]
        )


@frozen(kw_only=True)
class NetworkConfig:
    """The network of a pod; by default it has none."""

    mode: Accepts[NetworkMode, NetworkMode | Literal["none", "user", "tap"]] = _NONE  #: none, user or tap
    forwards: Sequence[PortForward] = ()  #: with mode user: ports of the host forwarded to the guest
    restrict: bool = True  #: with mode user: the guest cannot open connections, only answer
    device: str = ""  #: with mode tap: the host's tap device
    addresses: Sequence[str] = ()  #: of the guest, with prefix length; mode user has one by default
    gateway: str = ""  #: of the guest's default route; mode user has one by default, unless restricted
    routes: Sequence[Route] = ()  #: further routes of the guest, which are set before the default route
    dns: Sequence[str] = ()  #: addresses of name servers; mode user has one by default, unless restricted
    mac: str = ""  #: of the guest's interface, such as 52:54:00:12:34:56; empty: derived from the pod's UUID
    mtu: Count = 0  #: bytes; 0 for the default
    interfaces: Sequence[TapInterface] = ()  #: further interfaces of the guest, eth1 and so on

    def __post_init__(self) -> None:
        check_fields(self)
        self._check_mode()
        _check_interface(self)
        for index, address in enumerate(self.dns):
            _check_address("name server", address, "ip_address", f"dns[{index}]")
        if self.gateway:
            _check_address("gateway", self.gateway, "ip_address", "gateway")
        devices = [one for one in (self.device, *(one.device for one in self.interfaces)) if one]
        if twice := next((one for one in devices if devices.count(one) > 1), ""):
            raise ConfigError(
                f"two interfaces of the network have the tap device {twice!r}; give each its own", field="interfaces"
            )

    def _check_mode(self) -> None:
        mode = self.mode
        if self.forwards and mode is not NetworkMode.USER:
            raise ConfigError(f"forwards need network mode user, but the mode is {mode}", field="forwards")
        if self.device and mode is not NetworkMode.TAP:
            raise ConfigError(f"device {self.device!r} needs network mode tap, but the mode is {mode}", field="device")
        if mode is NetworkMode.TAP and not self.device:
            raise ConfigError(
                "network mode tap needs a device; give the name of a tap device of the host", field="mode"
            )
        given = {"addresses", "gateway", "routes", "dns", "mac", "mtu", "interfaces"}
        if mode is NetworkMode.NONE and (set_ := sorted(name for name in given if getattr(self, name))):
            raise ConfigError(f"network mode none takes no {', '.join(set_)}; give mode user or tap", field=set_[0])


def _check_interface(interface: TapInterface | NetworkConfig) -> None:
    """Check what all interfaces have. Raises ConfigError."""
    if len(interface.device.encode()) > _INTERFACE_NAME_MAX or re.search(r"[\s/]", interface.device):
        raise ConfigError(
            f"network device {interface.device!r} is not a name of an interface; "
            f"give {_INTERFACE_NAME_MAX} bytes at most, without spaces and '/'",
            field="device",
        )
    for index, address in enumerate(interface.addresses):
        _check_address("address", address, "ip_interface", f"addresses[{index}]")
    if interface.mac and not re.fullmatch(_MAC, interface.mac):
        raise ConfigError(
            f"mac of the network is {interface.mac!r}; give a unicast address such as 52:54:00:12:34:56", field="mac"
        )
    if interface.mtu and not 576 <= interface.mtu <= 65535:
        raise ConfigError(
            f"mtu of the network is {interface.mtu!r}; give 576 to 65535 bytes, or 0 for the default", field="mtu"
        )


def _check_address(what: str, text: str, form: str, field: str) -> None:
    import ipaddress  # here, because listing pods does not need it

    try:
        getattr(ipaddress, form)(text)
    except ValueError as error:
        raise ConfigError(f"{what} {text!r} of the network is not valid: {error}", field=field) from None
