"""The caller's end of a command's streams: what may be given as stdin, stdout and stderr, and how it is carried.

Pipes, sockets and regular files are passed to the supervisor, which reads and writes them without this process.
Bytes, captured output, terminals, pipes that another user made and everything else are copied here, from and to pipes
whose other ends are passed.
"""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections import deque
from typing import IO, Any

from vc_core.client.detach import DetachKeys
from vc_core.config.values import quoted
from vc_core.errors import ConfigError

#: What the functions of the API take as ``stdin``, ``stdout`` and ``stderr``.
Stdin = bytes | int | IO[Any] | None
Output = int | IO[Any] | None

_CHUNK = 64 * 1024


class Stdio:
    """The caller's side of one command's three streams.

    ``passed`` goes into the request and ``fds`` beside it; :meth:`sent` is called afterwards. ``reading`` and
    ``writing`` are the descriptors that the operation must wait for, and :meth:`pump` copies what is ready.
    ``detach_keys`` are looked for in what is typed on a terminal. Of each output that is captured the first
    ``max_output`` bytes are kept, None for all. ``pass_terminals``: they are passed as pipes are, to a supervisor that
    goes on with them when this process does nothing more.
    Raises ConfigError for a value that is not a stream.
    """

    def __init__(
        self,
        stdin: Stdin,
        stdout: Output,
        stderr: Output,
        detach_keys: DetachKeys | None = None,
        max_output: int | None = None,
        pass_terminals: bool = False,
    ) -> None:
        if max_output is not None and (not isinstance(max_output, int) or max_output < 0):
            raise ConfigError(
                f"max_output is {max_output!r}; give a number of bytes, or None for all", field="max_output"
            )
        self._detach_keys, self._max_output, self._pass_terminals = detach_keys, max_output, pass_terminals
        #: Whether output was captured that is longer than ``max_output``, and only its beginning was kept.
        self.truncated = False
        self._passed: list[bool] = []  # of stdin, stdout, stderr
        self.fds: list[int] = []
        self._to_send: list[int] = []  # the supervisor's ends of our pipes, closed once they are sent
        self._sources: dict[int, _Copy] = {}  # by the descriptor that is read next
        self._sinks: dict[int, _Copy] = {}  # by the descriptor that is written next
        self._captured: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        #: The errno of the write of output that failed first here; or 0.
        self.output_failure = 0
        try:
            self._add_stdin(stdin)
            for name, target in (("stdout", stdout), ("stderr", stderr)):
                self._add_output(name, target)
        except BaseException:
            self.close()
            raise

    @property
    def passed(self) -> tuple[bool, bool, bool]:
        """Whether there is a descriptor among ``fds`` for stdin, stdout and stderr."""
        stdin, stdout, stderr = self._passed
        return stdin, stdout, stderr

    @property
    def reading(self) -> list[int]:
        """Descriptors to wait for until they can be read."""
        return list(self._sources)

    @property
    def writing(self) -> list[int]:
        """Descriptors to wait for until they can be written."""
        return list(self._sinks)

    @property
    def stdout(self) -> bytes:
        """The captured output."""
        return bytes(self._captured["stdout"])

    @property
    def stderr(self) -> bytes:
        """The captured error output."""
        return bytes(self._captured["stderr"])

    @property
    def outputs_open(self) -> bool:
        """Whether output may still come through this process."""
        return any(copy.is_output for copy in (*self._sources.values(), *self._sinks.values()))

    @property
    def detached(self) -> bool:
        """Whether the caller typed the keys that detach it."""
        return self._detach_keys is not None and self._detach_keys.pressed

    def sent(self) -> None:
        """Close this process' copies of the descriptors that the supervisor has now."""
        for fd in self._to_send:
            os.close(fd)
        self._to_send.clear()

    def pump(self, ready: set[int]) -> None:
        """Read from and write to the descriptors that are ready; others are left alone."""
        for fd in ready:
            if copy := self._sources.pop(fd, None):
                copy.read()
                self.truncated = self.truncated or copy.truncated
            elif copy := self._sinks.pop(fd, None):
                failure = copy.write()
                if copy.is_output and failure and not self.output_failure:
                    self.output_failure = failure
            else:
                continue
            self._queue(copy)

    def _queue(self, copy: _Copy) -> None:
        if copy.pending:
            self._sinks[copy.sink] = copy
        elif copy.ended:
            copy.close()
        else:
            self._sources[copy.source] = copy

    def close(self) -> None:
        """Close all pipes that were made here; the caller's descriptors stay open. Idempotent."""
        self.sent()
        for copy in (*self._sources.values(), *self._sinks.values()):
            copy.close()
        self._sources.clear()
        self._sinks.clear()

    def _add_stdin(self, stdin: Stdin) -> None:
        if isinstance(stdin, bytes | bytearray | memoryview):
            if stdin:
                copy = _Copy(-1, self._pipe(keep_reader=False), is_output=False)
                copy.pending.append(memoryview(bytes(stdin)))
                copy.ended = True
                self._queue(copy)
            else:
                self._passed.append(False)
            return
        fd = None if stdin is None or stdin == subprocess.DEVNULL else _descriptor("stdin", stdin)
        if fd is None or _is_null(fd):
            self._passed.append(False)
        elif self._passes_through(fd, os.R_OK):
            self._pass(fd)
        else:
            keys = self._detach_keys
            self._queue(_Copy(fd, self._pipe(keep_reader=False), is_output=False, keep_source=True, keys=keys))

    def _add_output(self, name: str, target: Output) -> None:
        if name == "stderr" and target == subprocess.STDOUT:
            raise ConfigError("stderr=STDOUT is not possible: the guest keeps the two apart; pass the same descriptor")
        if target is None or target == subprocess.PIPE:
            self._queue(
                _Copy(
                    self._pipe(keep_reader=True), -1, is_output=True, into=self._captured[name], most=self._max_output
                )
            )
            return
        fd = None if target == subprocess.DEVNULL else _descriptor(name, target)
        if fd is None or _is_null(fd):
            self._passed.append(False)
        elif self._passes_through(fd, os.W_OK):
            self._pass(fd)
        else:
            self._queue(_Copy(self._pipe(keep_reader=True), fd, is_output=True, keep_sink=True))

    def _passes_through(self, fd: int, access: int) -> bool:
        mode = os.fstat(fd).st_mode
        if stat.S_ISFIFO(mode) or (self._pass_terminals and os.isatty(fd)):
            # the supervisor opens it anew; that of another user, as after su(1), refuses it
            return os.access(f"/proc/self/fd/{fd}", access, effective_ids=True)
        return stat.S_ISSOCK(mode) or stat.S_ISREG(mode)

    def _pass(self, fd: int) -> None:
        self._passed.append(True)
        self.fds.append(fd)

    def _pipe(self, keep_reader: bool) -> int:
        """Make a pipe; pass one end to the supervisor and return the other, non-blocking. The caller closes it."""
        reader, writer = os.pipe()
        kept, passed = (reader, writer) if keep_reader else (writer, reader)
        os.set_blocking(kept, False)
        self._to_send.append(passed)
        self._pass(passed)
        return kept


class _Copy:
    """One direction that this process copies: from ``source`` to ``sink``, or from or to memory where one is -1."""

    def __init__(
        self,
        source: int,
        sink: int,
        is_output: bool,
        into: bytearray | None = None,
        keep_source: bool = False,
        keep_sink: bool = False,
        keys: DetachKeys | None = None,
        most: int | None = None,
    ) -> None:
        self.source, self.sink, self.is_output = source, sink, is_output
        self._into, self._keep_source, self._keep_sink, self._keys = into, keep_source, keep_sink, keys
        self.pending: deque[memoryview] = deque()
        self.ended = self.truncated = False
        self._most = most

    def read(self) -> None:
        try:
            data = os.read(self.source, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.ended = True
        elif self._into is not None:
            room = len(data) if self._most is None else self._most - len(self._into)
            self._into += data[:room]
            self.truncated = self.truncated or len(data) > room
        elif passed := self._keys.passed(data) if self._keys else data:
            self.pending.append(memoryview(passed))

    def write(self) -> int:
        """Write what is pending, as far as the sink takes it; return the errno of a failure, or 0."""
        data = self.pending.popleft()
        try:
            # The caller's own descriptor may be a blocking terminal: small pieces, so that it blocks for moments only.
            written = os.write(self.sink, data[:4096] if self._keep_sink else data)
        except BlockingIOError:
            written = 0
        except OSError as error:
            self.pending.clear()
            self.ended = True
            return error.errno or errno.EIO
        if written < len(data):
            self.pending.appendleft(data[written:])
        return 0

    def close(self) -> None:
        if self.source >= 0 and not self._keep_source:
            os.close(self.source)
        if self.sink >= 0 and not self._keep_sink:
            os.close(self.sink)
        self.source = self.sink = -1


def _descriptor(what: str, given: int | IO[Any]) -> int:
    try:
        fd = given if isinstance(given, int) else given.fileno()
        os.fstat(fd)
    except (OSError, ValueError, OverflowError, AttributeError) as error:
        raise ConfigError(f"{what} is {quoted(given)}; give an open file, a descriptor, or nothing: {error}") from error
    if not isinstance(given, int) and what != "stdin" and hasattr(given, "flush"):
        given.flush()
    return fd


def _is_null(fd: int) -> bool:
    status = os.fstat(fd)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.stat(os.devnull).st_rdev  # noqa: PTH116 - a constant
