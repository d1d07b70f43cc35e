"""Owns the VM of pod "p1": python owner.py RUN_DIR KERNEL IMAGE. Prints what it saved once prepared, and waits."""

import asyncio
import json
import sys
import uuid
from pathlib import Path

from vc_core.driver import Boot, Channel, HypervisorConfig, PodContext, Resources
from vc_hypervisor_qemu.config import QemuConfig
from vc_hypervisor_qemu.hypervisor import QemuHypervisor


async def main(run_dir: Path, kernel: Path, image: Path) -> None:
    pod = PodContext(
        "p1",
        str(uuid.uuid5(uuid.NAMESPACE_OID, str(run_dir))),
        run_dir,
        run_dir,
        Resources(),
        HypervisorConfig(),
        Boot(kernel, image, True, ()),
    )
    hypervisor = QemuHypervisor(pod, QemuConfig(), None)
    hypervisor.add_device(Channel("test", "test"))
    await hypervisor.prepare(60)
    print(json.dumps(dict(hypervisor.save())), flush=True)
    print((await hypervisor.wait()).reason, flush=True)
    await hypervisor.aclose()


asyncio.run(main(*map(Path, sys.argv[1:])))
