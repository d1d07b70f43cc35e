"""Output of consoles and hypervisors, kept within bounds."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from vc_core.driver.capture import Capture, discard, tail


def feed(path: Path, data: bytes, capacity: int = 1000) -> None:
    """Send data through a pipe in pieces of 100 bytes, and let a capture take it to the end."""

    async def run() -> None:
        reading, writing = os.pipe()
        capture = Capture(path, capacity)
        try:
            capture.start(reading)
            for start in range(0, len(data), 100):
                os.write(writing, data[start : start + 100])
                capture.drain()
        finally:
            os.close(writing)
            capture.drain()
            capture.close()

    asyncio.run(run())


def test_what_comes_is_kept(tmp_path: Path) -> None:
    feed(tmp_path / "log", b"first\nlast\n")
    assert (tmp_path / "log").read_bytes() == b"first\nlast\n"
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_it_is_taken_as_it_comes(tmp_path: Path) -> None:
    async def run() -> None:
        reading, writing = os.pipe()
        capture = Capture(tmp_path / "log")
        capture.start(reading)
        os.write(writing, b"now")
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # the loop has looked at its descriptors once
        assert (tmp_path / "log").read_bytes() == b"now"
        os.close(writing)
        capture.close()

    asyncio.run(run())


def test_a_flood_leaves_its_end_within_the_capacity(tmp_path: Path) -> None:
    data = b"".join(b"%09d\n" % number for number in range(10_000))
    feed(tmp_path / "log", data)
    kept = (tmp_path / "log.1").read_bytes() + (tmp_path / "log").read_bytes()
    assert data.endswith(kept)
    assert 500 <= len(kept) <= 1000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1"]


def test_a_second_owner_appends(tmp_path: Path) -> None:
    feed(tmp_path / "log", b"one\n")
    feed(tmp_path / "log", b"two\n")
    assert tail(tmp_path / "log", 5) == "one\ntwo"


def test_the_tail_spans_both_files(tmp_path: Path) -> None:
    feed(tmp_path / "log", b"".join(b"%09d\n" % number for number in range(75)))
    assert tail(tmp_path / "log", 60).splitlines() == [f"{number:09}" for number in range(15, 75)]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (b"\n\n  a \r\n\n", "a"),
        (b"\x1b[31mred\x1b[0m\x07\x00", "red"),
        (b"a\tb", "a b"),
        ("\u202eevil\u2066 café\u009b".encode(), "evil café"),
        (b"a\xff\xfeb", "ab"),
        (b"", ""),
    ],
)
def test_the_tail_is_fit_for_a_terminal(tmp_path: Path, said: bytes, shown: str) -> None:
    (tmp_path / "log").write_bytes(said)
    assert tail(tmp_path / "log", 5) == shown


def test_the_tail_of_nothing_is_empty(tmp_path: Path) -> None:
    assert tail(tmp_path / "log", 5) == ""


def test_a_link_in_the_place_of_a_log_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious", encoding="utf-8")
    (tmp_path / "log").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic link"):
        feed(tmp_path / "log", b"x")
    discard(tmp_path / "log")
    assert (tmp_path / "precious").read_text(encoding="utf-8") == "precious"
