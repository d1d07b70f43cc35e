"""What a pod shares with its guest, without the mounts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vc_core.errors import StorageError
from vc_core.host import mounts, share
from vc_core.host.sources import Source


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let the process have each umask in turn."""
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.fixture(autouse=True)
def bound(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Note what would be bound, and bind nothing."""
    made: list[Path] = []
    monkeypatch.setattr(mounts, "bind", lambda source, target, flags, users: made.append(target))
    monkeypatch.setattr(mounts, "mounted_in", lambda *_: [])
    monkeypatch.setattr(mounts, "writable", open_directory)
    return made


@contextmanager
def open_directory(path: Path) -> Iterator[int]:
    """Yield a descriptor of a directory, in the place of one that is mounted read-only."""
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def opened(path: Path) -> Source:
    return Source("the test", str(path))


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


@pytest.mark.usefixtures("umask")
def test_the_guest_can_read_what_is_shared_whatever_the_umask(tmp_path: Path, bound: list[Path]) -> None:
    source, directory = tmp_path / "source", tmp_path / "share"
    (source / "dir").mkdir(parents=True)
    (source / "file").touch()
    directory.mkdir(mode=0o700)
    assert share.bind_into(directory, "c1/rootfs", opened(source / "dir")) == "c1/rootfs"
    assert share.bind_into(directory, "c1/mounts/0", opened(source / "file")) == "c1/mounts/0"
    for name, wanted in (("c1", 0o755), ("c1/rootfs", 0o755), ("c1/mounts", 0o755), ("c1/mounts/0", 0o644)):
        assert mode(directory / name) == wanted
    assert bound == [directory / "c1/rootfs", directory / "c1/mounts/0"]
    assert mode(directory) == 0o700


def test_what_an_earlier_attempt_made_serves_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "share").mkdir()
    for _ in range(2):
        share.bind_into(tmp_path / "share", "c1/rootfs", opened(tmp_path / "dir"))
        share.bind_into(tmp_path / "share", "c1/mounts/0", opened(Path(__file__)))
    assert (tmp_path / "share/c1/rootfs").is_dir()
    assert (tmp_path / "share/c1/mounts/0").is_file()


def test_a_directory_that_cannot_be_made_is_an_error_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "share").write_text("no directory", encoding="utf-8")
    with pytest.raises(StorageError, match="cannot be shared with the guest: Not a directory"):
        share.bind_into(tmp_path / "share", "c1/rootfs", opened(tmp_path))
