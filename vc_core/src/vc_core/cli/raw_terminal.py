"""The terminal that is the standard input in raw mode, and its former modes again, whatever ends this process."""

from __future__ import annotations

import os
import signal
import termios
import tty
from contextlib import suppress
from typing import Any


class RawTerminal:
    """The terminal open as descriptor 0, in raw mode from :meth:`begin` to :meth:`restore`.

    A guard, a process of its own, restores the modes when this one is killed. They are set again when this process
    continues after a stop, since a shell gives the terminal its own modes meanwhile.
    """

    def __init__(self) -> None:
        self._former = termios.tcgetattr(0)
        self._raw: list[Any] | None = None
        self._guard: tuple[int, int] | None = None  # its id, and the pipe by which it sees the end of this process
        self._on_continue: Any = None

    def begin(self) -> None:
        """Put the terminal into raw mode; what was typed ahead is kept."""
        tty.setraw(0, termios.TCSADRAIN)
        self._raw = termios.tcgetattr(0)
        self._guard = _start_guard(self._former, self._raw)
        self._on_continue = signal.signal(signal.SIGCONT, lambda number, frame: self._again())

    def restore(self) -> None:
        """Give the terminal its former modes. Idempotent."""
        if self._raw is None:
            return
        self._raw = None
        signal.signal(signal.SIGCONT, self._on_continue)
        try:
            termios.tcsetattr(0, termios.TCSADRAIN, self._former)
        finally:
            assert self._guard is not None
            pid, pipe = self._guard
            os.close(pipe)  # the modes are no longer raw, so the guard leaves them alone
            os.waitpid(pid, 0)

    def _again(self) -> None:
        if self._raw is not None:
            with suppress(termios.error):  # the terminal has gone
                termios.tcsetattr(0, termios.TCSADRAIN, self._raw)


def _start_guard(former: list[Any], raw: list[Any]) -> tuple[int, int]:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid:
        os.close(reader)
        return pid, writer
    try:
        os.setsid()  # signals to the group, and of the terminal, are not for it
        os.closerange(1, reader)
        os.closerange(reader + 1, os.sysconf("SC_OPEN_MAX"))
        os.read(reader, 1)  # returns at the end of the pipe
        if termios.tcgetattr(0) == raw:  # no other process has changed them meanwhile
            termios.tcsetattr(0, termios.TCSANOW, former)
    finally:
        os._exit(0)
