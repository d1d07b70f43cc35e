"""Which host paths a guest may not see, or not write to."""

from __future__ import annotations

from pathlib import Path

import pytest

import vc_core as vc
from vc_core.errors import ConfigError
from vc_core.host import paths
from vc_core.store.roots import Roots


def config(root_fs: Path, source: str, read_only: bool = True) -> vc.ContainerConfig:
    mount = vc.Mount(source, "/mnt", read_only)
    return vc.ContainerConfig(id="c", root_fs=str(root_fs), cmd=vc.Cmd(args=["ls"]), mounts=[mount])


@pytest.fixture
def root_fs(tmp_path: Path) -> Path:
    (tmp_path / "rootfs/bin").mkdir(parents=True)
    return tmp_path / "rootfs"


@pytest.mark.parametrize("source", ["/", "/proc", "/proc/self", "/sys/kernel", "/dev", "/dev/null", "/dev/shm/.."])
@pytest.mark.parametrize("read_only", [True, False])
def test_interfaces_of_the_kernel_are_never_shown(root_fs: Path, roots: Roots, source: str, read_only: bool) -> None:
    with pytest.raises(ConfigError, match="mount of container 'c'"):
        paths.check_container(config(root_fs, source, read_only), roots)


@pytest.mark.parametrize("source", ["/etc", "/usr/bin", "/boot"])
def test_what_the_host_runs_on_may_be_read_but_not_written(root_fs: Path, roots: Roots, source: str) -> None:
    paths.check_container(config(root_fs, source), roots)
    with pytest.raises(ConfigError, match="never written by a guest"):
        paths.check_container(config(root_fs, source, read_only=False), roots)


def test_a_link_does_not_hide_where_it_leads(root_fs: Path, roots: Roots, tmp_path: Path) -> None:
    (tmp_path / "harmless").symlink_to("/")
    with pytest.raises(ConfigError, match="never shown to a guest"):
        paths.check_container(config(root_fs, str(tmp_path / "harmless")), roots)


def test_our_own_state_is_never_shown_nor_what_holds_it(root_fs: Path, roots: Roots, tmp_path: Path) -> None:
    for path in (roots.state, roots.run / "pods"):
        path.mkdir(parents=True, exist_ok=True)
    for source in (roots.state, roots.run / "pods", tmp_path):
        with pytest.raises(ConfigError, match="never shown to a guest"):
            paths.check_container(config(root_fs, str(source)), roots)


def test_what_is_not_there_is_named(root_fs: Path, roots: Roots, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nope"):
        paths.check_container(config(root_fs, str(tmp_path / "nope")), roots)
