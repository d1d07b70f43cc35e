"""Checks which devices a VM can have, and gives each its place."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vc_core.driver import (
    BlockDevice,
    Channel,
    Device,
    DiskLocation,
    GuestPort,
    NetworkInterface,
    PortForward,
    SharedDirectory,
)
from vc_core.errors import ConfigError
from vc_hypervisor_libvirt import network

#: How many of each kind a VM can have: ports of one serial device; slots of the machine's bus that are left by the
#: devices of which there is one; targets of one SCSI controller (libvirt's limit for virtio-scsi is higher).
_MOST: dict[type[Device], int] = {
    Channel: 30,
    SharedDirectory: 22,
    BlockDevice: 256,
    NetworkInterface: 1,
    GuestPort: 30,
}

#: Fields that are unique among all devices of a VM.
_UNIQUE = ("id", "name", "tag")

_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]*", re.ASCII)
#: What XML 1.0 cannot hold, and line breaks, which it would change.
_UNFIT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]")

#: Bytes of a unix socket's address (unix(7)), without its final NUL.
_SOCKET_MAX = 107


def check(device: Device, others: Sequence[Device]) -> None:
    """Refuse a device that a VM cannot have beside ``others``. Raises ConfigError."""
    kind = next((kind for kind in _MOST if isinstance(device, kind)), None)
    if kind is None:
        raise ConfigError(f"hypervisor libvirt cannot give a {type(device).__name__} to a VM")
    if sum(isinstance(other, kind) for other in others) >= _MOST[kind]:
        raise ConfigError(
            f"{device} is one device too many: a VM of hypervisor libvirt has {_MOST[kind]} of the kind at most"
        )
    path = getattr(device, "host_path", None)
    if path is not None:
        if not path.is_absolute():
            raise ConfigError(f"host path {str(path)!r} of {device} must be absolute")
        text("host path", str(path))
    if isinstance(device, Channel) and path is not None and len(bytes(path)) > _SOCKET_MAX:
        raise ConfigError(f"host path {str(path)!r} is too long for a socket; give {_SOCKET_MAX} bytes at most")
    if isinstance(device, Channel | BlockDevice) and not _ID.fullmatch(device.id):
        raise ConfigError(f"id {device.id!r} of {device} is not valid: a letter, then letters, digits, '-', '.', '_'")
    if isinstance(device, NetworkInterface):
        network.check(device.config)
    if isinstance(device, GuestPort):
        PortForward(device.port)  # raises ConfigError for a number that is not a port
    for key in _UNIQUE:
        value = text(key, getattr(device, key, ""))
        if value and any(getattr(other, key, None) == value for other in others):
            raise ConfigError(f"two devices have the {key} {value!r}; it must be unique")


def text(what: str, value: str) -> str:
    """Return a value that XML can hold. Raises ConfigError for one that it cannot."""
    if _UNFIT.search(value):
        raise ConfigError(f"{what} {value!r} has a control character or is not in UTF-8; rename it")
    return value


def location(target: int) -> DiskLocation:
    """Return where the guest finds the disk of a SCSI target."""
    return DiskLocation(scsi=f"{target}:0")


def free_target(taken: Sequence[int], first: int) -> int:
    """Return the first free SCSI target from ``first`` on, with 0 after the last one.

    So a target is not used again soon: a guest may not have noticed yet that its former disk was removed.
    Raises ConfigError if all targets are in use.
    """
    most = _MOST[BlockDevice]
    for target in range(first, first + most):
        if target % most not in taken:
            return target % most
    raise ConfigError(f"the VM has {most} disks already, which is all that it can have; delete a container")
