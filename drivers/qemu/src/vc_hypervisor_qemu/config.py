"""Options of the driver ``qemu``."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from vc_core.driver import frozen
from vc_core.errors import ConfigError

#: Machine types that the driver supports (``qemu-system-x86_64 -machine help``).
Machine = Literal["q35", "pc", "microvm"]

#: How the VM executes code: by the fastest way that works, hardware virtualization, or emulation.
Accelerator = Literal["auto", "kvm", "tcg"]

#: MiB of translated code that QEMU keeps under emulation, where its own limit is an eighth of the host's memory, up to
#: 1024. A boot of the guest's kernel needs 39; when the limit is reached, QEMU drops all of it and translates again.
TRANSLATED_MAX = 256

#: How disks are connected: to a SCSI controller, where they can be added and removed while the VM runs, or each as a
#: virtio device.
DiskBus = Literal["scsi", "virtio"]

SCSI: DiskBus = "scsi"
VIRTIO: DiskBus = "virtio"

#: How QEMU is confined: as well as this host can, fully or not at all, or without namespaces.
JailWanted = Literal["best", "full", "landlock"]

BEST: JailWanted = "best"
FULL: JailWanted = "full"
LANDLOCK: JailWanted = "landlock"

#: Virtual CPUs of a pod that asks for none.
DEFAULT_VCPUS = 1

#: A CPU model with features switched on or off, as ``-cpu`` takes it ("Haswell,-rtm", "max,la57=off").
_CPU = r"(?a)[A-Za-z0-9_.-]+(,[+-]?[A-Za-z0-9_.-]+(=[A-Za-z0-9_.-]+)?)*"


@frozen(kw_only=True)
class QemuConfig:
    """The options of QEMU, beyond the fields of ``HypervisorConfig``."""

    machine: Annotated[
        Machine,
        "machine type: q35, the older pc, or microvm, which has the fewest devices and boots fastest; emulated all "
        "three have been tried, under KVM none yet",
    ] = "q35"
    accel: Annotated[
        Accelerator,
        "kvm: hardware virtualization or an error; tcg: emulation; auto: kvm where it works, else tcg",
    ] = "auto"
    cpu: Annotated[
        str,
        "a value of QEMU's -cpu, such as Haswell,-rtm; without it, the host's CPU under KVM, else all that QEMU can "
        "emulate except what makes copies slow there (max,-erms)",
    ] = ""
    disk_bus: Annotated[
        DiskBus,
        "scsi: disks at one SCSI controller, which every VM has, so that containers with disks can be added to a pod "
        "that runs; virtio: each disk a device of its own and no controller, for kernels without SCSI",
    ] = SCSI
    jail: Annotated[
        JailWanted,
        "how QEMU's process is confined on the host: best: as fully as this host can; full: fully, with ids that only "
        "root can give it, or the pod does not start; landlock: without namespaces",
    ] = BEST

    def __post_init__(self) -> None:
        if self.cpu and not re.fullmatch(_CPU, self.cpu):
            raise ConfigError(
                f"option cpu of hypervisor qemu is {self.cpu!r}; give a CPU model and features, such as 'Haswell,-rtm'"
            )
