"""Devices that the core asks a hypervisor to give to a VM. Plain data; drivers read it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

#: QEMU refuses longer mount tags (measured on 7.2; the virtio-9p config field holds 32 bytes).
MOUNT_TAG_MAX = 31


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


Device = Channel | SharedDirectory
