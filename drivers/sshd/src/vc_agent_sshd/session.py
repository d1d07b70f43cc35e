"""One command in the guest: an SSH session, its streams and its exit code."""

from __future__ import annotations

import asyncio
import contextlib
import signal as signals
from collections.abc import Awaitable, Callable
from typing import Any

import asyncssh

from vc_agent_sshd.calls import SessionRefusedError
from vc_agent_sshd.connection import WINDOW
from vc_core.driver import ProcessIO, TerminalSize
from vc_core.errors import AgentConnectError, AgentProtocolError

#: Bytes read at once.
_CHUNK = 64 * 1024

#: Requests to the daemon that are answered without output between them, before the output of a command that has ended
#: counts as complete although processes that it left behind keep its streams open. The daemon sends the exit code
#: first and then what the command's pipes hold; it reads a pipe between the answers to two requests, whatever the load.
_ROUND_TRIPS = 3

#: A request that every daemon answers, if only by refusing it (OpenSSH's PROTOCOL, RFC 4254, section 4).
_PROBE = b"keepalive@openssh.com"

#: End of input on a terminal: the character ^D.
_END_OF_TRANSMISSION = b"\x04"

#: Most bytes of the first line of a command's output: a pid, or a reason.
_LINE_MAX = 4096

#: Most bytes of output of a command that :meth:`Session.output` reads.
_OUTPUT_MAX = 1024 * 1024

#: Exceptions of asyncssh when the connection of a session is lost.
_LOST = (asyncssh.Error, OSError)


class _Pieces(list[Any]):
    """Received data that waits for its reader, as asyncssh keeps it: bytes, or pairs of them and their stream.

    asyncssh appends what each packet held, and an object for one byte takes 56. Here what follows is added to the last
    piece, so that a server which sends single bytes cannot use more memory than one that sends as much at once.
    """

    def append(self, item: Any) -> None:
        if isinstance(item, bytes):
            if self and isinstance(self[-1], bytearray) and len(self[-1]) + len(item) <= _CHUNK:
                self[-1] += item
            else:
                super().append(bytearray(item))
        elif isinstance(item, tuple):
            data, stream = item
            last = self[-1] if self else None
            if last is not None and last[1] == stream and len(last[0]) + len(data) <= _CHUNK:
                last[0].extend(data)
            else:
                super().append((bytearray(data), stream))
        else:
            super().append(item)  # an exception, which the reader gets


class _Process(asyncssh.SSHClientProcess[bytes]):
    """Sets ``ended`` when the command ends, which is before its streams do."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = asyncio.Event()

    def connection_made(self, chan: Any) -> None:
        """Merge the packets that wait here, and in the channel while it is paused. Called by asyncssh."""
        super().connection_made(chan)
        # Nothing public of asyncssh bounds this: its windows count bytes of data, not of memory.
        chan._recv_buf = _Pieces(chan._recv_buf)
        for stream in self._recv_buf:
            self._recv_buf[stream] = _Pieces(self._recv_buf[stream])

    def exit_status_received(self, status: int) -> None:
        """Set ``ended``: the command has an exit code. Called by asyncssh."""
        self.ended.set()

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        """Set ``ended``: a signal ended the command. Called by asyncssh."""
        self.ended.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Set ``ended``: the session is lost. Called by asyncssh."""
        super().connection_lost(exc)
        self.ended.set()


class Session:
    """A command's SSH session. :meth:`start` makes one, :meth:`carry` moves its streams until it ends."""

    def __init__(self, ssh: asyncssh.SSHClientConnection, process: _Process, what: str, terminal: bool) -> None:
        self._ssh, self._process, self._what, self._terminal = ssh, process, what, terminal

    @classmethod
    async def start(
        cls, ssh: asyncssh.SSHClientConnection, what: str, line: str, terminal: TerminalSize | None = None
    ) -> Session:
        """Run a command line in the user's shell; ``what`` names it in errors.

        Raises AgentConnectError, SessionRefusedError.
        """
        size, process = terminal or TerminalSize(), _Process()
        try:
            await ssh.create_session(
                lambda: process,
                line,
                encoding=None,
                window=WINDOW,
                request_pty=terminal is not None,
                term_type="xterm" if terminal is not None else None,
                term_size=(size.columns, size.rows),
            )
        except _LOST as error:
            # The code of a refusal does not differ from that of a lost connection.
            if isinstance(error, asyncssh.ChannelOpenError) and not ssh.is_closed():
                raise SessionRefusedError(
                    f"cannot run {what}: the guest's SSH daemon opens no further session ({error}); raise MaxSessions "
                    "in its sshd_config, or end commands"
                ) from error
            raise AgentConnectError(f"cannot run {what}: the connection to the guest is lost: {error}") from error
        return cls(ssh, process, what, terminal is not None)

    async def first_line(self) -> str:
        """Return the first line of output without its newline, "" if there is none. Raises AgentError."""
        line = bytearray()
        try:
            while not line.endswith(b"\n"):
                # Not readuntil: it looks at a piece once, and here more is added to the last one.
                byte: bytes = await self._process.stdout.read(1)
                if not byte:
                    break
                line += byte
                if len(line) > _LINE_MAX:
                    raise AgentProtocolError(f"{self._what} does not begin with a line, but {bytes(line[:40])!r}")
        except _LOST as error:
            raise self._lost() from error
        return line.decode(errors="replace").rstrip("\r\n")

    async def output(self) -> bytes:
        """Return all output of a command that prints little. Raises AgentConnectError."""
        try:
            return bytes(await self._process.stdout.read(_OUTPUT_MAX))
        except _LOST as error:
            raise self._lost() from error

    async def error_output(self) -> str:
        """Return the first line of error output of a command that prints little. Raises AgentConnectError."""
        try:
            text = bytes(await self._process.stderr.read(_CHUNK)).decode(errors="replace")
        except _LOST as error:
            raise self._lost() from error
        return text.strip().split("\n")[0]

    def write(self, data: bytes) -> None:
        """Send the command's whole input."""
        self._process.stdin.write(data)
        self._process.stdin.write_eof()

    async def carry(self, io: ProcessIO, end_input: Callable[[], Awaitable[None]] | None = None) -> int:
        """Move the streams until the command has ended and its output was written; return its exit code.

        ``end_input`` is called when the input is at its end. Raises AgentConnectError when the connection is lost and
        what it brought is written.
        """
        process = self._process
        feeding = asyncio.create_task(self._feed_until_end(io, end_input))
        try:
            drained = await asyncio.gather(
                self._drain(process.stdout, io.write_stdout),
                self._drain(process.stderr, io.write_stderr),
                return_exceptions=True,
            )
            for error in filter(None, drained):
                raise error
            await process.ended.wait()
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
            self.close()
        return self.exit_code()

    async def wait(self) -> int:
        """Wait for the command's end and return its exit code. Raises AgentConnectError."""
        await self._process.ended.wait()
        self.close()
        return self.exit_code()

    def exit_code(self) -> int:
        """Return the exit code of a command that has ended. Raises AgentConnectError if the connection was lost."""
        status, killed = self._process.exit_status, self._process.exit_signal
        if killed is not None:
            number = getattr(signals, f"SIG{killed[0]}", None)
            return 128 + (number.value if isinstance(number, signals.Signals) else 0)
        if status is None or status < 0:
            raise self._lost()
        return status

    def resize(self, size: TerminalSize) -> None:
        """Set the terminal's size; does nothing if the command has just ended."""
        with contextlib.suppress(*_LOST):
            self._process.change_terminal_size(size.columns, size.rows)

    def close(self) -> None:
        """Close the session; the command runs on."""
        self._process.close()

    async def _feed_until_end(self, io: ProcessIO, end_input: Callable[[], Awaitable[None]] | None) -> None:
        """Take no input for a command that has ended: if only its connection was lost, the next one takes that."""
        feeding = asyncio.create_task(self._feed(io, end_input))
        try:
            await self._process.ended.wait()
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)

    async def _feed(self, io: ProcessIO, end_input: Callable[[], Awaitable[None]] | None) -> None:
        stdin = self._process.stdin
        with contextlib.suppress(*_LOST):
            while data := await io.read_stdin() if io.has_input else b"":
                stdin.write(data)
                await stdin.drain()
            if not self._terminal:
                stdin.write_eof()
            elif io.has_input:
                stdin.write(_END_OF_TRANSMISSION)
            if end_input is not None:
                await end_input()

    async def _drain(self, reader: asyncssh.SSHReader[bytes], write: Callable[[bytes], Awaitable[None]]) -> None:
        ended = self._process.ended
        end = asyncio.create_task(ended.wait())
        try:
            while True:
                read = asyncio.ensure_future(reader.read(_CHUNK))
                try:
                    await asyncio.wait({read, end}, return_when=asyncio.FIRST_COMPLETED)
                    if not read.done() and await self._is_silent(read):
                        return
                    data: bytes = read.result()
                except _LOST as error:
                    raise self._lost() from error
                finally:
                    read.cancel()
                    await asyncio.gather(read, return_exceptions=True)
                if not data:
                    return
                await write(data)
        finally:
            end.cancel()

    async def _is_silent(self, read: asyncio.Future[bytes]) -> bool:
        """Return whether a stream of a command that has ended is silent, although it is open; ``read`` waits for it."""
        for _ in range(_ROUND_TRIPS):
            await self._ssh._make_global_request(_PROBE)  # asyncssh has no public way to await an answer
            await asyncio.sleep(0)  # what came before the answer ends the read in the loop's next turn
            if read.done():
                return False
        return True

    def _lost(self) -> AgentConnectError:
        return AgentConnectError(f"the connection to the guest was lost while {self._what} ran")
