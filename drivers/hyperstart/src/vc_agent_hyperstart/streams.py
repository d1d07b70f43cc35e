"""The stream channel: every process' input and output, each stream held back only by its own reader."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from typing import Any

from vc_agent_hyperstart.channel import Channel
from vc_agent_hyperstart.codec import STREAM, StreamControl, StreamControlType
from vc_agent_hyperstart.guest_process import GuestProcess, Output
from vc_agent_hyperstart.replies import ProcessNames
from vc_agent_hyperstart.requests import STREAM_LIMIT
from vc_core.errors import AgentError, AgentProtocolError

#: Seconds that credit for a few bytes, and the release of an ended process, wait for a frame to travel with.
_LEISURE = 0.05

#: Bytes that may wait for a guest that does not read. Input waits before, so this is a mass of stream control frames.
_UNSENT_MAX = 1024 * 1024

#: Statuses kept of ended processes, the latest ones, for those who ask after the end.
_STATUSES_KEPT = 4096


class StreamChannel(Channel):
    """Sorts frames to their processes; the table of processes.

    ``credit`` is set once the guest has said that it keeps to windows. ``processes`` are those that have not ended,
    by their ``stdio``; ``statuses`` are those of the ones that ended last.
    """

    def __init__(self, on_lost: Callable[[AgentError], None], marker: bytes | None = None) -> None:
        super().__init__(STREAM, on_lost, marker)
        self.credit = False
        self.processes: dict[int, GuestProcess] = {}
        self.statuses: dict[int, int] = {}
        self._by_stderr: dict[int, GuestProcess] = {}
        self._held: set[Output] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        #: Control frames that wait to be sent, by stream: a later one of a stream makes the earlier one pointless.
        self._waiting: dict[int, StreamControl] = {}
        self._timer: asyncio.TimerHandle | None = None

    def new_numbers(self, *, terminal: bool) -> tuple[int, int]:
        """Return unused numbers for a process' ``stdio`` and ``stderr``; a terminal has no ``stderr`` of its own."""
        stdio = self._unused(0)
        return stdio, 0 if terminal else self._unused(stdio)

    def add(
        self, names: ProcessNames, *, status_by_event: bool = False, stdout_from: int = 0, stderr_from: int = 0
    ) -> GuestProcess:
        """Take frames for a process from now on. Its output waits for :meth:`GuestProcess.attach`.

        ``status_by_event``: its status will come on the control channel. ``stdout_from``, ``stderr_from``: bytes of
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
        """Take no more frames for a process."""
        self.processes.pop(process.names.stdio, None)
        self._by_stderr.pop(process.names.stderr, None)

    async def aclose(self) -> None:
        """Send what waits, close the channel, and end every process' traffic."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # What was handed over is told to the guest, so that the next host does not get it again.
        for process in self.processes.values():
            process.stdout.settle()
            process.stderr.settle()
        self._flush()
        await super().aclose()
        for process in list(self.processes.values()):
            process.abandon(self.failure())

    # What processes use.

    def send(self, sequence: int, payload: bytes | memoryview = b"") -> None:
        """Send a frame, and with it the control frames that wait."""
        if self.error is None:
            self._write(self._take_waiting() + STREAM.encode(sequence, payload))

    def control(self, kind: StreamControlType, stream: int, value: int, *, at_once: bool) -> None:
        """Send a stream control frame, at once or with the next frame (or soon)."""
        if self.error is not None:
            return
        self._waiting[stream] = StreamControl(kind, stream, value)
        if at_once:
            self._flush()
        elif self._timer is None:
            self._timer = self._loop.call_later(_LEISURE, self._flush)

    def hold(self, output: Output, held: bool) -> None:
        """Stop reading the channel while any output is held."""
        if held:
            self._held.add(output)
            self._transport.pause_reading()
        elif output in self._held:
            self._held.remove(output)
            if not self._held and self.error is None:
                self._transport.resume_reading()

    def spawn(self, process: GuestProcess, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a part of a process' traffic in a task; its failure fails the process."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._on_task_done(process, task))
        return task

    def forget(self, process: GuestProcess) -> None:
        """Note the status of a process that ended, and let the guest forget it."""
        assert process.status is not None
        self.remove(process)
        self.statuses[process.names.stdio] = process.status
        if len(self.statuses) > _STATUSES_KEPT:
            del self.statuses[next(iter(self.statuses))]
        if self.credit:
            self._waiting.pop(process.names.stderr, None)
            self.control(StreamControlType.RELEASE, process.names.stdio, 0, at_once=False)

    # The channel's side.

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
            self.fail(AgentProtocolError("the guest sends on the stream channel and does not read what it is answered"))

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
        # Anything else is for a process that this host does not know (any more).

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
