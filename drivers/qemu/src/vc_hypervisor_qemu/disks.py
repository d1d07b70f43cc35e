"""A VM's disks: their places, and the arguments for QEMU, which are the same on its command line and over QMP."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vc_core.driver import BlockDevice, DiskLocation, frozen
from vc_core.errors import ConfigError, HypervisorError
from vc_hypervisor_qemu import host
from vc_hypervisor_qemu.arguments import MODERN, text
from vc_hypervisor_qemu.config import SCSI, QemuConfig

#: SCSI targets of a controller (VIRTIO_SCSI_MAX_TARGET of QEMU's hw/scsi/virtio-scsi.c, and target 0).
TARGETS = 256

#: The SCSI controller, which every VM with the option disk_bus=scsi has from the start: it cannot be added later.
CONTROLLER = {"driver": "virtio-scsi-pci", "id": "scsi", **MODERN}


@frozen
class Disk:
    """A disk in its place: SCSI target or number ``slot``. JSON-able."""

    slot: int
    driver: str  #: QEMU's block driver for the kind of file
    path: str
    read_only: bool
    location: DiskLocation
    descriptors: int  #: number of the set of descriptors of which QEMU has the file

    @property
    def name(self) -> str:
        """QEMU's id of the device, and of the block node behind it."""
        return f"disk{self.slot}"

    @property
    def file(self) -> str:
        """QEMU's name for the file, also in its messages."""
        return f"/dev/fdset/{self.descriptors}"

    @property
    def backend(self) -> dict[str, object]:
        """The block node behind the disk: arguments of blockdev-add (QEMU's qapi/block-core.json).

        QEMU cannot open the file itself: it gets a descriptor.
        """
        return backend(self.name, self.driver, self.file, self.read_only)

    @property
    def device(self) -> dict[str, object]:
        """The device that the guest sees: arguments of device_add."""
        if self.location.scsi:
            place = {"bus": f"{CONTROLLER['id']}.0", "scsi-id": self.slot, "lun": 0}
            return {"driver": "scsi-hd", "id": self.name, "drive": self.name, **place}
        return {"driver": "virtio-blk-pci", "id": self.name, "drive": self.name, **MODERN}

    def is_for(self, device: BlockDevice) -> bool:
        """Return whether this disk has the file and the access of ``device``."""
        return (self.path, self.read_only) == (str(device.host_path), device.read_only)


def check_path(path: Path) -> None:
    """Refuse the path of a disk that JSON for QEMU cannot hold. Raises ConfigError."""
    try:
        text("host path", path).encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"host path {str(path)!r} of a disk is not in UTF-8; rename it") from error


def place(device: BlockDevice, slot: int, config: QemuConfig, before: int = 0) -> Disk:
    """Return a disk in the place ``slot``; ``before``: the number of virtio disks that precede the first of these.

    Raises ConfigError if it is not a file or block device.
    """
    if config.disk_bus == SCSI:
        location = DiskLocation(scsi=f"{slot}:0")
    else:
        location = DiskLocation(name=f"vd{chr(ord('a') + before + slot)}")
    return Disk(slot, host.disk_driver(device), str(device.host_path), device.read_only, location, slot)


def open_file(disk: Disk, device: BlockDevice) -> int:
    """Return a descriptor of a disk's file, for QEMU. Called right before QEMU gets it.

    Raises ConfigError for one that is not what it was when the disk was placed, or that this host uses.
    """
    return host.open_disk(device, disk.driver)


def free_target(taken: Mapping[str, Disk], first: int) -> int:
    """Return the first free SCSI target from ``first`` on, with 0 after the last one.

    So a target is not used again soon: a guest may not have noticed yet that its former disk was removed.
    Raises HypervisorError if all targets are in use.
    """
    slots = {disk.slot for disk in taken.values()}
    for target in range(first, first + TARGETS):
        if target % TARGETS not in slots:
            return target % TARGETS
    raise HypervisorError(f"the VM has {TARGETS} disks already, which is all that it can have; delete a container")


def backend(name: str, driver: str, path: str, read_only: bool) -> dict[str, object]:
    """Return the block node of a raw file or block device of the host.

    The format is fixed, never probed: data that looks like another format could name any file of the host as its
    backing. QEMU locks the file: several VMs can read it, and a VM that writes to it is its only user.
    """
    file = {"driver": driver, "filename": path, "read-only": read_only, "auto-read-only": False}
    return {"driver": "raw", "node-name": name, "read-only": read_only, "auto-read-only": False, "file": file}
