"""A supervisor's side of one client's connection."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from vc_core.client.link import Link
from vc_core.driver.agent import TerminalSize
from vc_core.engine.logs import ContainerLog
from vc_core.engine.streams import AttachedIO, ready
from vc_core.errors import ConfigError, NotSupportedError, SupervisorError
from vc_core.supervisor import wire
from vc_core.supervisor.service import Connection, serve

#: Seconds for what happens at once.
TIMEOUT = 5.0

#: More messages than any bound on what is kept of them.
MANY = 150


def pair() -> tuple[socket.socket, socket.socket]:
    """Return a client's socket and a supervisor's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return ours, theirs


async def say(sock: socket.socket, message: dict[str, Any]) -> None:
    """Send a client's message, once the supervisor has room for it, and let the supervisor run."""
    while True:
        try:
            wire.send(sock, message)
            return await asyncio.sleep(0)
        except BlockingIOError:
            await ready(sock.fileno(), writing=True)


def run(work) -> None:
    """Run a test's coroutine, which must not take longer than the timeout."""

    async def timed() -> None:
        async with asyncio.timeout(TIMEOUT):
            await work

    asyncio.run(timed())


class SlowEngine:
    """An engine whose containers do not end; notes when nobody waits for them any more."""

    def __init__(self) -> None:
        self.waiting = asyncio.Event()
        self.withdrawn = asyncio.Event()

    async def wait_container(self, container_id: str) -> None:
        self.waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.withdrawn.set()


@pytest.mark.parametrize("message", [{"resize": {"rows": 1, "columns": 2}}, {"signal": 15}, {"nonsense": 1}])
def test_a_client_that_leaves_withdraws_its_request_however_much_it_said_before(message: dict[str, Any]) -> None:
    async def work() -> None:
        ours, theirs = pair()
        engine = SlowEngine()
        serving = asyncio.create_task(serve(engine, theirs))  # type: ignore[arg-type]
        wire.send(ours, {"op": "wait", "container": "c1"})
        await engine.waiting.wait()
        wire.receive(ours)  # the greeting: with it unread, the end would be a reset, which overtakes what was sent
        for _ in range(MANY):
            await say(ours, message)
        ours.close()
        await engine.withdrawn.wait()
        await serving

    run(work())


def test_a_process_gets_the_last_size_and_each_signal_once_that_were_sent_before_it_ran() -> None:
    async def work() -> None:
        ours, theirs = pair()
        connection = Connection(theirs)
        listening = asyncio.create_task(connection.listen())
        for number in range(MANY):
            await say(ours, {"resize": {"rows": number, "columns": 80}})
            await say(ours, {"signal": (15, 2)[number % 2]})
        for nonsense in ({"signal": 0}, {"signal": 65}, {"signal": "9"}, {"resize": 1}, {}):
            await say(ours, nonsense)
        ours.close()
        await listening
        got: list[object] = []
        done = asyncio.Event()

        async def send(signum: int) -> None:
            got.append(signum)
            if signum == 2:
                done.set()
            raise NotSupportedError("it cannot be signalled")

        async def resize(size: TerminalSize) -> None:
            got.append(size)

        connection.wire_process(AttachedIO(None, None, None), send, resize)
        await done.wait()
        assert got == [TerminalSize(MANY - 1, 80), 15, 2]
        connection.close()

    run(work())


def test_a_signal_that_comes_while_another_is_sent_is_sent_after_it() -> None:
    async def work() -> None:
        ours, theirs = pair()
        connection = Connection(theirs)
        listening = asyncio.create_task(connection.listen())
        got: list[int] = []
        first, last = asyncio.Event(), asyncio.Event()

        async def send(signum: int) -> None:
            got.append(signum)
            first.set()
            if signum == 9:
                last.set()
            elif len(got) == 1:
                wire.send(ours, {"signal": 15})
                wire.send(ours, {"signal": 9})
                ours.close()
                await listening

        async def resize(_: TerminalSize) -> None:
            pytest.fail("no size was sent")

        connection.wire_process(AttachedIO(None, None, None), send, resize)
        wire.send(ours, {"signal": 15})
        await last.wait()
        assert got == [15, 15, 9]
        connection.close()

    run(work())


def test_an_answer_waits_for_a_client_that_is_behind_with_its_events() -> None:
    async def work() -> None:
        ours, theirs = pair()
        connection = Connection(theirs)
        for _ in range(1000):
            connection.tell("progress", phrase="x" * 1000)
        answering = asyncio.create_task(connection.answer({"result": 7}))
        await asyncio.sleep(0)
        replies = []
        link = Link(ours, None)
        while not replies or "event" in replies[-1]:
            if (message := link.poll()) is not None:
                replies.append(message)
            await asyncio.sleep(0)
        assert replies[-1] == {"result": 7}
        await answering
        connection.close()
        ours.close()

    run(work())


def test_descriptors_that_come_with_nonsense_are_closed() -> None:  # the census counts
    ours, theirs = pair()
    with Path(os.devnull).open(encoding="utf-8") as null:
        socket.send_fds(ours, [b"nonsense"], [null.fileno()] * 3)
    with pytest.raises(SupervisorError, match="cannot be understood"):
        wire.receive(theirs)
    ours.close()
    theirs.close()


def test_streams_that_cannot_be_used_are_closed_with_their_log(tmp_path) -> None:  # the census counts
    async def work() -> None:
        ours, theirs = pair()
        connection = Connection(theirs)
        reading, writing = os.pipe()
        null = os.open(os.devnull, os.O_RDWR)
        wire.send(ours, {"op": "start"}, [reading, null, writing])
        os.close(null)
        await connection.request()
        with pytest.raises(ConfigError):
            connection.streams(["fd", "fd", "fd"], ContainerLog(tmp_path / "output.log"))
        os.close(reading)
        os.close(writing)
        connection.close()
        ours.close()

    run(work())


def test_what_a_supervisor_does_not_take_yet_is_kept_by_its_client() -> None:
    ours, theirs = pair()
    link = Link(ours, None)
    messages = [{"signal": 9, "padding": "x" * 1000}] * 1000
    rest = link.offer(messages)
    assert 0 < len(rest) < 1000
    theirs.close()
    assert link.offer(rest) == []
    ours.close()
