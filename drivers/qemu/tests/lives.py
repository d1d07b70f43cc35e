"""Starts and ends VMs of pod "p1" in a row: python lives.py COUNT RUN_DIR KERNEL IMAGE.

After each, prints the numbers of descriptors and threads that this process has, and its bytes of memory.
"""

import asyncio
import ctypes
import gc
import json
import sys
import threading
from pathlib import Path

import script_pods

from vc_hypervisor_qemu.hypervisor import QemuHypervisor

#: PR_SET_THP_DISABLE of Linux (linux/prctl.h): where huge pages are for all, the kernel makes one of few small pages.
_NO_HUGE_PAGES = 41


async def main(count: int, run_dir: Path, kernel: Path, image: Path) -> None:
    assert ctypes.CDLL(None).prctl(_NO_HUGE_PAGES, 1, 0, 0, 0) == 0
    for _ in range(count):
        await live(script_pods.hypervisor(run_dir, kernel, image))
        gc.collect()  # what is only garbage is not left
        print(json.dumps([len(list(Path("/proc/self/fd").iterdir())), threading.active_count(), memory()]), flush=True)


async def live(hypervisor: QemuHypervisor) -> None:
    await hypervisor.prepare(60)
    await hypervisor.stop(10)
    await hypervisor.aclose()


def memory() -> int:
    """Return the bytes that are this process' own: those of files come and go as the host needs memory (proc(5))."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(int(size) << 10 for name, size, *_ in map(str.split, lines) if name in ("Anonymous:", "Swap:"))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), *map(Path, sys.argv[2:])))
