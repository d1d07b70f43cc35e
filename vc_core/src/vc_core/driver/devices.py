"""Devices that the core asks a hypervisor to give to a VM. Plain data; drivers read it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vc_core.config.network import NetworkConfig


@dataclass(frozen=True, slots=True)
class Channel:
    """A named byte channel between host and guest.

    The guest finds it by ``name`` (a virtio-serial port name where the machine has names); the host opens it with
    ``Hypervisor.open_channel(name)``. ``id`` is unique within the pod: a letter, then letters, digits, ``-._``.
    ``host_path`` is where the hypervisor should listen when the caller chose a place; None leaves it to the driver.
    """

    id: str
    name: str
    host_path: Path | None = None


@dataclass(frozen=True, slots=True)
class SharedDirectory:
    """A host directory that the guest can mount by ``tag`` (at most 31 bytes)."""

    tag: str
    host_path: Path
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class BlockDevice:
    """A file or block device of the host that the guest sees as a disk, raw whatever its first bytes say.

    ``id`` is unique within the pod, like a channel's. Where in the guest it is tells ``Hypervisor.disk_location(id)``.
    """

    id: str
    host_path: Path
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class NetworkInterface:
    """The pod's network interface, ``eth0`` in the guest; ``mac`` is always given."""

    config: NetworkConfig
    mac: str


@dataclass(frozen=True, slots=True)
class GuestPort:
    """A TCP port of the guest that ``Hypervisor.open_channel(name)`` connects to, from this host only.

    It works whatever network the pod has or has not.
    """

    name: str
    port: int


Device = Channel | SharedDirectory | BlockDevice | NetworkInterface | GuestPort


@dataclass(frozen=True, slots=True)
class DiskLocation:
    """Where the guest finds a disk: by the name of a device file below /dev, or by its SCSI target and unit ("0:1")."""

    name: str = ""
    scsi: str = ""
