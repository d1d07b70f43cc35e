"""One process in the guest: flow control of its output and input, and its exit status."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from vc_agent_hyperstart.codec import StreamControlType
from vc_agent_hyperstart.replies import ProcessNames
from vc_core.driver import ProcessIO
from vc_core.errors import AgentError, AgentProtocolError

#: Bytes that may be sent and not consumed, per direction and stream (guest-protocol.md, Credit).
WINDOW = 524288

#: Credit for this many consumed bytes is sent at once, for fewer with the next frame (see ``streams.py``).
_CREDIT_STEP = 131072

#: Most bytes of input in one frame: to a guest with windows, and to an original, whose buffer for input has this size.
_PAYLOAD_MAX = 32768
_ORIGINAL_PAYLOAD_MAX = 512

#: An original has no windows. With more unwritten bytes of one stream than this, the whole channel is not read.
ORIGINAL_UNREAD_MAX = 1024 * 1024

#: End of input on a terminal: the character ^D at the start of a line. Within a line it only ends a read early.
_END_OF_TRANSMISSION = b"\x04"
_LINE_ENDS = b"\n\r\x04"


class Multiplexer(Protocol):
    """The stream channel, as a process uses it."""

    credit: bool  #: the guest has windows

    def send(self, sequence: int, payload: bytes | memoryview = b"") -> None:
        """Send a frame."""

    async def drained(self) -> None:
        """Return once the channel has room for more."""

    def control(self, kind: StreamControlType, stream: int, value: int, *, at_once: bool) -> None:
        """Send a stream control frame, at once or with the next frame."""

    def hold(self, output: FlowControlledOutput, held: bool) -> None:
        """Pause reading the channel while any output is held."""

    def spawn(self, process: GuestProcess, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine of a process in a task; an exception in it fails the process."""

    def forget(self, process: GuestProcess) -> None:
        """Drop further frames of a process that has ended, and store its status."""


class FlowControlledOutput:
    """The output of a process on one stream: buffered until it is written, then acknowledged with credit.

    ``offset``: bytes of the stream that a former host took.
    """

    def __init__(self, process: GuestProcess, mux: Multiplexer, sequence: int, offset: int = 0) -> None:
        self._process = process
        self._mux = mux
        self.sequence = sequence
        #: Bytes since the process' start. ``_urged``: those consumed for which credit was sent at once.
        self._received = self._consumed = self._credited = self._urged = offset
        #: Received and not yet being written: one buffer, as each byte may have come in a frame of its own.
        self._pending = bytearray()
        self._write: Callable[[bytes], Coroutine[Any, Any, None]] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether everything received was written."""
        return not self._pending and self._task is None

    @property
    def position(self) -> int:
        """Bytes of the stream received so far."""
        return self._received

    def skip_to(self, position: int) -> None:
        """Count as received what a former host wrote without sending credit. Called before any output arrives."""
        self._received = self._consumed = self._credited = max(self._received, position)

    def attach(self, write: Callable[[bytes], Coroutine[Any, Any, None]]) -> None:
        """Write with ``write`` what is buffered and what arrives from now on."""
        self._write = write
        self._start()

    def take(self, payload: bytes) -> None:
        """Buffer output from the channel. Raises AgentProtocolError when the guest exceeds the window."""
        self._received += len(payload)
        if self._mux.credit:
            if self._received - self._credited > WINDOW:
                raise AgentProtocolError(
                    f"the guest sent {self._received - self._credited} bytes of stream {self.sequence} "
                    f"without credit; {WINDOW} at most"
                )
        elif self._received - self._consumed > ORIGINAL_UNREAD_MAX:
            self._mux.hold(self, True)
        self._pending += payload
        self._start()

    def _start(self) -> None:
        if self._pending and self._task is None and self._write is not None:
            self._task = self._mux.spawn(self._process, self._write_all(self._write))

    async def _write_all(self, write: Callable[[bytes], Coroutine[Any, Any, None]]) -> None:
        while self._pending:
            data = bytes(self._pending)
            self._pending = bytearray()
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
        """Send credit for all that was written."""
        if self._mux.credit and self._consumed > self._credited:
            self._credit(at_once=False)

    def _credit(self, *, at_once: bool) -> None:
        self._credited = self._consumed
        self._mux.control(StreamControlType.CREDIT, self.sequence, self._consumed, at_once=at_once)


class FlowControlledInput(ABC):
    """Sends a process' input no faster than the guest can buffer it."""

    def credit(self, consumed: int) -> None:  # noqa: B027 - an original sends none
        """Count bytes that the process has consumed since its start. Raises AgentProtocolError."""

    @abstractmethod
    async def write(self, data: bytes) -> None:
        """Send input, and return once all of it was sent."""


class CreditedInput(FlowControlledInput):
    """Input within the window of a guest that sends credit."""

    def __init__(self, mux: Multiplexer, sequence: int, received: int = 0, consumed: int = 0) -> None:
        self._mux = mux
        self._sequence = sequence
        self._sent = received
        self._consumed = consumed
        self._room = asyncio.Event()

    def credit(self, consumed: int) -> None:
        """Open the window to ``consumed`` bytes since the start. Raises AgentProtocolError for more than was sent."""
        if consumed > self._sent:
            raise AgentProtocolError(
                f"the guest consumed {consumed} bytes of stream {self._sequence}, but only {self._sent} were sent"
            )
        self._consumed = max(self._consumed, consumed)
        self._room.set()

    async def write(self, data: bytes) -> None:
        """Send input as the window has room for it."""
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


class PacedInput(FlowControlledInput):
    """Input for an original, which drops what its buffer has no room for: small pieces, each followed by a ping."""

    def __init__(self, mux: Multiplexer, sequence: int, ping: Callable[[], Awaitable[object]]) -> None:
        self._mux = mux
        self._sequence = sequence
        self._ping = ping

    async def write(self, data: bytes) -> None:
        """Send input in pieces, with a round trip after each."""
        view = memoryview(data)
        while view:
            self._mux.send(self._sequence, view[:_ORIGINAL_PAYLOAD_MAX])
            await self._ping()
            view = view[_ORIGINAL_PAYLOAD_MAX:]


class GuestProcess:
    """A process in the guest, from the choice of its stream numbers to its exit status.

    ``status`` is set once the process has ended and all output was written, ``error`` once neither can happen.
    """

    def __init__(
        self, mux: Multiplexer, names: ProcessNames, *, status_by_event: bool, stdout_from: int, stderr_from: int
    ) -> None:
        self.names = names
        self.status: int | None = None
        self.error: AgentError | None = None
        self.stdout = FlowControlledOutput(self, mux, names.stdio, stdout_from)
        self.stderr = FlowControlledOutput(self, mux, names.stderr, stderr_from)
        self.input: FlowControlledInput | None = None
        self._mux = mux
        self._status_by_event = status_by_event
        self._output_ended = False
        self._reported: int | None = None
        self._stdin_task: asyncio.Task[None] | None = None
        self._over = asyncio.Event()

    def attach(self, io: ProcessIO, process_input: FlowControlledInput | None) -> None:
        """Attach streams. ``process_input`` is None if the process' input has ended already."""
        self.stdout.attach(io.write_stdout)
        self.stderr.attach(io.write_stderr)
        self.input = process_input
        if process_input is not None and not self.ended:
            self._stdin_task = self._mux.spawn(self, self._feed(io, process_input))

    @property
    def ended(self) -> bool:
        """Whether the guest has reported the exit status; output may still be buffered."""
        return self._reported is not None

    async def wait(self) -> int:
        """Return the exit status once the process has ended and all output was written. Raises AgentError."""
        await self._over.wait()
        if self.status is None:
            assert self.error is not None
            raise type(self.error)(str(self.error))
        return self.status

    def on_stdio(self, payload: bytes) -> None:
        """Handle a frame of ``stdio``: output, then an empty frame, then one with the status.

        Raises AgentProtocolError.
        """
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
        """Handle a frame of ``stderr``. Raises AgentProtocolError."""
        if payload:
            self.stderr.take(payload)

    def on_status(self, status: int) -> None:
        """Store the exit status that the guest reports; :meth:`wait` returns it once all output was written."""
        self._reported = status
        self._stop_input()
        self._finish()

    def output_idle(self) -> None:
        """Check for the end. Called by an output that has written everything."""
        self._finish()

    def fail(self, error: AgentError) -> None:
        """Make :meth:`wait` raise ``error``, unless status and output have arrived; what has is still written."""
        if not (self._output_ended and self.ended):
            self.abandon(error)

    def abandon(self, error: AgentError) -> None:
        """Make :meth:`wait` raise ``error``, unless it has returned a status already."""
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

    async def _feed(self, io: ProcessIO, process_input: FlowControlledInput) -> None:
        last = _END_OF_TRANSMISSION
        while data := await io.read_stdin():
            await process_input.write(data)
            last = data[-1:]
        if not self.names.terminal:
            self._mux.send(self.names.stdio)
        else:
            await process_input.write(_END_OF_TRANSMISSION * (1 if last in _LINE_ENDS else 2))


class DiscardIO(ProcessIO):
    """No input, and output is dropped."""

    has_input = False

    async def read_stdin(self) -> bytes:
        """Return the end of input."""
        return b""

    async def write_stdout(self, data: bytes) -> None:
        """Drop the data."""

    async def write_stderr(self, data: bytes) -> None:
        """Drop the data."""
