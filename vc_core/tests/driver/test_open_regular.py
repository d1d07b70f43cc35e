"""Whatever was planted in the place of a file, opening it ends at once."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vc_core.driver import open_regular, read_regular


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


PLANTED: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "link to a file": lambda path: path.symlink_to(path.with_name("precious")),
    "link to nothing": lambda path: path.symlink_to(path.with_name("nothing")),
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "socket": _socket,
}

MODES = {
    "read": os.O_RDONLY,
    "write": os.O_WRONLY | os.O_CREAT,
    "append": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    "truncate": os.O_RDWR | os.O_CREAT | os.O_TRUNC,
}


@pytest.fixture(params=PLANTED)
def planted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "precious").write_text("precious", encoding="utf-8")
    PLANTED[request.param](tmp_path / "file")
    yield tmp_path / "file"
    assert (tmp_path / "precious").read_text(encoding="utf-8") == "precious"
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("flags", MODES.values(), ids=MODES)
def test_anything_but_a_regular_file_is_an_error_that_says_so(planted: Path, flags: int) -> None:
    with pytest.raises(OSError, match="not a regular file; remove it") as caught:
        open_regular(planted, flags)
    assert caught.value.errno == errno.EINVAL


def test_a_pipe_with_a_reader_is_refused_for_writing_too(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "file")
    reader = os.open(tmp_path / "file", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(OSError, match="not a regular file"):
            open_regular(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    finally:
        os.close(reader)


def test_a_new_file_is_its_owners_alone_and_is_not_inherited(tmp_path: Path) -> None:
    fd = open_regular("file", os.O_WRONLY | os.O_CREAT | os.O_EXCL, dir_fd=(folder := os.open(tmp_path, os.O_RDONLY)))
    os.close(folder)
    try:
        os.write(fd, b"content")
        assert os.fstat(fd).st_mode & 0o777 == 0o600
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)
    assert read_regular(tmp_path / "file", 4, 3) == b"tent"


def test_a_file_that_the_caller_chose_may_be_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"content")
    (tmp_path / "file").symlink_to("target")
    assert read_regular(tmp_path / "file", 100, follow=True) == b"content"
