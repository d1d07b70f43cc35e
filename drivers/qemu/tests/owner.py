"""Owns the VM of pod "p1": python owner.py RUN_DIR KERNEL IMAGE. Prints what it saved once prepared, and waits."""

import asyncio
import json
import sys
from pathlib import Path

import script_pods

from vc_core.driver import Channel


async def main(run_dir: Path, kernel: Path, image: Path) -> None:
    hypervisor = script_pods.hypervisor(run_dir, kernel, image)
    hypervisor.add_device(Channel("test", "test"))
    await hypervisor.prepare(60)
    print(json.dumps(dict(hypervisor.save())), flush=True)
    print((await hypervisor.wait()).reason, flush=True)
    await hypervisor.aclose()


asyncio.run(main(*map(Path, sys.argv[1:])))
