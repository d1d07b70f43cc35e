"""The ways in which :mod:`vc_agent_hyperstart.testing.fake_guest` can misbehave."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Callable, Coroutine
from enum import StrEnum
from typing import Any, Protocol

from vc_agent_hyperstart.codec import Code
from vc_agent_hyperstart.testing.programs import FakeProcess
from vc_agent_hyperstart.testing.wire import CONTROL_PAYLOAD_MAX, PAYLOAD_MAX, Port


class Misbehaviour(StrEnum):
    """How a guest misbehaves, from the first command of code ``at`` on (the first two: at once).

    A host must raise a typed error within its timeout, use little memory, and never treat the end of a channel as
    success. After those marked harmless it must go on.
    """

    NEVER_READY = "never-ready"
    EOF_AFTER_READY = "eof-after-ready"
    SILENT = "silent"  #: answers nothing
    LATE = "late"  #: does nothing until :meth:`FakeHyperstart.catch_up`
    NEVER_READS = "never-reads"  #: answers this command, and takes no stream frame from now on
    EOF = "eof"  #: closes both channels instead of an answer
    EOF_MID_FRAME = "eof-mid-frame"  #: in a control frame
    EOF_MID_STREAM_FRAME = "eof-mid-stream-frame"
    EOF_BEFORE_STATUS = "eof-before-status"  #: the end of a process' output, and instead of its status that of all
    BAD_CONTROL_LENGTH = "bad-control-length"  #: a control frame whose length is ``length``
    BAD_STREAM_LENGTH = "bad-stream-length"
    ERROR = "error"  #: ERROR to everything
    HOSTILE_REASON = "hostile-reason"  #: ERROR with a long reason full of control characters
    BAD_NEXT = "bad-next"  #: NEXT frames that do not add up to what was sent
    NO_NEXT = "no-next"  #: none at all
    LONG_NEXT = "long-next"  #: a NEXT of eight bytes
    WRONG_CODE = "wrong-code"  #: an answer that is neither ACK nor ERROR
    DOUBLE_REPLY = "double-reply"
    LONG_REPLY = "long-reply"  #: an answer as long as a frame may be
    JSON_DEPTH = "json-depth"  #: an answer of deeply nested JSON
    JSON_WIDTH = "json-width"  #: an answer of very many small values
    JSON_DIGITS = "json-digits"  #: an answer with a number of very many digits
    READY_AGAIN = "ready-again"  #: harmless: READY once more before the answer
    UNKNOWN_SEQUENCES = "unknown-sequences"  #: harmless: frames of streams that do not exist
    STREAM_FLOOD = "stream-flood"  #: such frames without end, and no answer
    CONTROL_FLOOD = "control-flood"  #: PODFINISHED without end, and no answer
    OUTPUT_FLOOD = "output-flood"  #: output beyond any window, without end
    BAD_CREDIT = "bad-credit"  #: credit for input that was never sent
    DATA_AFTER_END = "data-after-end"


#: Those that happen beside the answer, not in its place.
_BESIDE = frozenset(
    (
        *(Misbehaviour.NEVER_READS, Misbehaviour.BAD_NEXT, Misbehaviour.NO_NEXT, Misbehaviour.LONG_NEXT),
        *(Misbehaviour.READY_AGAIN, Misbehaviour.UNKNOWN_SEQUENCES, Misbehaviour.OUTPUT_FLOOD),
        *(Misbehaviour.DOUBLE_REPLY, Misbehaviour.BAD_CREDIT, Misbehaviour.DATA_AFTER_END),
        *(Misbehaviour.EOF_BEFORE_STATUS, Misbehaviour.NEVER_READY, Misbehaviour.EOF_AFTER_READY),
    )
)


class Guest(Protocol):
    """The guest, as misbehaviour uses it."""

    control: Port
    stream: Port
    processes: dict[int, FakeProcess]

    def power_off(self) -> None:
        """Close both channels."""

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in a task that is cancelled at the guest's end."""


def misbehave(guest: Guest, how: Misbehaviour, length: int) -> bool:
    """Misbehave once, after a command; return whether this was in place of the command's answer."""
    control, stream = guest.control, guest.stream
    match how:
        case Misbehaviour.EOF:
            guest.power_off()
        case Misbehaviour.EOF_MID_FRAME:
            control.send_raw(struct.pack(">II", Code.ACK, 100) + b"half")
            guest.power_off()
        case Misbehaviour.EOF_MID_STREAM_FRAME:
            stream.send_raw(struct.pack(">QI", 1, 100) + b"half")
            guest.power_off()
        case Misbehaviour.BAD_CONTROL_LENGTH:
            control.send_raw(struct.pack(">II", Code.ACK, length) + bytes(64))
        case Misbehaviour.BAD_STREAM_LENGTH:
            stream.send_raw(struct.pack(">QI", 1, length) + bytes(64))
        case Misbehaviour.ERROR:
            control.send(Code.ERROR)
        case Misbehaviour.HOSTILE_REASON:
            reason = "\x1b]0;owned\x07\n\u202e" + "x" * 100_000
            control.send(Code.ERROR, json.dumps({"reason": reason, "exit_code": 127}).encode())
        case Misbehaviour.LONG_NEXT:
            control.send(Code.NEXT, bytes(8))
        case Misbehaviour.WRONG_CODE:
            control.send(Code.PING)
        case Misbehaviour.LONG_REPLY:
            control.send(Code.ACK, bytes(CONTROL_PAYLOAD_MAX))
        case Misbehaviour.JSON_DEPTH:
            control.send(Code.ACK, b'{"version": 1, "bomb": ' + b"[" * 500_000)
        case Misbehaviour.JSON_WIDTH:
            control.send(Code.ACK, b'{"version": 1, "processes": [' + b"{}," * 300_000 + b"{}]}")
        case Misbehaviour.JSON_DIGITS:
            control.send(Code.ACK, b'{"version": ' + b"9" * 1_000_000 + b"}")
        case Misbehaviour.READY_AGAIN:
            control.send(Code.READY)
        case Misbehaviour.UNKNOWN_SEQUENCES:
            for number in range(2_000):  # few: from Python 3.12 on, each write of asyncio adds up all that wait
                stream.send(2**60 + number, b"?" * 1000)
        case Misbehaviour.NEVER_READS:
            stream.pause_reading()
        case Misbehaviour.STREAM_FLOOD:
            guest.in_background(_flood(stream, lambda: stream.send(2**60, bytes(PAYLOAD_MAX))))
        case Misbehaviour.CONTROL_FLOOD:
            guest.in_background(_flood(control, lambda: control.send(Code.PODFINISHED, bytes(PAYLOAD_MAX))))
        case Misbehaviour.OUTPUT_FLOOD:
            guest.in_background(_flood(stream, lambda: _send_to_all(guest)))
        case _:
            pass
    return how not in _BESIDE


def _send_to_all(guest: Guest) -> None:
    for sequence in guest.processes:
        guest.stream.send(sequence, bytes(PAYLOAD_MAX))


async def _flood(port: Port, send: Callable[[], None]) -> None:
    while True:
        await port.drained()
        send()
        await asyncio.sleep(0)
