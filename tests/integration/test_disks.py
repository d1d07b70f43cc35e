"""Containers whose roots are disks."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vc_core as vc
from needs import require

from .conftest import pod_config, supervisors, virtc

pytestmark = [pytest.mark.vm, pytest.mark.root]

_MAKERS = {
    "ext4": ["/sbin/mke2fs", "-q", "-t", "ext4", "-d", "{root}", "{disk}", "16m"],
    "squashfs": ["mksquashfs", "{root}", "{disk}", "-quiet", "-no-progress"],
    "erofs": ["mkfs.erofs", "{disk}", "{root}"],
    "xfs": ["mkfs.xfs", "-q", "-d", "name={disk},size=300m,file=1", "-p", "{disk}.proto"],  # no smaller one is made
}


@pytest.fixture(scope="module")
def disks(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the bundle's root as a disk of each kind."""
    require("mke2fs", "mksquashfs", "mkfs.erofs", "mkfs.xfs")
    top = tmp_path_factory.mktemp("disks")
    made = {}
    (top / "xfs.proto").write_text(f"/\n0 0\n{_prototype(bundle / 'rootfs')}", encoding="utf-8")
    for fstype, command in _MAKERS.items():
        made[fstype] = top / fstype
        argv = [word.format(root=bundle / "rootfs", disk=made[fstype]) for word in command]
        subprocess.run(argv, check=True, capture_output=True)
    return made


def _prototype(path: Path, name: str = "") -> str:
    """Return the lines of mkfs.xfs(8), option ``-p``, for a file, link or directory with all below it."""
    mode = path.lstat().st_mode
    if path.is_symlink():
        return f"{name} l--777 0 0 {path.readlink()}\n"
    if path.is_dir():
        below = "".join(_prototype(one, one.name) for one in path.iterdir())
        return f"{name} d--{mode & 0o777:o} 0 0\n{below}$\n".lstrip()
    return f"{name} ---{mode & 0o777:o} 0 0 {path}\n"


def container(container_id: str, disk: Path, **fields: Any) -> vc.ContainerConfig:
    return vc.ContainerConfig(id=container_id, root_fs=str(disk), cmd=vc.Cmd(args=["sleep", "100000"]), **fields)


@pytest.fixture(scope="module")
def disk_pod(disks: dict[str, Path], root: Path) -> Iterator[vc.Pod]:
    made = vc.run_pod(pod_config(id="disks", containers=[container("first", disks["ext4"])]))
    yield made
    made.delete(force=True)


def sh(where: vc.Container, script: str) -> vc.ExecResult:
    return where.enter(vc.Cmd(args=["sh", "-c", script]))


def test_a_container_starts_with_its_pod_on_a_disk_and_writes_to_a_layer_in_the_guest(
    disk_pod: vc.Pod, disks: dict[str, Path]
) -> None:
    before = disks["ext4"].read_bytes()
    first = disk_pod.container("first")
    assert sh(first, "rm /bin/ls; echo x >/etc/new; cat /etc/new").stdout == b"x\n"
    assert b"overlay / " in sh(first, "cat /proc/mounts").stdout
    assert disks["ext4"].read_bytes() == before


@pytest.mark.hypervisors("qemu", "libvirt")  # uml is given no disks while it runs
@pytest.mark.parametrize("fstype", _MAKERS)
def test_a_disk_of_each_kind_joins_a_pod_that_runs_and_leaves_it(
    disk_pod: vc.Pod, disks: dict[str, Path], fstype: str
) -> None:
    for _ in range(2):
        made = disk_pod.create_container(container("later", disks[fstype]))
        made.start()
        assert sh(made, "cat /etc/group").stdout == b"root:x:0:\nbob:x:1000:\n"
        made.stop(force=True)
        made.start()
        made.delete(force=True)


@pytest.mark.hypervisors("qemu", "libvirt")  # uml is given no disks while it runs
def test_a_disk_that_is_written_to_keeps_what_was_written(
    disk_pod: vc.Pod, disks: dict[str, Path], tmp_path: Path
) -> None:
    disk = tmp_path / "own"
    disk.write_bytes(disks["ext4"].read_bytes())
    for expected in (b"", b"once\n"):
        made = disk_pod.create_container(container("own", disk, writable_root_fs=True))
        made.start()
        assert sh(made, "cat /etc/log 2>/dev/null; echo once >>/etc/log").stdout == expected
        made.delete(force=True)
    assert subprocess.run(["/sbin/e2fsck", "-fn", disk], capture_output=True).returncode == 0


@pytest.mark.hypervisors("qemu", "libvirt")  # uml is given no disks while it runs
def test_a_read_only_root_on_a_disk_cannot_be_written(disk_pod: vc.Pod, disks: dict[str, Path]) -> None:
    made = disk_pod.create_container(container("fixed", disks["ext4"], read_only=True))
    made.start()
    assert b"Read-only file system" in sh(made, "touch /x").stderr
    made.delete(force=True)


@pytest.mark.hypervisors("qemu", "libvirt")  # uml is given no disks while it runs
def test_a_supervisor_that_takes_over_finds_the_disks(disks: dict[str, Path]) -> None:
    config = pod_config(id="taken", containers=[container("first", disks["ext4"])])
    with vc.run_pod(config) as pod:
        made = pod.create_container(container("later", disks["squashfs"]))
        made.start()
        for pid in supervisors("taken"):
            os.kill(pid, signal.SIGKILL)
        assert sh(made, "cat /etc/group").stdout.startswith(b"root")
        made.delete(force=True)
        again = pod.create_container(container("later", disks["ext4"]))
        again.start()
        assert sh(again, "cat /etc/group").stdout.startswith(b"root")


def test_a_file_that_is_no_disk_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("x" * 10000, encoding="utf-8")
    done = virtc("pod", "run", "--bundle", str(tmp_path / "text"), "--", "true")
    assert done.returncode == 1
    assert b"neither a directory nor a disk" in done.stderr
