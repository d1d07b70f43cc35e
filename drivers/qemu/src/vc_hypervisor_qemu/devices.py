"""Checks which devices a VM can have, and beside which others."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vc_core.driver import (
    BlockDevice,
    Channel,
    Device,
    GuestPort,
    NetworkInterface,
    NetworkMode,
    PortForward,
    SharedDirectory,
)
from vc_core.errors import ConfigError
from vc_hypervisor_qemu import disks, network
from vc_hypervisor_qemu.arguments import text
from vc_hypervisor_qemu.config import VIRTIO, QemuConfig

#: How many of each kind a VM can have: ports of one serial device, targets of one SCSI controller, and of the bus's 30
#: slots (measured on QEMU 7.2) those that are left by the devices of which there is one.
_MOST: dict[type[Device], int] = {
    Channel: 30,
    SharedDirectory: 24,
    BlockDevice: disks.TARGETS,
    NetworkInterface: network.INTERFACES_MAX,
    GuestPort: 30,
}

#: Fields that are unique among all devices of a VM, because QEMU, the guest or the core identifies them by these.
_UNIQUE = ("id", "name", "tag")

#: QEMU's rule for ids (``id_wellformed`` in its util/id.c).
_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]*", re.ASCII)


def check(device: Device, others: Sequence[Device], config: QemuConfig) -> None:
    """Refuse a device that a VM cannot have beside ``others``. Called before it is added. Raises ConfigError."""
    kind = _kind(device, config)
    kinds = [kind, *(_kind(other, config) for other in others)]
    if kinds.count(kind) > _MOST[kind]:
        raise ConfigError(
            f"{device} is one device too many: a VM of hypervisor qemu has {_MOST[kind]} of the kind at most"
        )
    # A further interface takes a slot of the bus, as a shared directory does.
    if kinds.count(SharedDirectory) + kinds.count(NetworkInterface) > _MOST[SharedDirectory] + 1:
        raise ConfigError(
            f"{device} is one device too many: a VM of hypervisor qemu has {_MOST[SharedDirectory] + 1} "
            "shared directories and network interfaces at most"
        )
    path = getattr(device, "host_path", None)
    if path is not None and not path.is_absolute():
        raise ConfigError(f"host path {str(path)!r} of {device} must be absolute")
    if isinstance(device, BlockDevice):
        disks.check_path(device.host_path)
    if isinstance(device, Channel | BlockDevice) and not _ID.fullmatch(device.id):
        raise ConfigError(
            f"id {device.id!r} of {device} is not valid: a letter, then letters, digits, '-', '.' and '_'"
        )
    if isinstance(device, NetworkInterface):
        network.check(device.config)
        if device.config.mode is NetworkMode.USER and NetworkInterface in kinds[1:]:
            raise ConfigError(f"{device} is a further interface; hypervisor qemu connects these to tap devices only")
    if isinstance(device, GuestPort):
        PortForward(device.port)  # raises ConfigError for a number that is not a port
    for key in _UNIQUE:
        value = text(key, getattr(device, key, ""))
        if value and any(getattr(other, key, None) == value for other in others):
            raise ConfigError(f"two devices have the {key} {value!r}; it must be unique")


def _kind(device: Device, config: QemuConfig) -> type[Device]:
    """Return the kind whose places a device takes: a disk takes one of shared directories if it is on the same bus.

    Raises ConfigError for an object that is not a device of these kinds.
    """
    if isinstance(device, BlockDevice) and config.disk_bus == VIRTIO:
        return SharedDirectory
    kind = next((kind for kind in _MOST if isinstance(device, kind)), None)
    if kind is None:
        raise ConfigError(f"hypervisor qemu cannot give a {type(device).__name__} to a VM")
    return kind
