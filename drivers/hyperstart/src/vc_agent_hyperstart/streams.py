"""The stream channel: input and output of all processes, with flow control for each stream."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from typing import Any

from vc_agent_hyperstart.channel import Channel
from vc_agent_hyperstart.codec import STREAM, StreamControl, StreamControlType
from vc_agent_hyperstart.guest_process import FlowControlledOutput, GuestProcess
from vc_agent_hyperstart.replies import ProcessNames
from vc_agent_hyperstart.requests import STREAM_LIMIT
from vc_core.errors import AgentError, AgentProtocolError

#: Seconds that credit for a few bytes, and the release of an ended process, wait for a frame to be sent with.
_COALESCE = 0.05

#: Most bytes that wait for a guest that does not read. Input has windows, so these are stream control frames.
_UNSENT_MAX = 1024 * 1024

#: Exit statuses that are kept of the latest processes that ended, for a wait that comes after the end.
_STATUSES_KEPT = 4096


class StreamChannel(Channel):
    """Passes frames to their processes.

    ``credit`` is set once the guest has answered HELLO, which means that it has windows. ``processes`` are those that
    have not ended, ``statuses`` the exit statuses of those that ended last, both by ``stdio``.
    """

    def __init__(self, on_lost: Callable[[AgentError], None], marker: bytes | None = None) -> None:
        super().__init__(STREAM, on_lost, marker)
        self.credit = False
        self.processes: dict[int, GuestProcess] = {}
        self.statuses: dict[int, int] = {}
        self._by_stderr: dict[int, GuestProcess] = {}
        self._held: set[FlowControlledOutput] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        #: Control frames that wait to be sent, by stream: a later frame replaces an earlier one.
        self._waiting: dict[int, StreamControl] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._hurries = False

    def hurry(self) -> None:
        """Send what waits, and from now on every control frame at once: the guest is about to end."""
        self._hurries = True
        self._flush()

    def new_numbers(self, *, terminal: bool) -> tuple[int, int]:
        """Return unused numbers for a process' ``stdio`` and ``stderr``; a terminal has no ``stderr`` of its own."""
        stdio = self._unused(0)
        return stdio, 0 if terminal else self._unused(stdio)

    def add(
        self, names: ProcessNames, *, status_by_event: bool = False, stdout_from: int = 0, stderr_from: int = 0
    ) -> GuestProcess:
        """Pass frames to a new process from now on. Its output is buffered until :meth:`GuestProcess.attach`.

        ``status_by_event``: its status arrives on the control channel. ``stdout_from``, ``stderr_from``: bytes of
        its output that a former host took.
        """
        process = GuestProcess(
            self, names, status_by_event=status_by_event, stdout_from=stdout_from, stderr_from=stderr_from
        )
        self.processes[names.stdio] = process
        if names.stderr:
            self._by_stderr[names.stderr] = process
        return process

    def remove(self, process: GuestProcess) -> None:
        """Drop further frames of a process."""
        self.processes.pop(process.names.stdio, None)
        self._by_stderr.pop(process.names.stderr, None)

    async def aclose(self) -> None:
        """Send what waits, close the channel, and make waiting for a process raise AgentConnectError."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Credit for what was written, so that the guest does not send it to the next host again.
        for process in self.processes.values():
            process.stdout.settle()
            process.stderr.settle()
        self._flush()
        await super().aclose()
        for process in list(self.processes.values()):
            process.abandon(self.failure())

    # Called by processes.

    def send(self, sequence: int, payload: bytes | memoryview = b"") -> None:
        """Send the control frames that wait, and a frame."""
        if self.error is None:
            self._write(self._take_waiting() + STREAM.encode(sequence, payload))

    def control(self, kind: StreamControlType, stream: int, value: int, *, at_once: bool) -> None:
        """Send a stream control frame, at once or with the next frame, after ``_COALESCE`` at the latest."""
        if self.error is not None:
            return
        self._waiting[stream] = StreamControl(kind, stream, value)
        if at_once or self._hurries:
            self._flush()
        elif self._timer is None:
            self._timer = self._loop.call_later(_COALESCE, self._flush)

    def hold(self, output: FlowControlledOutput, held: bool) -> None:
        """Pause reading the channel while any output is held."""
        if held:
            self._held.add(output)
            self._transport.pause_reading()
        elif output in self._held:
            self._held.remove(output)
            if not self._held and self.error is None:
                self._transport.resume_reading()

    def spawn(self, process: GuestProcess, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine of a process in a task; an exception in it fails the process."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._on_task_done(process, task))
        return task

    def forget(self, process: GuestProcess) -> None:
        """Store the status of a process that has ended, and send RELEASE for it."""
        assert process.status is not None
        self.remove(process)
        self.statuses[process.names.stdio] = process.status
        if len(self.statuses) > _STATUSES_KEPT:
            del self.statuses[next(iter(self.statuses))]
        if self.credit:
            self._waiting.pop(process.names.stderr, None)
            self.control(StreamControlType.RELEASE, process.names.stdio, 0, at_once=False)

    # The channel.

    def _unused(self, other: int) -> int:
        number = 0
        while number in (0, other) or number in self.processes or number in self._by_stderr:
            number = secrets.randbelow(STREAM_LIMIT)
        return number

    def _take_waiting(self) -> bytes:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        frames = b"".join(control.encode() for control in self._waiting.values())
        self._waiting.clear()
        return frames

    def _flush(self) -> None:
        frames = self._take_waiting()
        if frames and self.error is None:
            self._write(frames)

    def _write(self, frames: bytes) -> None:
        self._transport.write(frames)
        if self._transport.get_write_buffer_size() > _UNSENT_MAX:
            self.fail(AgentProtocolError("the guest sends on the stream channel and does not read the answers"))

    def _on_task_done(self, process: GuestProcess, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            if not isinstance(error, AgentError):
                container = process.names.container
                error = AgentError(f"a reader or writer of a process in container {container!r} failed: {error!r}")
            process.abandon(error)

    def _on_frame(self, key: int, payload: bytes) -> None:
        if (process := self.processes.get(key)) is not None:
            process.on_stdio(payload)
        elif (process := self._by_stderr.get(key)) is not None:
            process.on_stderr(payload)
        elif key == 0 and self.credit:
            self._on_control(StreamControl.decode(payload))
        # Any other frame is of a process that was removed, or started by a former host.

    def _on_control(self, control: StreamControl) -> None:
        process = self.processes.get(control.stream)
        if control.type is StreamControlType.CREDIT and process is not None and process.input is not None:
            process.input.credit(control.value)

    def _on_failed(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for process in list(self.processes.values()):
            process.fail(self.failure())
            if process.error is not None:
                self.remove(process)
