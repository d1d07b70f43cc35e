"""What several rows and sections need: a state root of their own, a bundle, the built guest."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from vc_core.config.pod import HypervisorConfig
from vc_core.driver.guest import GuestImage
from vc_core.store.roots import ROOT_VARIABLE, TEMPLATES_VARIABLE
from vc_core.testing import built_guest

HERE = Path(__file__).parent
VIRTC = str(Path(sys.executable).with_name("virtc"))

#: What runs the VMs of all measurements: the limits of the ratios hold for emulation, and KVM is not everywhere.
ACCELERATOR = "tcg"
EMULATED = HypervisorConfig(options={"accel": ACCELERATOR})

#: Whether a raw QEMU is started in a session of its own, as a pod's is: a busy Linux host shares its CPUs first among
#: sessions (sched(7), autogroup).
OWN_SESSION = True

#: The accelerator for the command line.
QEMU_OPTION = ("--hypervisor-option", f"accel={ACCELERATOR}")


class World:
    """The folder of one run, and what was made in it. ``bundle`` has busybox as its root file system."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bundle = folder / "bundle"

    @cached_property
    def image(self) -> GuestImage:
        """The guest of the agent hyperstart. It is built if it is not in the cache, which takes up to minutes."""
        return built_guest("hyperstart")

    @cached_property
    def bare_archive(self) -> Path:
        """The guest's initramfs with ``init.c`` as its /init and busybox appended; the kernel unpacks both."""
        top = self.folder / "bare"
        (top / "bin").mkdir(parents=True)
        (top / "dev").mkdir()
        subprocess.run(["musl-gcc", "-Os", "-static", "-w", "-o", str(top / "init"), str(HERE / "init.c")], check=True)
        shutil.copy(busybox(), top / "bin/busybox")
        names = "\n".join(str(path.relative_to(top)) for path in sorted(top.rglob("*")))
        archive = subprocess.run(
            ["cpio", "-o", "-H", "newc", "--owner=0:0", "--quiet"],
            cwd=top,
            input=names.encode(),
            capture_output=True,
            check=True,
        )
        target = self.folder / "bare.cpio"
        target.write_bytes(self.image.initramfs.read_bytes() + archive.stdout)
        return target

    def new_folder(self, name: str) -> Path:
        """Make a folder that no other call returns."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))

    @contextmanager
    def templates(self, *, made: bool = False) -> Iterator[None]:
        """Let pods start from templates that exist; rows that do not use this start each VM by booting it.

        ``made``: pods that find none make one behind them.
        """
        os.environ[TEMPLATES_VARIABLE] = "" if made else "existing"
        try:
            yield
        finally:
            os.environ[TEMPLATES_VARIABLE] = "off"


@contextmanager
def temporary_world() -> Iterator[World]:
    """Yield a world with a state root of its own, which this process and those that it starts use; remove it all."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    os.environ[ROOT_VARIABLE] = str(folder / "root")
    os.environ[TEMPLATES_VARIABLE] = "off"
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program has its modules compiled
    try:
        world = World(folder)
        bin_dir = world.bundle / "rootfs/bin"
        bin_dir.mkdir(parents=True)
        shutil.copy(busybox(), bin_dir / "busybox")
        for name in ("echo", "sleep", "true"):
            (bin_dir / name).symlink_to("busybox")
        yield world
    finally:
        shutil.rmtree(folder)


def busybox() -> str:
    return shutil.which("busybox") or "/bin/busybox"
