"""Size limits of mounts on a host without project quota; ``drivers/hyperstart/tests/guest`` has those with it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import vc_core as vc
from vc_core.errors import ConfigError
from vc_core.host import quota, sources
from vc_core.host.paths import Rules
from vc_core.store.roots import Roots


def limited(source: Path) -> vc.ContainerConfig:
    """Return a container with a limited mount."""
    mounts = [vc.Mount(str(source), "/mnt", False, size=1)]
    return vc.ContainerConfig(id="c", root_fs="/usr", cmd=vc.Cmd(args=["ls"]), mounts=mounts)


def refused_here(directory: Path) -> str:
    fd = os.open(directory, os.O_PATH)
    try:
        return quota.missing(fd)
    finally:
        os.close(fd)


@pytest.mark.root
def test_a_file_system_without_project_quota_is_named_with_what_to_do() -> None:
    why = refused_here(Path("/dev/shm"))  # a tmpfs, which has no project quota with any kernel
    assert "its file system (tmpfs) has no project quota switched on; use an xfs or ext4" in why


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_a_container_with_a_limit_that_cannot_be_set_is_not_created(tmp_path: Path, roots: Roots, kind: str) -> None:
    """A file cannot have one anywhere; a directory because the user is not root, or because nothing has quota here."""
    source = tmp_path / "source"
    source.touch() if kind == "file" else source.mkdir()
    if kind == "directory" and not refused_here(source):
        pytest.skip("the directory of the tests has project quota")
    with pytest.raises(ConfigError, match=f"^mount of container 'c': '{source}' .*leave the size out$"):
        sources.check_container(limited(source), Rules(roots))


@pytest.mark.root
def test_a_plain_user_cannot_limit_a_directory(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_PATH)
    os.seteuid(65534)
    try:
        assert "only root can set project quotas; leave the size out" in quota.missing(fd)
    finally:
        os.seteuid(0)
        os.close(fd)


def test_lifting_a_limit_that_was_never_set_changes_nothing(tmp_path: Path) -> None:
    quota.lift(limited(tmp_path / "missing"), "pod")
    (tmp_path / "file").write_text("kept", encoding="utf-8")
    quota.lift(limited(tmp_path), "pod")
    quota.lift(limited(tmp_path / "file"), "pod")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "kept"
