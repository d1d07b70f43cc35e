"""Fuzzes what the host does with a hyperstart guest's bytes: frames, both channels, and the JSON of replies.

The lowest two bits of an input's first byte choose what it is: bytes of the control channel, of the stream channel with
or without credit, or the payload of a reply. The second one seeds the sizes of the pieces in which the rest arrives.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from fuzzing import fuzz

from vc_agent_hyperstart.channel import Channel
from vc_agent_hyperstart.codec import CONTROL, STREAM, Code, FrameDecoder, FrameFormat
from vc_agent_hyperstart.control import ControlChannel
from vc_agent_hyperstart.replies import HelloReply, ProcessEvent, ProcessNames, Refusal, StatsReply, decode
from vc_agent_hyperstart.streams import StreamChannel
from vc_core.driver import ProcessIO
from vc_core.errors import AgentError, AgentProtocolError

WORDS = [
    *(CONTROL.encode(code) for code in Code),
    CONTROL.encode(Code.NEXT, b"\0\0\0\x08"),
    CONTROL.encode(Code.ERROR, b'{"reason":"x","exit_code":5}'),
    *(STREAM.encode(key, payload) for key in (1, 2) for payload in (b"", b"\0", b"\xff", b"output" * 9)),
    *(STREAM.encode(0, bytes([kind]) + bytes(7) + b"\1" + bytes(7) + b"\xff") for kind in range(4)),
    *(b"\0\0\0\x08", b"\0\0\0\x0c", b"\0\x10\0\1", b"\xff\xff\xff\xff", b"\0\1\0\0"),
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b"\\u0000",
        b"null",
        b"-1",
        b"9223372036854775808",
        b"\xff",
        b'"stdio":0',
        b'"a":' * 9,
    ),
]

REPLIES = (HelloReply, StatsReply, Refusal, ProcessEvent)


class Discard(ProcessIO):
    """Streams that have no input and drop all output."""

    async def read_stdin(self) -> bytes:
        return b""

    async def write_stdout(self, data: bytes) -> None:
        await asyncio.sleep(0)

    async def write_stderr(self, data: bytes) -> None:
        await asyncio.sleep(0)


class NoTransport(asyncio.Transport):
    """Takes all bytes and sends none."""

    def write(self, data: Any) -> None:
        pass

    def abort(self) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0


def pieces(data: bytes, seed: int) -> Iterator[bytes]:
    source = random.Random(seed)
    while data:
        size = source.choice((1, 3, 12, 200, 100_000))
        yield data[:size]
        data = data[size:]


def frames_of(frame_format: FrameFormat, parts: Iterator[bytes]) -> tuple[list[tuple[int, bytes]], str]:
    """Return the frames of the bytes, and the error that ended them."""
    frames: list[tuple[int, bytes]] = []
    decoder = FrameDecoder(frame_format, lambda key, payload: frames.append((key, payload)))
    try:
        for part in parts:
            decoder.feed(part)
            assert decoder.kept < frame_format.limit, "more is kept than a frame can have"
    except AgentProtocolError as error:
        return frames, str(error)
    return frames, ""


async def feed(channel: Channel, parts: Iterator[bytes]) -> None:
    """Let a channel receive the bytes, while there is a channel, and then the end of the connection."""
    for part in parts:
        for at in range(0, len(part), len(channel.get_buffer(-1))):
            some = part[at : at + len(channel.get_buffer(-1))]
            channel.get_buffer(-1)[: len(some)] = some
            if channel.error is None:
                channel.buffer_updated(len(some))
        await asyncio.sleep(0)
    channel.connection_lost(None)
    assert isinstance(channel.error, AgentError)


async def control(parts: Iterator[bytes]) -> None:
    channel = ControlChannel(lambda error: None, lambda code, payload: None)
    channel.connection_made(NoTransport())
    calls = [asyncio.create_task(channel.call(code, b"{}", 5)) for code in (Code.GETVERSION, Code.HELLO, Code.PING)]
    await asyncio.sleep(0)
    await feed(channel, parts)
    for answer in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(answer, bytes | AgentError), repr(answer)


async def streams(parts: Iterator[bytes], credit: bool) -> None:
    channel = StreamChannel(lambda error: None)
    channel.credit = credit
    channel.connection_made(NoTransport())
    process = channel.add(ProcessNames("c", True, 1, 2, False))
    process.attach(Discard(), None)
    await feed(channel, parts)
    with suppress(AgentError):
        assert 0 <= await asyncio.wait_for(process.wait(), 5) <= 255
    await channel_ended(channel)


async def channel_ended(channel: StreamChannel) -> None:
    """Wait for the tasks that the channel has left, so that an exception in one is seen."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for result in await asyncio.gather(*others, return_exceptions=True):
        assert result is None or isinstance(result, AgentError | asyncio.CancelledError), repr(result)


def check(data: bytes) -> None:
    kind, seed, rest = (data[0] % 4, data[1], data[2:]) if len(data) > 1 else (3, 0, data)
    if kind == 3:
        for reply in REPLIES:
            with suppress(AgentProtocolError):
                decode("reply", rest, reply)
        return
    frame_format = CONTROL if kind == 0 else STREAM
    assert frames_of(frame_format, iter([rest])) == frames_of(frame_format, pieces(rest, seed)), "pieces matter"
    asyncio.run(control(pieces(rest, seed)) if kind == 0 else streams(pieces(rest, seed), kind == 1))


if __name__ == "__main__":
    fuzz(WORDS, check)
