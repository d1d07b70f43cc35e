"""A command in the foreground: its streams are ours, and so are its signals and, if wanted, its terminal."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vc_core.client.foreground import Signals, terminal_size
from vc_core.errors import ConfigError

#: What a terminal or a manager of processes sends to end, interrupt or inform a program; SIGTSTP and SIGCONT stay ours.
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


class Foreground:
    """This process' signals and terminal, lent to a process in the guest once :meth:`begin` was called."""

    def __init__(self, reader: int, writer: int, on_terminal: bool) -> None:
        self.signals = Signals(reader, 0 if on_terminal else None)
        #: Size of the terminal, as operations take it; None without one.
        self.terminal = terminal_size(0) if on_terminal else None
        self._writer, self._on_terminal = writer, on_terminal

    def begin(self) -> None:
        """From now on signals, and what is typed, are the guest process' own."""
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for signum in (*_FORWARDED, *((signal.SIGWINCH,) if self._on_terminal else ())):
            signal.signal(signum, lambda number, frame: None)
        if self._on_terminal:
            import termios
            import tty

            tty.setraw(0, termios.TCSADRAIN)  # what was typed ahead is the guest process' own


@contextmanager
def foreground(on_terminal: bool) -> Iterator[Foreground]:
    """Give a Foreground; afterwards, whatever happened, signals and terminal are what they were.

    Raises ConfigError when a terminal is wanted and stdin is none.
    """
    if on_terminal and not os.isatty(0):
        raise ConfigError("-t needs a terminal, and the standard input is none; leave -t out")
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    handlers = {signum: signal.getsignal(signum) for signum in (*_FORWARDED, signal.SIGWINCH)}
    modes = _terminal_modes() if on_terminal else None
    try:
        yield Foreground(reader, writer, on_terminal)
    finally:
        signal.set_wakeup_fd(-1)
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
        if modes is not None:
            _restore(modes)
        os.close(reader)
        os.close(writer)


def _terminal_modes() -> list[Any]:
    import termios

    return termios.tcgetattr(0)


def _restore(modes: list[Any]) -> None:
    import termios

    termios.tcsetattr(0, termios.TCSADRAIN, modes)
