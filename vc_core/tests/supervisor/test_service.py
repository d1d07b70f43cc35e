"""A supervisor's side of one client's connection."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from vc_core.client.link import Link, result
from vc_core.config.container import COMMAND_BYTES_MAX, Cmd
from vc_core.driver.terminal import TerminalSize
from vc_core.engine.logs import ContainerLog
from vc_core.engine.streams import AttachedIO, ready
from vc_core.errors import ConfigError, NotSupportedError, SupervisorError, SupervisorLostError
from vc_core.supervisor import service, wire
from vc_core.supervisor.client_request import ClientRequest
from vc_core.supervisor.messages import (
    Answer,
    Control,
    Exec,
    Failure,
    Greeting,
    Progress,
    Reply,
    Request,
    Resize,
    Signal,
    Start,
    Stop,
    Streams,
    WaitContainer,
)
from vc_core.supervisor.service import serve
from vc_core.testing.slowness import scaled

#: Seconds for what happens at once.
TIMEOUT = scaled(30.0)

#: More messages than any bound on what is kept of them.
MANY = 150


def pair() -> tuple[socket.socket, socket.socket]:
    """Return a client's socket and a supervisor's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return ours, theirs


async def send(sock: socket.socket, message: Control | bytes) -> None:
    """Send a client's message, or one of another version as bytes, once the supervisor has room, and let it run."""
    while True:
        try:
            if isinstance(message, bytes):
                sock.send(message)
            else:
                wire.send(sock, message)
            return await asyncio.sleep(0)
        except BlockingIOError:
            await ready(sock.fileno(), writing=True)


def size(rows: int) -> Resize:
    return Resize(size=TerminalSize(rows, 80))


async def replies(link: Link) -> list[Reply]:
    """Return what a supervisor sends until, and with, its answer."""
    received: list[Reply] = []
    while not received or not isinstance(received[-1], Answer | Failure):
        if (message := link.poll()) is not None:
            received.append(message)
        await asyncio.sleep(0)
    return received


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine, which must not take longer than the timeout."""

    async def timed() -> None:
        async with asyncio.timeout(TIMEOUT):
            await work

    asyncio.run(timed())


async def close_output(errors: bool) -> None:
    """Close no output: the processes of these tests have none."""


class SlowEngine:
    """An engine whose containers do not end; it records the waits that were cancelled."""

    def __init__(self) -> None:
        self.waiting = asyncio.Event()
        self.withdrawn = asyncio.Event()

    async def wait_container(self, container_id: str) -> None:
        self.waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.withdrawn.set()


class QuickEngine:
    """An engine whose commands end at once with 0."""

    async def exec(self, container_id: str, cmd: Cmd, io: AttachedIO, *_: object) -> int:
        return 0


def test_a_client_may_send_another_command_if_it_said_so_and_not_much_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_NEXT_TIMEOUT", 0.05)
    nothing = Streams(passed=(False, False, False))
    command = Exec(container="c", cmd=Cmd(args=["true"]), streams=nothing, more=True)
    busy: list[bool] = []

    async def work() -> None:
        ours, theirs = pair()
        serving = asyncio.create_task(serve(QuickEngine(), theirs, busy.append))  # type: ignore[arg-type]
        link = Link(ours, None)
        for _ in range(2):
            link.send(command)
            greeting, answer = await replies(link)
            assert isinstance(greeting, Greeting)
            assert answer == Answer(exit_code=0)
        await serving
        with pytest.raises(SupervisorLostError):
            link.poll()
        link.release()

    run(work())
    assert busy == [True, False, True, False]


def test_a_client_that_did_not_say_so_gets_one_answer() -> None:
    command = Exec(container="c", cmd=Cmd(args=["true"]), streams=Streams(passed=(False, False, False)))

    async def work() -> None:
        ours, theirs = pair()
        wire.send(ours, command)
        await serve(QuickEngine(), theirs)  # type: ignore[arg-type]
        link = Link(ours, None)
        assert (await replies(link))[-1] == Answer(exit_code=0)
        with pytest.raises(SupervisorLostError):
            link.poll()
        link.release()

    run(work())


@pytest.mark.parametrize("message", [size(1), Signal(number=15), b'{"nonsense": 1}', b"nonsense"], ids=str)
def test_a_client_that_leaves_withdraws_its_request_however_much_it_sent_before(message: Control | bytes) -> None:
    async def work() -> None:
        ours, theirs = pair()
        engine = SlowEngine()
        serving = asyncio.create_task(serve(engine, theirs))  # type: ignore[arg-type]
        wire.send(ours, WaitContainer(container="c1"))
        await engine.waiting.wait()
        wire.receive(ours, bytes)  # the greeting: unread, it makes the end a reset, which overtakes what was sent
        for _ in range(MANY):
            await send(ours, message)
        ours.close()
        await engine.withdrawn.wait()
        await serving

    run(work())


def test_a_process_gets_the_last_size_and_each_signal_once_that_were_sent_before_it_ran() -> None:
    async def work() -> None:
        ours, theirs = pair()
        client = ClientRequest(theirs)
        left = asyncio.Event()
        with client.listening(left.set):
            for number in range(MANY):
                await send(ours, size(number))
                await send(ours, Signal(number=(15, 2)[number % 2]))
            for nonsense in (0, 65, "9", None):
                await send(ours, msgspec.json.encode({"kind": "Signal", "number": nonsense}))
            await send(ours, msgspec.json.encode({"kind": "Resize", "size": 1}))
            ours.close()
            await left.wait()
        got: list[object] = []
        done = asyncio.Event()

        async def signal(signum: int) -> None:
            got.append(signum)
            if signum == 2:
                done.set()
            raise NotSupportedError("it cannot be signalled")

        async def resize(size: TerminalSize) -> None:
            got.append(size)

        client.forward_signals(AttachedIO(None, None, None), signal, resize, close_output)
        await done.wait()
        assert got == [TerminalSize(MANY - 1, 80), 15, 2]
        client.close()

    run(work())


def test_a_signal_that_comes_while_another_is_sent_is_sent_after_it() -> None:
    async def work() -> None:
        ours, theirs = pair()
        client = ClientRequest(theirs)
        got: list[int] = []
        left, last = asyncio.Event(), asyncio.Event()

        async def signal(signum: int) -> None:
            got.append(signum)
            if signum == 9:
                last.set()
            elif len(got) == 1:
                wire.send(ours, Signal(number=15))
                wire.send(ours, Signal(number=9))
                ours.close()
                await left.wait()

        async def resize(_: TerminalSize) -> None:
            pytest.fail("no size was sent")

        client.forward_signals(AttachedIO(None, None, None), signal, resize, close_output)
        with client.listening(left.set):
            wire.send(ours, Signal(number=15))
            await last.wait()
        assert got == [15, 15, 9]
        client.close()

    run(work())


def test_an_answer_waits_for_a_client_that_is_behind_with_its_events() -> None:
    async def work() -> None:
        ours, theirs = pair()
        client = ClientRequest(theirs)
        for _ in range(1000):
            client.send_event(Progress(phrase="x" * 1000))
        answering = asyncio.create_task(client.answer(Answer(exit_code=7)))
        await asyncio.sleep(0)
        assert (await replies(Link(ours, None)))[-1] == Answer(exit_code=7)
        await answering
        client.close()
        ours.close()

    run(work())


def test_descriptors_that_come_with_nonsense_are_closed() -> None:  # the census counts
    ours, theirs = pair()
    with Path(os.devnull).open(encoding="utf-8") as null:
        socket.send_fds(ours, [b"nonsense"], [null.fileno()] * 3)
    with pytest.raises(SupervisorError, match="is not valid: JSON is malformed"):
        wire.receive(theirs, msgspec.json.Decoder(Request).decode)
    ours.close()
    theirs.close()


def test_streams_that_cannot_be_used_are_closed_with_their_log(tmp_path: Path) -> None:  # the census counts
    async def work() -> None:
        ours, theirs = pair()
        client = ClientRequest(theirs)
        reading, writing = os.pipe()
        null = os.open(os.devnull, os.O_RDWR)
        wire.send(ours, Start(), [reading, null, writing])
        os.close(null)
        await client.request()
        with pytest.raises(ConfigError):
            client.streams(Streams(passed=(True, True, True)), ContainerLog(tmp_path / "output.log"))
        os.close(reading)
        os.close(writing)
        client.close()
        ours.close()

    run(work())


@pytest.mark.parametrize("call", ["open", "fstat"])
def test_streams_for_which_there_is_no_room_are_closed_so_that_their_client_sees_the_end(
    call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        ours, theirs = pair()
        client = ClientRequest(theirs)
        (reading, writing), (of_errors, errors) = os.pipe(), os.pipe()
        wire.send(ours, Start(), [writing, errors])
        os.close(writing)
        os.close(errors)
        await client.request()
        usual, calls = getattr(os, call), []

        def refuse_the_second(*arguments: Any) -> Any:
            calls.append(arguments)
            if len(calls) == 2:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return usual(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, refuse_the_second)
            with pytest.raises(OSError, match="Too many open files"):
                client.streams(Streams(passed=(False, True, True)))
        assert os.read(reading, 1) == os.read(of_errors, 1) == b""
        os.close(reading)
        os.close(of_errors)
        client.close()
        ours.close()

    run(work())


def test_a_signal_that_a_supervisor_does_not_take_yet_is_kept_by_its_client() -> None:
    ours, theirs = pair()
    link = Link(ours, None)
    messages: list[Control] = [Signal(number=9)] * 10_000
    rest = link.offer(messages)
    assert 0 < len(rest) < len(messages)
    theirs.close()
    assert link.offer(rest) == []
    ours.close()


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (b"nonsense", "JSON is malformed"),
        (b"[]", "Expected `object`, got `array`"),
        (b"{}", "missing required field `kind`"),
        (b'{"kind": "Dance"}', "Invalid value 'Dance'"),
        (b'{"kind": "Stop", "quickly": true}', "unknown field `quickly`"),
        (b'{"kind": "Stop", "force": 1}', r"Expected `bool`, got `int` - at `\$\.force`"),
        (b'{"kind": "Exec", "container": "c", "cmd": {"args": []}}', "missing required field `streams`"),
        (b'{"kind": "WaitContainer", "container": "\xff"}', "utf-8"),
        (b'{"kind": "CreateContainer", "config": {"x": ' + b"[" * 10_000, "recursion"),
    ],
)
def test_a_request_that_is_not_valid_is_answered_with_one_sentence(
    message: bytes, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        ours, theirs = pair()
        serving = asyncio.create_task(serve(SlowEngine(), theirs))  # type: ignore[arg-type]
        ours.send(message)
        link = Link(ours, None)
        failure = (await replies(link))[-1]
        assert isinstance(failure, Failure)
        assert failure.type == "SupervisorError"
        with pytest.raises(SupervisorError, match=rf"^a message is not valid: .*{says}.*different versions$"):
            result(failure)
        await serving
        ours.close()

    run(work())
    assert not [record for record in caplog.records if record.exc_info]


def test_a_request_with_fewer_descriptors_than_it_names_is_refused_and_they_are_closed() -> None:  # the census counts
    async def work() -> None:
        ours, theirs = pair()
        client = ClientRequest(theirs)
        reading, writing = os.pipe()
        wire.send(ours, Start(), [reading])
        await client.request()
        with pytest.raises(SupervisorError, match="names 2 descriptors and has 1"):
            client.streams(Streams(passed=(True, False, True)))
        os.close(reading)
        os.close(writing)
        client.close()
        ours.close()

    run(work())


def test_each_message_is_the_same_after_its_journey() -> None:
    ours, theirs = pair()
    for message in (Stop(timeout=3, force=True), WaitContainer(container="c"), Stop()):
        wire.send(ours, message)
        assert wire.receive(theirs, msgspec.json.Decoder(Request).decode) == (message, [])
    ours.close()
    theirs.close()


def test_the_longest_command_is_the_same_after_its_journey_whatever_its_characters() -> None:
    ours, theirs = pair()
    cmd = Cmd(["\x01" * (COMMAND_BYTES_MAX - 1)])  # JSON escapes them: 6 bytes for each
    message = Exec(container="c", cmd=cmd, streams=Streams(passed=(True, False, False)))
    with Path(os.devnull).open(encoding="utf-8") as null:
        wire.send(ours, message, [null.fileno()])
        received, [fd] = wire.receive(theirs, msgspec.json.Decoder(Request).decode)
        assert received == message
        assert os.path.samestat(os.fstat(fd), os.fstat(null.fileno()))
    os.close(fd)
    ours.close()
    theirs.close()


@pytest.mark.parametrize("kind", ["a pipe", "a file", "a file in memory that is not sealed"])
def test_a_message_in_a_file_that_can_change_is_refused_and_closed(kind: str, tmp_path: Path) -> None:  # by the census
    ours, theirs = pair()
    reading, writing = os.pipe()
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    unsealed = os.memfd_create("message", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    given = {"a pipe": reading, "a file": file}.get(kind, unsealed)
    socket.send_fds(ours, [b"\0"], [given])
    with pytest.raises(SupervisorError, match="in a file that is not sealed"):
        wire.receive(theirs, msgspec.json.Decoder(Request).decode)
    for fd in (reading, writing, file, unsealed):
        os.close(fd)
    ours.close()
    theirs.close()
