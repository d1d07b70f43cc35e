"""VmRecord: what `save` returns of a VM, with which any process can control it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from vc_core.driver import PortForward, ProcessIdentity, convert
from vc_hypervisor_qemu.disks import Disk
from vc_hypervisor_qemu.jail.launcher import Level


class VmRecord(msgspec.Struct):
    """The JSON-able record of one VM. Fields that were added later have a default, for VMs of an older driver."""

    process: ProcessIdentity  #: ends with QEMU, and QEMU with it
    acceleration: str
    channels: dict[str, str]  #: path of each channel's socket, by the channel's name
    ports: dict[str, int] = {}  #: where the host connects to each GuestPort, by its name
    forwards: list[PortForward] = []  #: of the pod's network, with the host's ports
    disks: dict[str, Disk] = {}  #: by the id of the BlockDevice
    next_target: int = 0  #: where the search for a free SCSI target begins
    qemu: int = 0  #: QEMU's own pid; 0: that of ``process``
    jail: str = Level.NONE
    jail_missing: list[str] = []  #: one sentence for each part of a full jail that it lacks
    cgroups: list[str] = []  #: directories to remove when QEMU has ended

    @property
    def qemu_pid(self) -> int:
        """QEMU's own pid, which its sockets name."""
        return self.qemu or self.process.pid

    @classmethod
    def from_mapping(cls, saved: Mapping[str, object]) -> VmRecord:
        """Return the record that :meth:`to_mapping` returned. Raises ValueError when it is damaged."""
        return convert(saved, cls)

    def to_mapping(self) -> dict[str, object]:
        """Return the record as values that JSON has."""
        return dict(msgspec.to_builtins(self))
