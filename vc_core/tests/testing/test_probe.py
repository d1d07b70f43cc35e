"""The host's end of the probing guest, with a guest that is played by the test."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from vc_core.errors import GuestError
from vc_core.testing.probe import Answer, ProbingGuest, probing_guest

Play = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]


def with_guest(play: Play, ask: Callable[[ProbingGuest], Coroutine[None, None, Answer | str]]) -> Answer | str:
    """Return what ``ask`` returns of a guest whose end of the channel is ``play``."""

    async def main() -> Answer | str:
        ours, its = socket.socketpair()
        ours.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=its)
        playing = asyncio.create_task(play(reader, writer))
        try:
            with ours:
                return await ask(ProbingGuest(ours))
        finally:
            playing.cancel()
            await asyncio.wait({playing})
            writer.close()

    return asyncio.run(main())


def test_an_answer_to_a_former_question_is_skipped() -> None:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = (await reader.readline()).split()[0]
        writer.write(b"0 ok of-a-former-host\n" + number + b" error /dev/x: No such file or directory\n")

    answer = with_guest(play, lambda guest: guest.ask("disk", "x"))
    assert answer == Answer(ok=False, text="/dev/x: No such file or directory")


def test_a_guest_that_loses_the_first_question_is_asked_again() -> None:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        number, command = (await reader.readline()).split()
        assert command == b"name"
        writer.write(number + b" ok org.contract.0\n")

    assert with_guest(play, lambda guest: guest.reach(10)) == "org.contract.0"


def test_the_echo_of_a_serial_line_is_no_answer() -> None:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = await reader.readline()
        writer.write(question + question.split()[0] + b" ok 1048576\n")

    assert with_guest(play, lambda guest: guest.ask("disk", "vda")) == Answer(ok=True, text="1048576")


def test_a_guest_that_does_not_answer_is_waited_for_no_longer_than_the_timeout() -> None:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    with pytest.raises(TimeoutError):
        with_guest(play, lambda guest: guest.reach(0.1))


def test_without_a_compiler_the_reason_names_the_package_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GuestError, match=r"needs a C compiler.*apt install musl-tools"):
        probing_guest("a guest driver that is not asked")
