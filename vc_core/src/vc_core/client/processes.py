"""Commands that run beside their caller: their streams and their end, as operations."""

from __future__ import annotations

import io
import os
import subprocess
import time
from collections.abc import Callable, Sequence

from vc_core.client import container_sources
from vc_core.client.connect import connect
from vc_core.client.containers import check_command, record_to_enter
from vc_core.client.foreground import with_output
from vc_core.client.interpreters import Operation, Ready
from vc_core.client.link import Link, final_reply, result
from vc_core.client.starting import Starting
from vc_core.client.stdio import Output, Stdio
from vc_core.config.container import Cmd
from vc_core.config.signals import number
from vc_core.config.values import check_timeout, quoted
from vc_core.driver.terminal import TerminalSize
from vc_core.errors import CommandTimeoutError, ConfigError, StateError
from vc_core.states import Action
from vc_core.store.records import PodRecord
from vc_core.store.status import effective_record, require
from vc_core.store.store import Store
from vc_core.supervisor.messages import (
    Answer,
    Control,
    Detach,
    Exec,
    Failure,
    Resize,
    Signal,
    Start,
    StartContainer,
    Started,
    Streams,
)

_CHUNK = 64 * 1024

#: Most rows and columns of a terminal (ioctl_tty(2), struct winsize).
_EXTENT_MAX = 65535


class Reader:
    """The caller's end of a pipe from which it reads what a command writes."""

    def __init__(self, fd: int) -> None:
        self.file: io.FileIO = io.FileIO(fd, "r")  # closes the descriptor when nothing refers to it any more
        self._buffer = bytearray()
        os.set_blocking(fd, False)

    def read(self, size: int = -1) -> Operation[bytes]:
        """Return what is there, ``size`` bytes at most, or all until the end for -1; b"" at the end."""
        while (size < 0 or not self._buffer) and size and (yield from self._fill()):
            pass
        return self._take(len(self._buffer) if size < 0 else size)

    def readline(self, size: int = -1) -> Operation[bytes]:
        """Return the next line with its end, ``size`` bytes at most unless that is -1; b"" at the end."""
        while True:
            end = self._buffer.find(b"\n") + 1 or len(self._buffer)
            if self._buffer[end - 1 : end] == b"\n" or 0 <= size <= end or not (yield from self._fill()):
                return self._take(end if size < 0 else min(size, end))

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _fill(self) -> Operation[bool]:
        """Wait for data and keep it; return False at the end. Raises ValueError after :meth:`close`."""
        while True:
            data = self.file.read(_CHUNK)
            if data is not None:
                self._buffer += data
                return bool(data)
            yield Ready(read=[self.file.fileno()])

    def close(self) -> None:
        """Read no more: a command that goes on to write gets SIGPIPE. Idempotent."""
        self.file.close()


class Writer:
    """The caller's end of a pipe into which it writes what a command reads."""

    def __init__(self, fd: int) -> None:
        self.file: io.FileIO = io.FileIO(fd, "w")
        os.set_blocking(fd, False)

    def write(self, data: bytes) -> Operation[None]:
        """Write all of it. Raises BrokenPipeError when the command reads no more, ValueError after :meth:`close`."""
        view = memoryview(data)
        while view:
            written = self.file.write(view[:_CHUNK])
            if written is None:
                yield Ready(write=[self.file.fileno()])
            else:
                view = view[written:]

    def close(self) -> None:
        """End the command's input. Idempotent."""
        self.file.close()


class Running:
    """A command that runs: its ends of streams, where they are pipes, and its connection.

    ``what``: its program and where it runs, for its text. ``started``: whether it was executed, as far as was seen.
    """

    def __init__(
        self, what: str, link: Link, stdin: Writer | None, stdout: Reader | None, stderr: Reader | None
    ) -> None:
        self._what, self._link = what, link
        self.stdin: Writer | None = stdin
        self.stdout: Reader | None = stdout
        self.stderr: Reader | None = stderr
        self.started: bool = False
        self._final: Answer | Failure | None = None
        self._closed = False

    def __str__(self) -> str:
        """Return its command, where it runs, and as far as is known what became of it."""
        if isinstance(self._final, Answer):
            return f"{self._what}, exit code {self._final.exit_code}"
        return f"{self._what}, {'failed' if self._final else 'closed' if self._closed else 'running'}"

    def begin(self) -> Operation[None]:
        """Return once the command runs, or has ended. Raises what keeps it from running."""
        while self._final is None:
            reply = yield from self._link.receive(None)
            self._final = final_reply(reply, None)
            if isinstance(reply, Started):
                self.started = True
                return
        if isinstance(self._final, Failure):
            result(self._final)

    def poll(self) -> int | None:
        """Return the exit code of a command that has ended, else None. Raises as :meth:`wait`."""
        while self._final is None:
            if self._closed:
                raise ValueError("the process was closed")
            reply = self._link.poll()
            if reply is None:
                return None
            self._final = final_reply(reply, None)
        return with_output(result(self._final), 0).code

    def wait(self, timeout: float | None) -> Operation[int]:
        """Return the exit code once the command has ended. Raises CommandTimeoutError; the command then goes on."""
        check_timeout(timeout, zero=True)
        deadline = None if timeout is None else time.monotonic() + timeout
        if (code := self.poll()) is not None:
            return code
        fd = os.dup(self._link.sock.fileno())  # so that several may wait at once: an event loop has one of a number
        try:
            while (code := self.poll()) is None:
                if not (yield Ready(read=[fd], deadline=deadline)) and deadline is not None:
                    raise CommandTimeoutError(f"the command did not end in {timeout} s; it goes on")
        finally:
            os.close(fd)
        return code

    def kill(self, signal: int | str) -> Operation[None]:
        """Send a signal, unless the command has ended. Raises ConfigError for one that does not exist."""
        yield from self._send(Signal(number=number(signal)))

    def resize(self, rows: int, columns: int) -> Operation[None]:
        """Set the size of the command's terminal, unless it has ended."""
        yield from self._send(Resize(size=_terminal_size((rows, columns))))

    def _send(self, message: Control) -> Operation[None]:
        unsent = [message]
        while self.poll() is None and (unsent := self._link.offer(unsent)):
            yield Ready(write=[self._link.sock.fileno()])

    def detach(self) -> Operation[None]:
        """Leave a command that has not ended to itself, and close the streams: it goes on without its caller.

        Raises what :meth:`wait` raises, and ValueError for one that was closed.
        """
        if self.poll() is not None:
            return
        yield from self._send(Detach())
        final: Answer | Failure | None = None
        while final is None:
            final = final_reply((yield from self._link.receive(None)), None)
        yield from self.close()
        result(final)

    def hand_over(self) -> Operation[int]:
        """Return the connection as a descriptor for another process, and close this end of it: the command goes on.

        Raises StateError for one that has ended, as far as it was looked, ValueError for one that was closed.
        """
        if self._closed:
            raise ValueError("the process was closed")
        if self._final is not None:
            raise StateError("the process has ended; poll returns its exit code")
        fd = os.dup(self._link.sock.fileno())
        yield from self.close()
        return fd

    def close(self) -> Operation[None]:
        """Close the streams, and kill a command and its session if it has not ended. Idempotent."""
        for end in (self.stdin, self.stdout, self.stderr):
            if end is not None:
                end.close()
        if not self._closed:
            self._closed = True
            yield from self._link.close()


def open_process(
    pod_id: str,
    container_id: str,
    cmd: Cmd,
    stdin: Output,
    stdout: Output,
    stderr: Output,
    terminal: tuple[int, int] | None,
) -> Operation[Running]:
    """Start a command in a running container, or in the pod itself for an empty id; return it once it runs.

    Raises PodNotFoundError, ContainerNotFoundError, StateError, ConfigError, CommandError, SupervisorLostError.
    """
    store = Store.here()
    check_command(cmd, None)
    record = record_to_enter(store, pod_id, container_id)

    def request(streams: Streams) -> Exec:
        return Exec(container=container_id, cmd=cmd, streams=streams)

    what = f"{cmd.args[0]!r} in {pod_id}{'/' if container_id else ''}{container_id}"
    return (yield from open_with_streams(store, record, what, request, stdin, stdout, stderr, terminal))


def open_container(
    pod_id: str, container_id: str, stdin: Output, stdout: Output, stderr: Output, terminal: tuple[int, int] | None
) -> Operation[Running]:
    """Start a container of a running pod; return its main process once it runs.

    Raises PodNotFoundError, ContainerNotFoundError, StateError, ConfigError, CommandError, SupervisorLostError.
    """
    store = Store.here()
    record = effective_record(store.read(pod_id))
    require(record, Action.START_CONTAINER, container_id)

    with container_sources.passed(store, record, container_id) as sources:

        def request(streams: Streams) -> StartContainer:
            return StartContainer(container=container_id, streams=streams, sources=len(sources))

        what = f"the main process of {pod_id}/{container_id}"
        return (yield from open_with_streams(store, record, what, request, stdin, stdout, stderr, terminal, sources))


def open_with_streams(
    store: Store,
    record: PodRecord,
    what: str,
    make_request: Callable[[Streams], Exec | Start | StartContainer],
    stdin: Output,
    stdout: Output,
    stderr: Output,
    terminal: tuple[int, int] | None,
    sources: Sequence[int] = (),
    early: Starting | None = None,
) -> Operation[Running]:
    """Send a request that starts a process with these streams; return it once it runs.

    ``sources``: descriptors that go after those of the streams. ``early``: the supervisor of a pod that this starts.
    """
    size = None if terminal is None else _terminal_size(terminal)
    ours: list[Reader | Writer | None] = []
    passed: list[int] = []
    stdio: Stdio | None = None
    started = False
    try:
        theirs = [_end(one, make, ours, passed) for one, make in ((stdin, Writer), (stdout, Reader), (stderr, Reader))]
        stdio = Stdio(theirs[0], theirs[1], theirs[2], pass_terminals=True)
        if stdio.reading or stdio.writing:
            raise ConfigError(
                "a stream is neither a pipe, a socket, a file nor a terminal of this user; "
                "give PIPE and copy what passes"
            )
        link = yield from connect(store, record, to_start=early is not None, early=early)
        running = Running(what, link, *ours)  # type: ignore[arg-type] # of the kinds that are made above
        try:
            streams = Streams(passed=stdio.passed, terminal=size)
            link.send(make_request(streams), [*stdio.fds, *sources])
            yield from running.begin()
            started = True
        finally:
            if not started:
                yield from running.close()
        return running
    finally:
        if stdio is not None:
            stdio.close()
        for fd in passed:
            os.close(fd)
        if not started:
            for end in ours:
                if end is not None:
                    end.close()


def _end(
    wanted: Output, make: Callable[[int], Reader | Writer], ours: list[Reader | Writer | None], passed: list[int]
) -> Output:
    """Return what a stream is connected to; of a pipe that is made for it, the caller's end is added to ``ours``."""
    if wanted != subprocess.PIPE:
        ours.append(None)
        return subprocess.DEVNULL if wanted is None else wanted
    reader, writer = os.pipe()
    own, other = (writer, reader) if make is Writer else (reader, writer)
    passed.append(other)
    ours.append(make(own))
    return other


def _terminal_size(given: object) -> TerminalSize:
    """Return the size of a terminal, given as rows and columns. Raises ConfigError."""
    if not isinstance(given, tuple | list) or len(given) != 2 or not all(map(_is_extent, given)):
        raise ConfigError(
            f"the size of the terminal is {quoted(given)}; give two whole numbers, rows and columns, from 0 to "
            f"{_EXTENT_MAX}"
        )
    return TerminalSize(*given)


def _is_extent(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= _EXTENT_MAX
