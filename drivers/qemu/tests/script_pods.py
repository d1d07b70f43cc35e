"""The pod of the scripts that tests run in processes of their own."""

import uuid
from pathlib import Path

from vc_core.driver import Boot, HypervisorConfig, PodContext, Resources
from vc_hypervisor_qemu.config import QemuConfig
from vc_hypervisor_qemu.hypervisor import QemuHypervisor


def hypervisor(run_dir: Path, kernel: Path, image: Path) -> QemuHypervisor:
    """Return the hypervisor of a new VM of pod "p1"."""
    pod = PodContext(
        "p1",
        str(uuid.uuid5(uuid.NAMESPACE_OID, str(run_dir))),
        run_dir,
        run_dir,
        Resources(),
        HypervisorConfig(),
        Boot(kernel, image, True, ()),
    )
    return QemuHypervisor(pod, QemuConfig(), None)
