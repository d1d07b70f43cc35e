"""Fixtures: a guest that does nothing, and one that answers on its first channel."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from vc_core.driver import Boot, HypervisorConfig, PodContext, Resources, initramfs
from vc_hypervisor_uml import package

BUSYBOX = Path("/bin/busybox")

_DEVICES = "/bin/busybox mount -t devtmpfs dev /dev"


def pytest_configure(config: pytest.Config) -> None:
    """Name the marks of these tests for a run of them alone, outside of the repository that acts on them."""
    for mark in ("vm(hypervisor): boots a kernel", "root: needs root", "needs(name, ...): needs these programs"):
        config.addinivalue_line("markers", mark)


@pytest.fixture(scope="session")
def booting(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Boot]:
    """Return a function that makes a guest whose first process is a shell script; it may have a file ``/program``."""
    kernel = package.find_kernel()
    top = tmp_path_factory.mktemp("boot")
    shutil.copy(kernel, top / "linux")

    def booting(script: str, program: Path | None = None) -> Boot:
        image = top / f"initramfs{len(list(top.iterdir()))}"
        files = {
            "/init": initramfs.file_entry(f"#!/bin/busybox sh\n{_DEVICES}\n{script}\n".encode(), executable=True),
            "/bin/busybox": initramfs.file_entry(BUSYBOX.read_bytes(), executable=True),
            "/dev": initramfs.Entry(0o040755),
            "/proc": initramfs.Entry(0o040755),
        }
        if program is not None:
            files["/program"] = initramfs.file_entry(program.read_bytes(), executable=True)
        image.write_bytes(b"".join(initramfs.pack(files)))
        return Boot(top / "linux", image, True, ())

    return booting


@pytest.fixture
def pod(tmp_path: Path) -> PodContext:
    """Return a pod that boots nothing yet."""
    run_dir = tmp_path / "run"
    (run_dir / "share").mkdir(parents=True)
    return PodContext("p1", "", run_dir, run_dir / "share", Resources(memory=128), HypervisorConfig())
