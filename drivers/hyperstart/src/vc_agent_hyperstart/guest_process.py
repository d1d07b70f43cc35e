"""One process in the guest: its output on the way to its reader, its input, and its end."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from vc_agent_hyperstart.codec import StreamControlType
from vc_agent_hyperstart.replies import ProcessNames
from vc_core.agent import ProcessIO
from vc_core.errors import AgentError, AgentProtocolError

#: Bytes that may be sent and not consumed, per direction and stream (guest-protocol.md, Credit).
WINDOW = 524288

#: Credit is sent at once for this many consumed bytes, and for fewer at leisure.
_CREDIT_STEP = 131072

#: Most bytes of input in one frame: ours, and an original's, which keeps no more until the process reads.
_PAYLOAD_MAX = 32768
_ORIGINAL_PAYLOAD_MAX = 512

#: An original knows no credit. Above this many unread bytes of one stream the whole channel is not read any further.
ORIGINAL_UNREAD_MAX = 1024 * 1024

#: End of input on a terminal: the character ^D, at the start of a line. Within a line it only hands over what is there.
_END_OF_TRANSMISSION = b"\x04"
_LINE_ENDS = b"\n\r\x04"


class Multiplexer(Protocol):
    """What a process needs of the stream channel."""

    credit: bool  #: the guest keeps to windows

    def send(self, sequence: int, payload: bytes | memoryview = b"") -> None:
        """Send a frame."""

    async def drained(self) -> None:
        """Return once the guest takes what is sent."""

    def control(self, kind: StreamControlType, stream: int, value: int, *, at_once: bool) -> None:
        """Send a stream control frame, at once or at leisure."""

    def hold(self, output: Output, held: bool) -> None:
        """Stop reading the channel while any output is held."""

    def spawn(self, process: GuestProcess, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a part of a process' traffic in a task; its failure fails the process."""

    def forget(self, process: GuestProcess) -> None:
        """Take no more frames for a process, and note its status."""


class Output:
    """What a process wrote on one of its streams, until its reader took it."""

    def __init__(self, process: GuestProcess, mux: Multiplexer, sequence: int, offset: int = 0) -> None:
        self._process = process
        self._mux = mux
        self.sequence = sequence
        #: Bytes since the process' beginning. ``_urged`` of the consumed ones were told to the guest without delay.
        self._received = self._consumed = self._credited = self._urged = offset
        self._chunks: list[bytes] = []
        self._write: Callable[[bytes], Coroutine[Any, Any, None]] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether everything received was handed over."""
        return not self._chunks and self._task is None

    @property
    def position(self) -> int:
        """How many bytes of the stream have come so far."""
        return self._received

    def skip_to(self, position: int) -> None:
        """Count what a former host handed over, beyond what it told the guest. Called before anything has come."""
        self._received = self._consumed = self._credited = max(self._received, position)

    def attach(self, write: Callable[[bytes], Coroutine[Any, Any, None]]) -> None:
        """Hand over to ``write`` what is here and what will come."""
        self._write = write
        self._start()

    def take(self, payload: bytes) -> None:
        """Queue output from the channel. Raises AgentProtocolError when the guest does not keep to the window."""
        self._received += len(payload)
        if self._mux.credit:
            if self._received - self._credited > WINDOW:
                raise AgentProtocolError(
                    f"the guest sent {self._received - self._credited} bytes of stream {self.sequence} "
                    f"that were not asked for; {WINDOW} at most"
                )
        elif self._received - self._consumed > ORIGINAL_UNREAD_MAX:
            self._mux.hold(self, True)
        self._chunks.append(payload)
        self._start()

    def _start(self) -> None:
        if self._chunks and self._task is None and self._write is not None:
            self._task = self._mux.spawn(self._process, self._hand_over(self._write))

    async def _hand_over(self, write: Callable[[bytes], Coroutine[Any, Any, None]]) -> None:
        while self._chunks:
            data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
            self._chunks.clear()
            await write(data)
            self._consumed += len(data)
            if not self._mux.credit:
                self._mux.hold(self, False)
            elif self._consumed - self._urged >= _CREDIT_STEP:
                self._urged = self._consumed
                self._credit(at_once=True)
        self._task = None
        self.settle()
        self._process.output_idle()

    def settle(self) -> None:
        """Let the guest forget all that was handed over."""
        if self._mux.credit and self._consumed > self._credited:
            self._credit(at_once=False)

    def _credit(self, *, at_once: bool) -> None:
        self._credited = self._consumed
        self._mux.control(StreamControlType.CREDIT, self.sequence, self._consumed, at_once=at_once)


class Input(ABC):
    """How input is paced on its way to a process."""

    def credit(self, consumed: int) -> None:  # noqa: B027 - an original sends none
        """Note that the process has consumed so many bytes since its beginning."""

    @abstractmethod
    async def write(self, data: bytes) -> None:
        """Send input as the guest has room for it."""


class CreditedInput(Input):
    """Input that keeps to the window of a guest that sends credit."""

    def __init__(self, mux: Multiplexer, sequence: int, received: int = 0, consumed: int = 0) -> None:
        self._mux = mux
        self._sequence = sequence
        self._sent = received
        self._consumed = consumed
        self._room = asyncio.Event()

    def credit(self, consumed: int) -> None:
        """Note what the guest has consumed. Raises AgentProtocolError for more than was sent."""
        if consumed > self._sent:
            raise AgentProtocolError(
                f"the guest consumed {consumed} bytes of stream {self._sequence}, but only {self._sent} were sent"
            )
        self._consumed = max(self._consumed, consumed)
        self._room.set()

    async def write(self, data: bytes) -> None:
        """Send input as the window allows."""
        view = memoryview(data)
        while view:
            await self._mux.drained()
            room = WINDOW - (self._sent - self._consumed)
            if room <= 0:
                self._room.clear()
                await self._room.wait()
                continue
            part = view[: min(room, _PAYLOAD_MAX)]
            self._sent += len(part)
            self._mux.send(self._sequence, part)
            view = view[len(part) :]


class PacedInput(Input):
    """Input for an original guest: it drops what it cannot hold, so little goes at once and a round trip between."""

    def __init__(self, mux: Multiplexer, sequence: int, ping: Callable[[], Awaitable[object]]) -> None:
        self._mux = mux
        self._sequence = sequence
        self._ping = ping

    async def write(self, data: bytes) -> None:
        """Send input a little at a time."""
        view = memoryview(data)
        while view:
            self._mux.send(self._sequence, view[:_ORIGINAL_PAYLOAD_MAX])
            await self._ping()
            view = view[_ORIGINAL_PAYLOAD_MAX:]


class GuestProcess:
    """A process in the guest from the moment its streams have numbers until its status was taken."""

    def __init__(
        self, mux: Multiplexer, names: ProcessNames, *, status_by_event: bool, stdout_from: int, stderr_from: int
    ) -> None:
        self.names = names
        self.status: int | None = None
        self.error: AgentError | None = None
        self.stdout = Output(self, mux, names.stdio, stdout_from)
        self.stderr = Output(self, mux, names.stderr, stderr_from)
        self.input: Input | None = None
        self._mux = mux
        self._status_by_event = status_by_event
        self._output_ended = False
        self._reported: int | None = None
        self._stdin_task: asyncio.Task[None] | None = None
        self._over = asyncio.Event()

    def attach(self, io: ProcessIO, process_input: Input | None) -> None:
        """Wire the process to ``io``; without ``process_input`` its input has ended already."""
        self.stdout.attach(io.write_stdout)
        self.stderr.attach(io.write_stderr)
        self.input = process_input
        if process_input is not None and not self.ended:
            self._stdin_task = self._mux.spawn(self, self._feed(io, process_input))

    @property
    def ended(self) -> bool:
        """Whether the guest reported the end; output may still be on its way to its reader."""
        return self._reported is not None

    async def wait(self) -> int:
        """Return the exit status once the process ended and all its output was handed over."""
        await self._over.wait()
        if self.status is None:
            assert self.error is not None
            raise type(self.error)(str(self.error))
        return self.status

    def on_stdio(self, payload: bytes) -> None:
        """Take a frame of ``stdio``: output, then an empty one, then one with the status."""
        if not self._output_ended:
            if payload:
                self.stdout.take(payload)
            else:
                self._output_ended = True
                self._finish()
        elif len(payload) == 1 and not self._status_by_event:
            self.on_status(payload[0])
        elif payload:
            raise AgentProtocolError(
                f"the guest sent {len(payload)} bytes of stream {self.names.stdio} after that stream's end"
            )

    def on_stderr(self, payload: bytes) -> None:
        """Take a frame of ``stderr``."""
        if payload:
            self.stderr.take(payload)

    def on_status(self, status: int) -> None:
        """Note the exit status; it counts once all output was handed over."""
        self._reported = status
        self._stop_input()
        self._finish()

    def output_idle(self) -> None:
        """Learn from an output that it has handed over everything."""
        self._finish()

    def fail(self, error: AgentError) -> None:
        """End the wait for a process whose end cannot be learnt any more. Output that is here is still handed over."""
        if not (self._output_ended and self.ended):
            self.abandon(error)

    def abandon(self, error: AgentError) -> None:
        """End the wait for a process whatever is known of it."""
        if self.status is None:
            self.error = error
            self._stop_input()
            self._over.set()

    def _stop_input(self) -> None:
        if self._stdin_task is not None:
            self._stdin_task.cancel()

    def _finish(self) -> None:
        over = self._output_ended and self.ended and self.stdout.idle and self.stderr.idle
        if over and self.status is None:
            self.status = self._reported
            self._mux.forget(self)
            self._over.set()

    async def _feed(self, io: ProcessIO, process_input: Input) -> None:
        last = _END_OF_TRANSMISSION
        while data := await io.read_stdin():
            await process_input.write(data)
            last = data[-1:]
        if not self.names.terminal:
            self._mux.send(self.names.stdio)
        else:
            await process_input.write(_END_OF_TRANSMISSION * (1 if last in _LINE_ENDS else 2))


class DiscardIO(ProcessIO):
    """No input, and nobody reads the output."""

    has_input = False

    async def read_stdin(self) -> bytes:
        """Be at the end."""
        return b""

    async def write_stdout(self, data: bytes) -> None:
        """Drop it."""

    async def write_stderr(self, data: bytes) -> None:
        """Drop it."""
