"""The host's ends of the streams of processes in the guest: descriptors from clients, terminals, and log files."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
import termios
import tty
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from vc_core.driver.agent import ProcessIO
from vc_core.engine.logs import ContainerLog
from vc_core.errors import ConfigError, VCError

#: Most bytes that one read takes (ProcessIO.read_stdin allows no more).
CHUNK = 64 * 1024


class FdReader:
    """Reads a process' input from a pipe, socket, terminal or file. Takes over the descriptor.

    Raises ConfigError for a descriptor of another kind, and closes it.
    """

    def __init__(self, fd: int) -> None:
        self._end = _End(fd, os.O_RDONLY)

    async def read(self) -> bytes:
        """Return the next bytes, empty at the end of input or after an error."""
        end = self._end
        try:
            if end.is_file:
                return await asyncio.to_thread(os.read, end.fd, CHUNK)
            while True:
                try:
                    if end.socket is not None:
                        return end.socket.recv(CHUNK, socket.MSG_DONTWAIT)
                    return os.read(end.fd, CHUNK)
                except BlockingIOError:
                    await ready(end.fd, writing=False)
        except OSError:
            return b""

    def close(self) -> None:
        """Close the descriptor. Idempotent."""
        self._end.close()


class FdWriter:
    """Writes a process' output to a pipe, socket, terminal or file. Takes over the descriptor.

    ``failure``: the errno of the write that failed, which was the last one; or 0.
    Raises ConfigError for a descriptor of another kind, and closes it.
    """

    def __init__(self, fd: int) -> None:
        self._end = _End(fd, os.O_WRONLY)
        self.broken = self._end.fd < 0
        self.failure = 0

    async def write(self, data: bytes) -> bool:
        """Write all of it; return False when it cannot be written: the reader has gone, or the disk is full."""
        end, view = self._end, memoryview(data)
        if self.broken and not self.failure:
            self.failure = errno.EPIPE  # the reader of the pipe had gone before the first write
        try:
            while view and not self.broken:
                try:
                    if end.is_file:
                        view = view[await asyncio.to_thread(os.write, end.fd, view) :]
                    elif end.socket is not None:
                        view = view[end.socket.send(view, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) :]
                    else:
                        view = view[os.write(end.fd, view) :]
                except BlockingIOError:
                    await ready(end.fd, writing=True)
        except OSError as error:
            self.broken, self.failure = True, error.errno or errno.EIO
        return not self.broken

    def close(self) -> None:
        """Close the descriptor. Idempotent."""
        self.broken = True
        self._end.close()


class _End:
    """A descriptor, prepared for an event loop without a change to the open file description that the caller shares.

    Making one closes the descriptor if it fails. Raises ConfigError for what is no stream, OSError.
    """

    def __init__(self, fd: int, mode: int) -> None:
        self.socket: socket.socket | None = None
        self.fd = fd
        try:
            kind = os.fstat(fd).st_mode
            self.is_file = stat.S_ISREG(kind)
            if stat.S_ISSOCK(kind):
                self.socket = socket.socket(fileno=fd)
            elif stat.S_ISFIFO(kind) or os.isatty(fd):
                self.fd = _open_anew(fd, mode)
                os.close(fd)
            elif not self.is_file:
                raise ConfigError("a stream must be a pipe, a socket, a terminal or a regular file")
        except BaseException:
            os.close(fd)
            raise

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
        elif self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


def _open_anew(fd: int, mode: int) -> int:
    """Return another open file description of a pipe or terminal, because O_NONBLOCK belongs to that, and is shared.

    Returns -1 for one whose other end has gone. Raises ConfigError without the right to open it, OSError when there is
    no room for another one.
    """
    try:
        return os.open(f"/proc/self/fd/{fd}", mode | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except PermissionError as error:
        raise ConfigError("a stream is a pipe or terminal that this user may not open") from error
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        return -1  # ENXIO of a pipe, EIO of a terminal


async def ready(fd: int, writing: bool) -> None:
    """Wait until a descriptor can be read, or with ``writing`` written."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    add, remove = (loop.add_writer, loop.remove_writer) if writing else (loop.add_reader, loop.remove_reader)

    def wake() -> None:
        if not future.done():
            future.set_result(None)

    add(fd, wake)
    try:
        await future
    finally:
        remove(fd)


class SharedInput:
    """The input that clients give who attach to a process, one after the other or at once."""

    def __init__(self) -> None:
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue(maxsize=1)

    async def read(self) -> bytes:
        """Return the next piece of any client, empty at the end of the input."""
        return await self._pieces.get()

    async def take(self, io: ProcessIO, ends: bool) -> None:
        """Pass on what a client gives, until its end; with ``ends`` that is the end of the process' input."""
        while data := await io.read_stdin():
            await self._pieces.put(data)
        if ends:
            await self._pieces.put(b"")


class ClosableIO(ProcessIO):
    """A process' streams on the host, which own descriptors."""

    @property
    def shared_input(self) -> SharedInput | None:
        """Where clients that attach now give input; None for a process that takes none from them."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Release the descriptors. Idempotent."""


class LoggedIO(ClosableIO):
    """The streams of a detached container: no input, output to its log.

    ``taken`` is the log's: for a container that is taken over, what the former owner logged.
    """

    def __init__(self, log: ContainerLog, keep_stdin_open: bool = False) -> None:
        self._log, self._keep_stdin_open = log, keep_stdin_open
        self.has_input = keep_stdin_open
        self.taken = log.taken
        self._shared_input = SharedInput()

    @property
    def shared_input(self) -> SharedInput | None:
        """See :class:`ClosableIO`."""
        return self._shared_input if self._keep_stdin_open else None

    async def read_stdin(self) -> bytes:
        """Return the end of input; with ``keep_stdin_open`` what clients give who attach."""
        return await self._shared_input.read() if self._keep_stdin_open else b""

    async def write_stdout(self, data: bytes) -> None:
        """Log output."""
        self._log.write(data, 0)

    async def write_stderr(self, data: bytes) -> None:
        """Log error output."""
        self._log.write(data, 1)

    def close(self) -> None:
        """Close the log. Idempotent."""
        self._log.close()


class AttachedIO(ClosableIO):
    """The streams of a process in a client's foreground.

    All output is written to ``log`` too, if there is one, after the client took it. ``on_broken`` is called once for
    each of the two outputs, when a write to it fails.
    """

    def __init__(
        self,
        stdin: FdReader | None,
        stdout: FdWriter | None,
        stderr: FdWriter | None,
        log: ContainerLog | None = None,
    ) -> None:
        self._stdin, self._stdout, self._stderr, self._log = stdin, stdout, stderr, log
        self.has_input = stdin is not None
        #: Called once for the output (False) and once for the error output (True) when it has no reader any more.
        self.on_broken: Callable[[bool], None] | None = None
        self._reported: set[int] = set()
        self._detached = False
        self._shared_input = SharedInput()

    @property
    def shared_input(self) -> SharedInput | None:
        """See :class:`ClosableIO`; a process takes input of others when its first client has detached."""
        return self._shared_input if self._detached and self.has_input else None

    @property
    def output_failure(self) -> int:
        """The errno of a write that failed, or 0; what is not a lost reader counts first."""
        failures = [one.failure for one in (self._stdout, self._stderr) if one is not None and one.failure]
        return next((one for one in failures if one != errno.EPIPE), errno.EPIPE if failures else 0)

    async def read_stdin(self) -> bytes:
        """Return the next input; after the client detached that of others, so that the process gets no end of it."""
        data = await self._stdin.read() if self._stdin and not self._detached else b""
        return await self._shared_input.read() if not data and self._detached else data

    async def write_stdout(self, data: bytes) -> None:
        """Write output."""
        await self._write(self._stdout, data, 0)

    async def write_stderr(self, data: bytes) -> None:
        """Write error output."""
        await self._write(self._stderr, data, 1)

    def detach(self) -> None:
        """Let the process run on without the client, whose ends of the streams may go now."""
        self._detached, self.on_broken = True, None

    async def _write(self, output: FdWriter | None, data: bytes, stream: int) -> None:
        broken = output is not None and not await output.write(data)
        if broken and self.on_broken is not None and stream not in self._reported:
            self._reported.add(stream)
            self.on_broken(stream == 1)
        if self._log is not None:
            self._log.write(data, stream)

    def close(self) -> None:
        """Close all descriptors. Idempotent."""
        for end in (self._stdin, self._stdout, self._stderr, self._log):
            if end is not None:
                end.close()


class ConsoleIO(AttachedIO):
    """The streams of a process on a terminal of the caller, in raw mode meanwhile: the guest's terminal edits lines."""

    def __init__(self, path: str, log: ContainerLog | None = None) -> None:
        """Open the terminal, once for each direction; ``log`` is closed with it. Raises ConfigError."""
        ends: list[int] = []
        opened: list[Any] = [] if log is None else [log]
        try:
            for mode in (os.O_RDONLY, os.O_WRONLY):
                ends.append(os.open(path, mode | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC))
            ends.append(os.dup(ends[0]))  # for close() to restore the modes
            for end in (FdReader, FdWriter):
                opened.append(end(ends.pop(0)))
            self._modes = termios.tcgetattr(ends[0])
            tty.setraw(ends[0], termios.TCSADRAIN)
        except (OSError, VCError, termios.error) as error:
            for fd in ends:
                os.close(fd)
            for one in opened:
                one.close()
            if isinstance(error, VCError):
                raise
            why = error.strerror if isinstance(error, OSError) else "it is not a terminal"
            raise ConfigError(f"console {path!r} cannot be used: {why}") from error
        self._terminal: int | None = ends[0]
        reader, writer = opened[-2:]
        super().__init__(reader, writer, None, log)

    def close(self) -> None:
        """Restore the terminal's modes. Idempotent."""
        super().close()
        if self._terminal is not None:
            with suppress(termios.error):  # the caller has closed the terminal
                termios.tcsetattr(self._terminal, termios.TCSADRAIN, self._modes)
            os.close(self._terminal)
            self._terminal = None
