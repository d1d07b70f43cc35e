"""The terminal of this command, for a process on a terminal that no engine asks for by ``--console-socket``."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Self

#: Bytes that are copied at once.
_CHUNK = 16 * 1024

#: Longest name of a terminal.
_NAME_MAX = 100


class Console:
    """A console socket of this process: ``socket`` is the end to which a shim sends a terminal, ``ours`` the other."""

    def __init__(self) -> None:
        self.ours, self.socket = socket.socketpair()
        self._master: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ours.close()
        self.socket.close()
        if self._master is not None:
            os.close(self._master)

    def take(self) -> None:
        """Take the terminal that a shim has sent, if any, and set its size. Called when the shim runs."""
        self.socket.close()
        with suppress(BlockingIOError):
            _, fds, _, _ = socket.recv_fds(self.ours, _NAME_MAX, 1, socket.MSG_DONTWAIT)
            self._master = next(iter(fds), None)
        self._copy_size()

    def relay(self) -> None:
        """Copy between the terminal, if there is one, and the standard streams until its process has ended."""
        master = self._master
        if master is None:
            return
        with _raw(0), _changes() as changed:
            watched = {0, master, changed}
            while True:
                ready = select.select(watched, [], [])[0]
                if changed in ready:
                    os.read(changed, _CHUNK)
                    self._copy_size()
                if 0 in ready and not _copy(0, master):
                    watched.discard(0)
                if master in ready and not _copy(master, 1):
                    return

    def _copy_size(self) -> None:
        """Give the terminal the size of this process' standard input, if that is a terminal and has a size."""
        if self._master is not None and os.isatty(0):
            size = fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))
            if any(size):
                fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)


def _copy(source: int, target: int) -> bool:
    """Copy what is there; return False at the end."""
    try:
        data = os.read(source, _CHUNK)
        view = memoryview(data)
        while view:
            view = view[os.write(target, view) :]
    except OSError:  # EIO: the other end of a terminal is closed
        return False
    return bool(data)


@contextmanager
def _raw(fd: int) -> Iterator[None]:
    """Let a terminal pass on every byte in the body; nothing for what is no terminal."""
    if not os.isatty(fd):
        yield
        return
    modes = termios.tcgetattr(fd)
    tty.setraw(fd, termios.TCSADRAIN)  # what was typed ahead is kept
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, modes)


@contextmanager
def _changes() -> Iterator[int]:
    """Yield a descriptor that can be read when the size of our terminal changed."""
    reads, writes = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def note(signum: int, frame: FrameType | None) -> None:
        with suppress(BlockingIOError):
            os.write(writes, b"\n")

    before = signal.signal(signal.SIGWINCH, note)
    try:
        yield reads
    finally:
        signal.signal(signal.SIGWINCH, before)
        os.close(reads)
        os.close(writes)
