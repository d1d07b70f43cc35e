"""Fixtures: pods for QEMU, of which some only prepare a VM that is never started, and some boot a guest."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from needs import require

sys.path.insert(0, str(Path(__file__).parent))  # what the test modules share is no package of its own

from vc_core.driver import Boot, GuestImage, GuestPayload, HypervisorConfig, PodContext, Resources, read_options
from vc_core.testing import built_guest
from vc_hypervisor_qemu.config import QemuConfig
from vc_hypervisor_qemu.hypervisor import QemuHypervisor

MakeHypervisor = Callable[..., QemuHypervisor]
Owner = Callable[[Boot], tuple[subprocess.Popen[bytes], dict[str, Any]]]

#: Kernel modules that the test guest needs: ports of virtio-serial, shares over 9p, disks, network.
MODULES = ("virtio_console", "9pnet_virtio", "9p", "virtio_blk", "virtio_scsi", "sd_mod", "virtio_net")


@pytest.fixture(scope="session")
def unbootable(tmp_path_factory: pytest.TempPathFactory) -> Boot:
    """A kernel and initramfs that QEMU loads but cannot run; the VM must not be started."""
    directory = tmp_path_factory.mktemp("unbootable")
    kernel = bytearray(8192)
    kernel[0x1F1] = 1  # sectors of set-up code
    kernel[0x1FE:0x200] = b"\x55\xaa"
    kernel[0x202:0x206] = b"HdrS"
    kernel[0x206:0x208] = (0x20C).to_bytes(2, "little")  # version of the boot protocol
    kernel[0x211] = 1  # loaded high
    kernel[0x22C:0x230] = (0x7FFFFFFF).to_bytes(4, "little")  # highest address of the initramfs
    kernel[0x238:0x23C] = (2047).to_bytes(4, "little")  # longest command line
    (directory / "kernel").write_bytes(kernel)
    (directory / "initramfs").write_bytes(b"070701")
    return Boot(directory / "kernel", directory / "initramfs", True, ())


@pytest.fixture
def disk(tmp_path: Path, unbootable: Boot) -> Boot:
    """The same kernel with a disk that begins with a line of text."""
    image = tmp_path / "a, b.img"
    image.write_bytes(b"hello from the disk\n".ljust(4 << 20, b"\0"))
    return Boot(unbootable.kernel, image, False, ("root=/dev/vda",))


@pytest.fixture
def make(tmp_path: Path, unbootable: Boot) -> MakeHypervisor:
    """Make the hypervisor object of pod "p1", whose run directory is there."""
    require("qemu")

    def make(
        boot: Boot | None = unbootable,
        options: dict[str, str] | None = None,
        saved: Any = None,
        resources: Resources | None = None,
        run_dir: Path = tmp_path / "run" / "p1",
        **config: Any,
    ) -> QemuHypervisor:
        run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        pod = PodContext(
            id="p1",
            uuid=str(uuid.uuid5(uuid.NAMESPACE_OID, str(run_dir))),
            run_dir=run_dir,
            share_dir=run_dir / "share",
            resources=resources or Resources(),
            hypervisor_config=HypervisorConfig(**config),
            boot=boot,
        )
        return QemuHypervisor(pod, read_options(QemuConfig, options or {}, "hypervisor qemu"), saved)

    return make


@pytest.fixture(scope="session")
def guest(tmp_path_factory: pytest.TempPathFactory) -> GuestImage:
    """The Debian guest with a small program as init, which answers on the channel "test" (guest_init.c)."""
    require("musl-gcc")
    init = tmp_path_factory.mktemp("guest") / "init"
    source = Path(__file__).with_name("guest_init.c")
    subprocess.run(["musl-gcc", "-static", "-Os", "-Wall", "-Werror", "-s", "-o", init, source], check=True)
    return built_guest("qemu-driver-test", GuestPayload(files={"/init": str(init)}, modules=MODULES))


@pytest.fixture(scope="session")
def guest_boot(guest: GuestImage) -> Boot:
    """What a pod of that guest boots."""
    return Boot(guest.kernel, guest.initramfs, True, guest.kernel_params)


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    """Let another process make pod "p1" with the channel "test" (owner.py); return it with what it saved."""
    children = []

    def start(boot: Boot) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
        run_dir = tmp_path / "run" / "p1"
        run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        script = Path(__file__).with_name("owner.py")
        child = subprocess.Popen(
            [sys.executable, script, run_dir, boot.kernel, boot.image], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        children.append(child)
        assert child.stdout is not None
        return child, json.loads(child.stdout.readline())

    yield start
    for child in children:
        with child:
            child.kill()
