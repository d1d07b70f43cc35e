"""Containers' logs, and the rotating files that they and consoles are kept in."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vc_core.driver.console_log import ConsoleLog
from vc_core.driver.rotating import RotatedReader, RotatingFile
from vc_core.engine.logs import RESERVE, ContainerLog
from vc_core.errors import StorageError
from vc_core.store.container_log import LogReader


@contextmanager
def refused(monkeypatch: pytest.MonkeyPatch, function: str, number: int = errno.EMFILE) -> Iterator[None]:
    """Let a function of ``os`` fail within the block."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        yield


@pytest.mark.parametrize("function", ["open", "rename"])
def test_a_log_whose_rotation_fails_never_writes_into_a_descriptor_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    log = ContainerLog(tmp_path / "output.log", cap=200)
    log.write(b"x" * 90)
    with refused(monkeypatch, function):
        log.write(b"y" * 90)
    number = os.memfd_create("a stranger's, under the lowest free number")
    for _ in range(3):
        log.write(b"z" * 90)
    log.close()
    assert os.fstat(number).st_size == 0
    os.close(number)
    assert (tmp_path / "output.log").read_bytes() == b"z" * 90


@pytest.mark.parametrize("function", ["open", "rename"])
def test_a_file_whose_rotation_fails_rotates_with_the_next_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    path = tmp_path / "log"
    file = RotatingFile(path, 20)
    file.append(b"first ten.")
    for _ in range(2):
        with refused(monkeypatch, function), pytest.raises(OSError, match="Too many open files"):
            file.make_room(5)
    file.make_room(5)
    file.append(b"after")
    file.close()
    assert (path.read_bytes(), path.with_name("log.1").read_bytes()) == (b"after", b"first ten.")


def test_a_rotating_file_that_is_closed_opens_nothing_more(tmp_path: Path) -> None:
    file = RotatingFile(tmp_path / "log", 20)
    file.append(b"first ten.")
    file.close()
    file.close()
    file.make_room(5)
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.append(b"after")
    assert (tmp_path / "log").read_bytes() == b"first ten."


@pytest.mark.parametrize("function", ["open", "rename", "write", "pwrite"])
def test_output_that_a_log_lost_is_counted_as_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    path = tmp_path / "output.log"
    log = ContainerLog(path, cap=200)
    log.write(b"x" * 90, 0)
    with refused(monkeypatch, function, errno.ENOSPC):
        log.write(b"y" * 80, 0)
    log.write(b"z" * 70, 0)
    log.close()
    after = ContainerLog(path, cap=200, resumed=True)
    assert after.taken == (240, 0)
    after.close()


def test_a_log_says_how_many_bytes_the_disk_refused_once_it_takes_some_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "output.log"
    log = ContainerLog(path)
    log.write(b"before\n", 0)
    with refused(monkeypatch, "write", errno.ENOSPC):
        log.write(b"x" * 80, 0)
        log.write(b"y" * 20, 1)
    log.write(b"after\n", 1)
    log.close()
    line = b"[virtcontainers: 100 bytes of output are missing here: the disk did not take them]\n"
    assert path.read_bytes() == b"before\n" + line + b"after\n"
    resumed = ContainerLog(path, resumed=True)
    assert resumed.taken == (87, 26)
    resumed.close()


def test_a_log_leaves_the_last_space_of_the_disk_to_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real = tmp_path / "output.log", os.fstatvfs(0)
    full = os.statvfs_result([*real[:4], RESERVE // real.f_frsize, *real[5:]])
    log = ContainerLog(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstatvfs", lambda _: full)
        log.write(b"x", 0)
        assert path.read_bytes() == b""
        log.close()


def test_a_death_after_half_a_rotation_repeats_nothing_of_what_is_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "output.log"
    log = ContainerLog(path, cap=200)
    log.write(b"x" * 90, 0)

    def die(*_: object, **__: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", die)
        with pytest.raises(SystemExit):
            log.write(b"y" * 80, 0)  # renamed, but no new file
    log.close()
    after = ContainerLog(path, cap=200, resumed=True)
    assert after.taken == (90, 0)
    after.write(b"z", 1)
    after.close()
    last = ContainerLog(path, cap=200, resumed=True)
    assert last.taken == (90, 1)
    last.close()


def test_who_reads_a_rotating_file_gets_all_that_it_still_holds_and_each_byte_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    file, reader = RotatingFile(path, 100), RotatedReader(path)
    assert list(reader.read()) == []
    for number in range(40):
        file.make_room(4)
        file.append(b"%04d" % number)
        if number >= 20:
            data = b"".join(reader.read())
            first = int(data[:4])
            assert data == b"".join(b"%04d" % one for one in range(first, number + 1))
            assert first <= 12 if number == 20 else first == number
    file.close()
    reader.close()


def test_what_is_typed_on_a_console_reaches_the_other_end_whole(tmp_path: Path) -> None:
    typed = os.urandom(3_000_000)  # more than a socket holds

    async def run() -> bytes:
        ours, theirs = socket.socketpair()
        log = ConsoleLog(tmp_path / "log")
        log.start(ours.detach())
        sending = asyncio.create_task(log.send(typed))
        received = await asyncio.to_thread(read_all, theirs)
        await sending
        log.close()
        with pytest.raises(BrokenPipeError):
            await log.send(b"after the end")
        theirs.close()
        return received

    def read_all(sock: socket.socket) -> bytes:
        data = b""
        while len(data) < len(typed):
            data += sock.recv(65536)
        return data

    assert asyncio.run(run()) == typed


@pytest.mark.parametrize("function", ["open", "mkdir"])
def test_a_log_that_cannot_be_opened_is_an_error_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    with refused(monkeypatch, function, errno.ENOSPC), pytest.raises(StorageError, match="No space left"):
        ContainerLog(tmp_path / "c1/output.log")


def test_a_log_whose_second_file_cannot_be_opened_keeps_no_descriptor(tmp_path: Path) -> None:  # the census counts
    (tmp_path / "output.log").mkdir()
    with pytest.raises(StorageError, match="Is a directory"):
        ContainerLog(tmp_path / "output.log")


def test_a_log_that_is_closed_takes_nothing_more(tmp_path: Path) -> None:
    log = ContainerLog(tmp_path / "output.log", cap=20)
    log.write(b"first ten.", 0)
    log.close()
    log.close()
    log.write(b"after", 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["output.log", "output.log.index"]


def test_a_link_in_the_place_of_a_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious", encoding="utf-8")
    (tmp_path / "output.log").symlink_to(tmp_path / "precious")
    with pytest.raises(StorageError, match="not a regular file"):
        ContainerLog(tmp_path / "output.log")
    assert (tmp_path / "precious").read_text(encoding="utf-8") == "precious"


@pytest.mark.parametrize("function", ["open", "rename", "write"])
def test_a_capture_survives_a_disk_that_refuses_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    async def run() -> None:
        reading, writing = os.pipe()
        log = ConsoleLog(tmp_path / "log", 200)
        log.start(reading)
        for piece in (b"x" * 90, b"y" * 90, b"z" * 90):
            os.write(writing, piece)
            if piece[:1] == b"y":
                with refused(monkeypatch, function):
                    log.drain()
            log.drain()
        os.close(writing)
        log.close()

    asyncio.run(run())
    assert (tmp_path / "log").read_bytes() == b"z" * 90


def test_a_capture_takes_a_source_that_breaks_as_one_that_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        reading, writing = os.pipe()
        log = ConsoleLog(tmp_path / "log")
        log.start(reading)
        with refused(monkeypatch, "read", errno.ECONNRESET):
            log.drain()
        os.close(writing)

    asyncio.run(run())
    assert (tmp_path / "log").read_bytes() == b""


def test_a_capture_that_cannot_open_its_file_uses_the_descriptor_up(tmp_path: Path) -> None:
    async def run() -> None:
        reading, writing = os.pipe()
        (tmp_path / "log").mkdir()
        with pytest.raises(IsADirectoryError):
            ConsoleLog(tmp_path / "log").start(reading)
        with pytest.raises(BrokenPipeError):
            os.write(writing, b"x")
        os.close(writing)

    asyncio.run(run())


@pytest.mark.promise("T11")
def test_a_container_log_is_capped(tmp_path: Path) -> None:
    log = ContainerLog(tmp_path / "c/output.log", cap=10_000)
    for number in range(1000):
        log.write(b"%08d\n" % number * 10)
    log.close()
    files = [tmp_path / "c/output.log", tmp_path / "c/output.log.1"]
    assert sum(path.stat().st_size for path in files) <= 10_000
    assert files[0].read_bytes().endswith(b"00000999\n")


def test_a_log_shows_its_next_owner_how_many_bytes_of_each_stream_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "c/output.log"
    first = ContainerLog(path, cap=1000)
    for _ in range(40):  # the log is begun anew meanwhile
        first.write(b"x" * 70, 0)
        first.write(b"y" * 9, 1)
    first.close()
    second = ContainerLog(path, cap=1000, resumed=True)
    assert second.taken == (2800, 360)
    second.write(b"z", 1)
    second.close()
    third = ContainerLog(path, cap=1000, resumed=True)
    assert third.taken == (2800, 361)
    third.close()


@pytest.mark.parametrize("written", [0, 3, 10])
def test_a_death_in_the_middle_of_an_append_loses_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    path = tmp_path / "output.log"
    log = ContainerLog(path)
    log.write(b"before", 0)
    write = os.write

    def die(fd: int, data: bytes) -> None:
        write(fd, data[:written])
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", die)
        with pytest.raises(SystemExit):
            log.write(b"0123456789", 1)
    log.close()
    after = ContainerLog(path, resumed=True)
    assert after.taken == (6, written)
    after.close()


def test_a_death_between_two_files_of_a_log_loses_and_repeats_nothing(tmp_path: Path) -> None:
    path = tmp_path / "output.log"
    log = ContainerLog(path)
    log.write(b"all of it", 0)
    log.close()
    path.rename(path.with_name("output.log.1"))
    after = ContainerLog(path, resumed=True)
    assert after.taken == (9, 0)
    after.close()


def test_a_log_that_nobody_wrote_shows_no_number_of_bytes(tmp_path: Path) -> None:
    log = ContainerLog(tmp_path / "output.log", resumed=True)
    assert log.taken is None
    log.close()


def test_a_process_that_is_started_again_is_counted_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "output.log"
    for data in (b"of the first run", b""):
        log = ContainerLog(path)
        log.write(data)
        log.close()
    after = ContainerLog(path, resumed=True)
    assert after.taken == (0, 0)
    after.close()


def test_the_cap_of_a_log_holds_for_its_index_too(tmp_path: Path) -> None:
    log = ContainerLog(tmp_path / "output.log", cap=10_000)
    for _ in range(5000):
        log.write(b"x")
    log.close()
    files = list(tmp_path.iterdir())
    assert len(files) == 4
    assert sum(path.stat().st_size for path in files) <= 10_000


def read(reader: LogReader, ended: bool = False) -> list[tuple[str, bytes]]:
    return [(line.stream, line.data) for line in reader.lines(ended)]


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[LogReader]:
    made = LogReader(tmp_path / "output.log")
    yield made
    made.close()


def test_a_reader_returns_whole_lines_of_each_stream_and_the_rest_at_the_end(tmp_path: Path, reader: LogReader) -> None:
    log = ContainerLog(tmp_path / "output.log")
    for data, stream in ((b"one\ntw", 0), (b"oops", 1), (b"o\nthr", 0)):
        log.write(data, stream)
    assert read(reader) == [("stdout", b"one\n"), ("stdout", b"two\n")]
    log.write(b"ee\n")
    assert read(reader) == [("stdout", b"three\n")]
    log.close()
    assert read(reader, ended=True) == [("stderr", b"oops")]


def test_the_time_of_a_line_is_that_of_its_first_byte(tmp_path: Path, reader: LogReader) -> None:
    log = ContainerLog(tmp_path / "output.log")
    before = time.time()
    log.write(b"be")
    middle = time.time()
    log.write(b"gun\nnext\n")
    log.close()
    begun, following = reader.lines()
    assert before - 0.001 <= begun.time <= middle + 0.001
    assert middle - 0.001 <= following.time <= time.time() + 0.001


def test_the_last_line_of_a_run_is_not_continued_by_the_next_run(tmp_path: Path, reader: LogReader) -> None:
    for data in (b"killed in the midd", b"again\n"):
        log = ContainerLog(tmp_path / "output.log")
        log.write(data)
        log.close()
    assert read(reader) == [("stdout", b"killed in the midd"), ("stdout", b"again\n")]


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_reader_that_keeps_up_gets_each_byte_once_while_files_are_rotated(
    tmp_path: Path, reader: LogReader, step: int
) -> None:
    log = ContainerLog(tmp_path / "output.log", cap=200_000)
    found: list[tuple[str, bytes]] = []
    for number in range(5000):
        log.write(b"%d\n" % number, number % 2)
        if number % step == 0:
            found += read(reader)
    log.close()
    found += read(reader)
    assert found == [("stderr" if number % 2 else "stdout", b"%d\n" % number) for number in range(5000)]


def test_a_reader_that_comes_late_gets_what_two_files_still_hold(tmp_path: Path, reader: LogReader) -> None:
    log = ContainerLog(tmp_path / "output.log", cap=20_000)
    for number in range(2000):
        log.write(b"%d\n" % number)
    log.close()
    lines = [int(line.data) for line in reader.lines()]
    assert lines == list(range(lines[0], 2000))
    assert 150 < len(lines) < 2000


@pytest.mark.parametrize("function", ["open", "rename", "write", "pwrite"])
def test_a_disk_that_refuses_for_a_while_costs_a_reader_only_what_the_log_lost(
    tmp_path: Path, reader: LogReader, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    log = ContainerLog(tmp_path / "output.log", cap=600)
    for number in range(12):
        if number in (4, 5):
            with refused(monkeypatch, function, errno.ENOSPC):
                log.write(b"%090d\n" % number)
        else:
            log.write(b"%090d\n" % number)
            assert [int(data) for stream, data in read(reader) if stream == "stdout"] == [number]
    log.close()


def test_a_disk_that_takes_half_of_an_append_leaves_the_lines_around_it_whole(
    tmp_path: Path, reader: LogReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = ContainerLog(tmp_path / "output.log")
    log.write(b"before\n")
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: write(fd, data[:4]))
        log.write(b"lost\nand lost\n")
    log.write(b"\nafter\n")
    log.close()
    loss = b"[virtcontainers: 10 bytes of output are missing here: the disk did not take them]\n"
    assert read(reader) == [
        ("stdout", b"before\n"),
        ("stderr", loss),
        ("stdout", b"lost\n"),
        ("stdout", b"after\n"),
    ]


def test_a_loss_ends_no_line_that_another_stream_has_begun(
    tmp_path: Path, reader: LogReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = ContainerLog(tmp_path / "output.log")
    log.write(b"be", 0)
    with refused(monkeypatch, "write", errno.ENOSPC):
        log.write(b"lost\n", 1)
    assert read(reader) == []
    log.write(b"gun\n", 0)
    log.close()
    loss = b"[virtcontainers: 5 bytes of output are missing here: the disk did not take them]\n"
    assert read(reader) == [("stderr", loss), ("stdout", b"begun\n")]


def test_a_line_without_end_is_returned_in_parts(tmp_path: Path, reader: LogReader) -> None:
    log = ContainerLog(tmp_path / "output.log")
    for _ in range(10):
        log.write(b"x" * 50_000)
    assert sum(len(data) for _, data in read(reader)) >= 400_000
    log.close()
