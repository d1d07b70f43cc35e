"""Where a container's root is: a directory, a bundle or a disk, recognised by its content."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from vc_core.config.container import ContainerConfig
from vc_core.errors import ConfigError
from vc_core.host import rootfs


def container(root_fs: Path | str, **fields: Any) -> ContainerConfig:
    return ContainerConfig(id="c", root_fs=str(root_fs), **fields)


def test_a_bundle_and_its_rootfs_mean_the_same(tmp_path: Path) -> None:
    (tmp_path / "rootfs/bin").mkdir(parents=True)
    for given in (tmp_path, tmp_path / "rootfs"):
        assert rootfs.resolve(container(given)) == rootfs.RootFs(tmp_path / "rootfs")


@pytest.mark.parametrize("kind", ["missing", "empty", "empty file", "text", "not given"])
def test_a_root_file_system_that_cannot_be_one_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "r"
    if kind == "empty":
        path.mkdir()
    elif kind == "empty file":
        path.touch()
    elif kind == "text":
        path.write_text("x" * 5000, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        rootfs.resolve(container("" if kind == "not given" else path))
    assert "rootfs of container 'c'" in str(caught.value)


@pytest.mark.needs("mke2fs")
def test_an_ext4_disk_is_recognised_by_its_first_bytes(tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    with disk.open("wb") as file:
        file.truncate(8 << 20)
    subprocess.run(["/sbin/mke2fs", "-q", "-t", "ext4", disk], check=True, capture_output=True)
    (tmp_path / "link").symlink_to(disk)
    assert rootfs.resolve(container(tmp_path / "link")) == rootfs.RootFs(disk, "ext4")


@pytest.mark.parametrize(
    ("fstype", "offset", "begins"),
    [("squashfs", 0, b"hsqs"), ("xfs", 0, b"XFSB"), ("erofs", 1024, (0xE0F5E1E2).to_bytes(4, "little"))],
)
def test_disks_of_other_formats_are_recognised(tmp_path: Path, fstype: str, offset: int, begins: bytes) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(offset) + begins + bytes(4096))
    assert rootfs.resolve(container(disk)).fstype == fstype


def test_only_a_disk_can_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    with pytest.raises(ConfigError, match="writable_root_fs is for disks only"):
        rootfs.resolve(container(tmp_path, writable_root_fs=True))
