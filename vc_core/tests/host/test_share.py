"""What a pod shares with its guest, without the mounts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from vc_core.errors import StorageError
from vc_core.host import mounts, share


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let the process have each umask in turn."""
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.fixture(autouse=True)
def bound(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, Path]]:
    """Note what would be bound, and bind nothing."""
    made: list[tuple[Path, Path]] = []
    monkeypatch.setattr(mounts, "bind", lambda source, target, *_: made.append((source, target)))
    monkeypatch.setattr(mounts, "mounted_below", lambda _: [])
    return made


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


@pytest.mark.usefixtures("umask")
def test_the_guest_can_read_what_is_shared_whatever_the_umask(tmp_path: Path, bound: list[tuple[Path, Path]]) -> None:
    source, directory = tmp_path / "source", tmp_path / "share"
    (source / "dir").mkdir(parents=True)
    (source / "file").touch()
    directory.mkdir(mode=0o700)
    assert share.bind_into(directory, "c1/rootfs", source / "dir") == "c1/rootfs"
    assert share.bind_into(directory, "c1/mounts/0", source / "file") == "c1/mounts/0"
    for name, wanted in (("c1", 0o755), ("c1/rootfs", 0o755), ("c1/mounts", 0o755), ("c1/mounts/0", 0o644)):
        assert mode(directory / name) == wanted
    assert bound == [(source / "dir", directory / "c1/rootfs"), (source / "file", directory / "c1/mounts/0")]
    assert mode(directory) == 0o700


def test_what_an_earlier_attempt_made_serves_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "share").mkdir()
    for _ in range(2):
        share.bind_into(tmp_path / "share", "c1/rootfs", tmp_path / "dir")
        share.bind_into(tmp_path / "share", "c1/mounts/0", Path(__file__))
    assert (tmp_path / "share/c1/rootfs").is_dir()
    assert (tmp_path / "share/c1/mounts/0").is_file()


def test_a_directory_that_cannot_be_made_is_an_error_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "share").write_text("no directory", encoding="utf-8")
    with pytest.raises(StorageError, match="cannot be shared with the guest: Not a directory"):
        share.bind_into(tmp_path / "share", "c1/rootfs", tmp_path)
