"""A VM's disks: where each is, and how QEMU is told of it. The same values do on its command line and over QMP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vc_core.driver import BlockDevice, DiskLocation
from vc_core.errors import ConfigError, HypervisorError
from vc_hypervisor_qemu import host
from vc_hypervisor_qemu.arguments import MODERN, text
from vc_hypervisor_qemu.config import SCSI, QemuConfig

#: SCSI targets of a controller (VIRTIO_SCSI_MAX_TARGET of QEMU's hw/scsi/virtio-scsi.c, and target 0).
TARGETS = 256

#: The SCSI controller of every VM that can have such disks: later it could not be added.
CONTROLLER = {"driver": "virtio-scsi-pci", "id": "scsi", **MODERN}


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk in its place: SCSI target or number ``slot``. JSON-able."""

    slot: int
    driver: str  #: QEMU's, for the kind of file
    path: str
    read_only: bool
    location: DiskLocation

    @property
    def name(self) -> str:
        """What QEMU knows the disk by, and what is behind it."""
        return f"disk{self.slot}"

    @property
    def backend(self) -> dict[str, object]:
        """What is behind the disk: arguments of blockdev-add (QEMU's qapi/block-core.json)."""
        return backend(self.name, self.driver, self.path, self.read_only)

    @property
    def device(self) -> dict[str, object]:
        """What the guest sees: arguments of device_add."""
        if self.location.scsi:
            place = {"bus": f"{CONTROLLER['id']}.0", "scsi-id": self.slot, "lun": 0}
            return {"driver": "scsi-hd", "id": self.name, "drive": self.name, **place}
        return {"driver": "virtio-blk-pci", "id": self.name, "drive": self.name, **MODERN}

    def is_for(self, device: BlockDevice) -> bool:
        """Tell whether this is the disk that is asked for."""
        return (self.path, self.read_only) == (str(device.host_path), device.read_only)


def check_path(path: Path) -> None:
    """Refuse the path of a disk that QEMU cannot be told, in JSON. Raises ConfigError."""
    try:
        text("host path", path).encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"host path {str(path)!r} of a disk is not in UTF-8; rename it") from error


def place(device: BlockDevice, slot: int, config: QemuConfig, before: int = 0) -> Disk:
    """Return a disk in a place; ``before``: how many virtio disks the guest counts before the first of these.

    Raises ConfigError if there is no such file.
    """
    if config.disk_bus == SCSI:
        location = DiskLocation(scsi=f"{slot}:0")
    else:
        location = DiskLocation(name=f"vd{chr(ord('a') + before + slot)}")
    return Disk(slot, host.disk_driver(device.host_path), str(device.host_path), device.read_only, location)


def free_target(taken: Mapping[str, Disk], first: int) -> int:
    """Return a free SCSI target, from ``first`` on in a circle: a guest may not know yet that a former disk has gone.

    Raises HypervisorError if there is none.
    """
    slots = {disk.slot for disk in taken.values()}
    for target in range(first, first + TARGETS):
        if target % TARGETS not in slots:
            return target % TARGETS
    raise HypervisorError(f"the VM has {TARGETS} disks already, which is all that it can have; delete a container")


def backend(name: str, driver: str, path: str, read_only: bool) -> dict[str, object]:
    """Return what is behind a disk: a file or block device of the host, raw.

    The format is said, never probed: what looks like another one could name any file of the host as its backing.
    QEMU locks the file by its default, so that one who writes shares it with nobody, and any number of readers do.
    """
    file = {"driver": driver, "filename": path, "read-only": read_only, "auto-read-only": False}
    return {"driver": "raw", "node-name": name, "read-only": read_only, "auto-read-only": False, "file": file}
