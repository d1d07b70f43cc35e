"""Options of the driver ``qemu``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from vc_core.driver import read_options
from vc_core.errors import ConfigError

#: Machine types that the driver supports (``qemu-system-x86_64 -machine help``).
MACHINES = ("q35", "pc", "microvm")

#: How the VM executes code: by the fastest way that works, hardware virtualization, or emulation.
ACCELERATORS = ("auto", "kvm", "tcg")

#: How disks are connected: to a SCSI controller, where they can be added and removed while the VM runs, or each as a
#: virtio device.
SCSI, VIRTIO = DISK_BUSES = ("scsi", "virtio")

#: A CPU model with features switched on or off, as ``-cpu`` takes it ("Haswell,-rtm", "max,la57=off").
_CPU = re.compile(r"[A-Za-z0-9_.-]+(,[+-]?[A-Za-z0-9_.-]+(=[A-Za-z0-9_.-]+)?)*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class QemuConfig:
    """The options of QEMU, beyond the fields of ``HypervisorConfig``."""

    machine: str = "q35"  #: machine type, one of MACHINES
    accel: str = "auto"  #: one of ACCELERATORS
    cpu: str = ""  #: value of QEMU's ``-cpu``; empty: the host's under KVM, else the fastest that QEMU emulates

    disk_bus: str = SCSI  #: one of DISK_BUSES

    def __post_init__(self) -> None:
        _one_of("machine", self.machine, MACHINES)
        _one_of("accel", self.accel, ACCELERATORS)
        _one_of("disk_bus", self.disk_bus, DISK_BUSES)
        if self.cpu and not _CPU.fullmatch(self.cpu):
            raise ConfigError(
                f"option cpu of hypervisor qemu is {self.cpu!r}; give a CPU model and features, such as 'Haswell,-rtm'"
            )

    @classmethod
    def from_mapping(cls, options: Mapping[str, object]) -> QemuConfig:
        """Return the configuration that ``HypervisorConfig.options`` ask for.

        Raises ConfigError for an unknown option or a bad value, naming both.
        """
        return read_options(cls, options, "hypervisor qemu")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"option {name} of hypervisor qemu is {value!r}; it can be {', '.join(allowed)}")
