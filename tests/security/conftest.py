"""The pods that the tests of this directory attack: one of each kind for all of them."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import vc_core as vc
from needs import require
from vc_core.store.roots import ROOT_VARIABLE, Roots
from vc_core.store.store import Store

from .attacked_pod import Posture


def _make_rootfs(rootfs: Path) -> None:
    """Make a root file system as an unpacked image has it: with links to directories, and to programs."""
    busybox = str(shutil.which("busybox"))
    (rootfs / "usr/bin").mkdir(parents=True)
    (rootfs / "bin").symlink_to("usr/bin")
    shutil.copy(busybox, rootfs / "bin/busybox")
    for applet in subprocess.run([busybox, "--list"], capture_output=True, encoding="utf-8", check=True).stdout.split():
        if applet != "busybox":
            (rootfs / "bin" / applet).symlink_to("busybox")
    (rootfs / "secret").write_text("of root", encoding="utf-8")
    (rootfs / "secret").chmod(0o600)


@pytest.fixture(scope="session")
def posture() -> Iterator[Posture]:
    """Return the pod "posture". Other users can reach its directories' parent, which they cannot in pytest's own."""
    require("busybox")
    with tempfile.TemporaryDirectory(prefix="vc-attacked-") as name:
        top = Path(name)
        top.chmod(0o755)
        _make_rootfs(top / "bundle/rootfs")
        for source in ("reading", "writing"):
            (top / source).mkdir()
            (top / source / "link").symlink_to("/etc/passwd")
        container = vc.ContainerConfig(
            id="c1",
            root_fs=str(top / "bundle"),
            cmd=vc.Cmd(args=["sleep", "100000"]),
            mounts=[
                vc.Mount(str(top / "reading"), "/reading"),
                vc.Mount(str(top / "writing"), "/writing", read_only=False),
            ],
        )
        with _roots_in(top):
            vc.run_pod(vc.PodConfig(id="posture", hypervisor_type="qemu", containers=[container], strict=True))
            roots = Roots.from_environment()
        try:
            vm = Store(roots).read("posture").vm
            assert vm is not None
            yield Posture(top, roots.pod_run_dir("posture"), int(vm["pid"]))
        finally:
            with _roots_in(top):
                vc.delete_pod("posture", force=True)


@contextmanager
def _roots_in(top: Path) -> Iterator[None]:
    """Use the roots in a directory, with a secret in the environment, and only here: other tests follow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ROOT_VARIABLE, str(top / "root"))
        patch.setenv("SECRET_TOKEN", "hush")
        yield


@pytest.fixture
def attacked(posture: Posture, monkeypatch: pytest.MonkeyPatch) -> Posture:
    """Return the pod "posture", with the roots that it is in."""
    monkeypatch.setenv(ROOT_VARIABLE, str(posture.top / "root"))
    return posture
