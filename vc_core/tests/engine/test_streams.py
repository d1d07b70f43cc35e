"""Streams on the host: the ends of pipes, sockets, files and terminals that processes in the guest read and write."""

from __future__ import annotations

import asyncio
import errno
import os
import pty
import socket
import termios
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from vc_core.engine.logs import ContainerLog
from vc_core.engine.streams import CHUNK, AttachedIO, ConsoleIO, FdReader, FdWriter, LoggedIO
from vc_core.errors import ConfigError
from vc_core.testing.slowness import scaled

#: Seconds for what happens at once.
TIMEOUT = scaled(30.0)

Pair = Callable[[], tuple[int, int]]


def socket_pair() -> tuple[int, int]:
    """Return two connected sockets; the caller closes them."""
    one, other = socket.socketpair()
    return one.detach(), other.detach()


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine, which must not take longer than the timeout."""

    async def timed() -> None:
        async with asyncio.timeout(TIMEOUT):
            await work

    asyncio.run(timed())


@contextmanager
def terminal() -> Iterator[tuple[int, str]]:
    """Yield the master of a terminal, and the path of its other end, which stays open."""
    master, slave = pty.openpty()
    try:
        yield master, os.ttyname(slave)
    finally:
        os.close(slave)
        os.close(master)


async def read_all(end: FdReader) -> bytes:
    data = b""
    while piece := await end.read():
        data += piece
    return data


@pytest.mark.parametrize("pair", [os.pipe, socket_pair])
def test_an_input_returns_what_comes_and_then_the_end(pair: Pair) -> None:
    async def work() -> None:
        reading, writing = pair()
        end = FdReader(reading)
        waiting = asyncio.create_task(end.read())
        await asyncio.sleep(0)
        os.write(writing, b"later")
        assert await waiting == b"later"
        os.write(writing, b"rest")
        os.close(writing)
        assert await read_all(end) == b"rest"
        end.close()
        end.close()

    run(work())


def test_an_input_reads_a_file_in_pieces(tmp_path: Path) -> None:
    async def work() -> None:
        (tmp_path / "input").write_bytes(b"x" * (CHUNK + 1))
        end = FdReader(os.open(tmp_path / "input", os.O_RDONLY))
        assert [len(await end.read()) for _ in range(3)] == [CHUNK, 1, 0]
        end.close()

    run(work())


def test_an_input_that_cannot_be_read_is_at_its_end(tmp_path: Path) -> None:
    async def work() -> None:
        end = FdReader(os.open(tmp_path / "output", os.O_WRONLY | os.O_CREAT))
        assert await end.read() == b""
        end.close()

    run(work())


def test_an_input_whose_peer_resets_the_connection_is_at_its_end() -> None:
    async def work() -> None:
        ours, theirs = socket.socketpair()
        ours.send(b"unread, so that the close is a reset")
        end = FdReader(ours.detach())
        theirs.close()
        assert await end.read() == b""
        end.close()

    run(work())


def test_the_callers_own_pipe_stays_blocking() -> None:
    reading, writing = os.pipe()
    ours: list[FdReader | FdWriter] = [FdReader(os.dup(reading)), FdWriter(os.dup(writing))]
    assert os.get_blocking(reading)
    assert os.get_blocking(writing)
    for end in ours:
        end.close()
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("pair", [os.pipe, socket_pair])
def test_an_output_waits_for_a_reader_that_is_behind_and_loses_nothing(pair: Pair) -> None:
    async def work() -> None:
        reading, writing = pair()
        source, end = FdReader(reading), FdWriter(writing)
        data = os.urandom(3 * 1024 * 1024)
        writer = asyncio.create_task(end.write(data))
        taken = b""
        while len(taken) < len(data):
            taken += await source.read()
        assert await writer
        assert taken == data
        source.close()
        end.close()

    run(work())


def test_an_output_writes_a_file(tmp_path: Path) -> None:
    async def work() -> None:
        end = FdWriter(os.open(tmp_path / "output", os.O_WRONLY | os.O_CREAT))
        assert await end.write(b"all")
        end.close()

    run(work())
    assert (tmp_path / "output").read_bytes() == b"all"


@pytest.mark.parametrize("pair", [os.pipe, socket_pair])
def test_an_output_without_a_reader_is_broken_from_then_on(pair: Pair) -> None:
    async def work() -> None:
        reading, writing = pair()
        end = FdWriter(writing)
        assert await end.write(b"x")
        os.close(reading)
        assert not await end.write(b"x")
        assert end.broken
        assert not await end.write(b"x")
        end.close()

    run(work())


def test_an_output_on_a_full_disk_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def work() -> None:
        end = FdWriter(os.open(tmp_path / "output", os.O_WRONLY | os.O_CREAT))
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            assert not await end.write(b"x")
        end.close()

    run(work())


def test_a_pipe_that_cannot_be_opened_anew_is_broken_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> int:
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))

    async def work() -> None:
        (ours, writing), (reading, theirs) = os.pipe(), os.pipe()
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", gone)
            source, end = FdReader(ours), FdWriter(theirs)
        assert end.broken
        assert not await end.write(b"x")
        assert await source.read() == b""
        for one in (source, end):
            one.close()
        os.close(writing)
        os.close(reading)

    run(work())


@pytest.mark.parametrize("kind", [FdReader, FdWriter])
def test_a_descriptor_of_another_kind_is_refused_and_closed(kind: type) -> None:  # the census counts
    with pytest.raises(ConfigError, match="must be a pipe, a socket, a terminal or a regular file"):
        kind(os.open("/dev/zero", os.O_RDWR))


def attached(log: ContainerLog | None = None) -> tuple[AttachedIO, int, int, int]:
    """Return streams with the caller's ends of stdin, stdout and stderr."""
    (stdin, feed), (out, stdout), (err, stderr) = os.pipe(), os.pipe(), os.pipe()
    return AttachedIO(FdReader(stdin), FdWriter(stdout), FdWriter(stderr), log), feed, out, err


def test_attached_streams_carry_each_to_its_place() -> None:
    async def work() -> None:
        io, feed, out, err = attached()
        assert io.has_input
        os.write(feed, b"in")
        assert await io.read_stdin() == b"in"
        await io.write_stdout(b"out")
        await io.write_stderr(b"err")
        assert (os.read(out, 10), os.read(err, 10)) == (b"out", b"err")
        io.close()
        io.close()
        for fd in (feed, out, err):
            os.close(fd)

    run(work())


def test_attached_streams_that_are_not_there_are_at_their_end() -> None:
    async def work() -> None:
        io = AttachedIO(None, None, None)
        assert not io.has_input
        assert await io.read_stdin() == b""
        await io.write_stdout(b"nowhere")
        io.close()

    run(work())


def test_what_the_client_is_sent_is_in_the_log_too(tmp_path: Path) -> None:
    async def work() -> None:
        io, feed, out, err = attached(ContainerLog(tmp_path / "output.log"))
        await io.write_stdout(b"out")
        await io.write_stderr(b"err")
        assert (os.read(out, 10), os.read(err, 10)) == (b"out", b"err")
        io.close()
        for fd in (feed, out, err):
            os.close(fd)

    run(work())
    assert (tmp_path / "output.log").read_bytes() == b"outerr"


def test_what_a_reader_that_has_gone_does_not_take_goes_to_the_log_and_is_reported_once(tmp_path: Path) -> None:
    async def work() -> None:
        io, feed, out, err = attached(ContainerLog(tmp_path / "output.log"))
        broken: list[bool] = []
        io.on_broken = broken.append
        for fd in (feed, out, err):
            os.close(fd)
        await io.write_stdout(b"one,")
        await io.write_stderr(b"two,")
        await io.write_stdout(b"and ")
        assert broken == [False, True]
        io.close()

    run(work())
    assert (tmp_path / "output.log").read_bytes() == b"one,two,and "


def test_output_without_a_reader_goes_to_the_log_and_breaks_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        io = AttachedIO(None, None, None, ContainerLog(tmp_path / "output.log"))
        io.on_broken = lambda errors: pytest.fail("no reader was attached")
        await io.write_stdout(b"kept")
        io.close()

    run(work())
    assert (tmp_path / "output.log").read_bytes() == b"kept"


def test_logged_streams_have_no_input_or_one_that_never_ends(tmp_path: Path) -> None:
    async def work() -> None:
        for keep in (False, True):
            io = LoggedIO(ContainerLog(tmp_path / "output.log"), keep_stdin_open=keep)
            assert io.has_input is keep
            reading = asyncio.create_task(io.read_stdin())
            done, _ = await asyncio.wait({reading}, timeout=0.01)
            assert bool(done) is not keep
            reading.cancel()
            await asyncio.wait({reading})
            await io.write_stdout(b"out")
            await io.write_stderr(b"err")
            io.close()
            io.close()

    run(work())
    assert (tmp_path / "output.log").read_bytes() == b"outerr" * 2


def test_a_console_is_raw_meanwhile_and_then_as_it_was() -> None:
    async def work() -> None:
        with terminal() as (master, path):
            modes = termios.tcgetattr(master)
            io = ConsoleIO(path)
            assert not termios.tcgetattr(master)[3] & (termios.ICANON | termios.ECHO)
            os.write(master, b"in\x03")
            assert await io.read_stdin() == b"in\x03"
            await io.write_stdout(b"out\n")
            assert os.read(master, 10) == b"out\n"
            io.close()
            io.close()
            assert termios.tcgetattr(master) == modes

    run(work())


def test_a_console_whose_terminal_has_gone_is_closed_all_the_same() -> None:
    async def work() -> None:
        master, slave = pty.openpty()
        io = ConsoleIO(os.ttyname(slave))
        os.close(slave)
        os.close(master)
        assert await io.read_stdin() == b""
        await io.write_stdout(b"x")
        io.close()

    run(work())


def test_a_console_that_is_no_terminal_or_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="it is not a terminal"):
        ConsoleIO(str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="No such file"):
        ConsoleIO(str(tmp_path / "none"))


def test_a_console_for_which_there_are_not_enough_descriptors_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with terminal() as (master, path):
        modes = termios.tcgetattr(master)
        monkeypatch.setattr(os, "dup", refuse)
        with pytest.raises(ConfigError, match="Too many open files"):
            ConsoleIO(path)
        assert termios.tcgetattr(master) == modes
