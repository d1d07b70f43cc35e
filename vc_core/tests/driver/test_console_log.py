"""Logs of consoles and hypervisors stay below their capacity, and a quote of them is harmless to a terminal."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from vc_core.driver.console_log import ConsoleLog, discard, tail


def feed(path: Path, data: bytes, capacity: int = 1000) -> None:
    """Send data through a pipe in pieces of 100 bytes, and copy all of it to a log."""

    async def run() -> None:
        reading, writing = os.pipe()
        log = ConsoleLog(path, capacity)
        try:
            log.start(reading)
            for start in range(0, len(data), 100):
                os.write(writing, data[start : start + 100])
                log.drain()
        finally:
            os.close(writing)
            log.drain()
            log.close()

    asyncio.run(run())


def test_a_log_holds_what_was_written_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    feed(tmp_path / "log", b"first\nlast\n")
    assert (tmp_path / "log").read_bytes() == b"first\nlast\n"
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_output_is_written_to_the_file_unchanged(tmp_path: Path) -> None:
    async def run() -> None:
        reading, writing = os.pipe()
        log = ConsoleLog(tmp_path / "log")
        log.start(reading)
        os.write(writing, b"now")
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # the loop has looked at its descriptors once
        assert (tmp_path / "log").read_bytes() == b"now"
        os.close(writing)
        log.close()

    asyncio.run(run())


def test_of_more_output_than_the_capacity_the_log_keeps_the_end(tmp_path: Path) -> None:
    data = b"".join(b"%09d\n" % number for number in range(10_000))
    feed(tmp_path / "log", data)
    kept = (tmp_path / "log.1").read_bytes() + (tmp_path / "log").read_bytes()
    assert data.endswith(kept)
    assert 500 <= len(kept) <= 1000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1"]


def test_a_second_owner_appends_to_the_log(tmp_path: Path) -> None:
    feed(tmp_path / "log", b"one\n")
    feed(tmp_path / "log", b"two\n")
    assert tail(tmp_path / "log", 5) == "one\ntwo"


def test_the_tail_spans_both_files(tmp_path: Path) -> None:
    feed(tmp_path / "log", b"".join(b"%09d\n" % number for number in range(75)))
    assert tail(tmp_path / "log", 60).splitlines() == [f"{number:09}" for number in range(15, 75)]


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        (b"\n\n  a \r\n\n", "a"),
        (b"\x1b[31mred\x1b[0m\x07\x00", "red"),
        (b"a\tb", "a b"),
        ("\u202eevil\u2066 café\u009b".encode(), "evil café"),
        (b"a\xff\xfeb", "ab"),
        (b"", ""),
    ],
)
def test_the_tail_holds_nothing_that_a_terminal_executes(tmp_path: Path, output: bytes, shown: str) -> None:
    (tmp_path / "log").write_bytes(output)
    assert tail(tmp_path / "log", 5) == shown


def test_the_tail_of_a_missing_log_is_empty(tmp_path: Path) -> None:
    assert tail(tmp_path / "log", 5) == ""


def test_a_link_in_the_place_of_a_log_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious", encoding="utf-8")
    (tmp_path / "log").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="not a regular file"):
        feed(tmp_path / "log", b"x")
    discard(tmp_path / "log")
    assert (tmp_path / "precious").read_text(encoding="utf-8") == "precious"
