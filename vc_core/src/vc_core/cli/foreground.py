"""A command in the foreground: this process' signals and terminal are forwarded to it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vc_core import client
from vc_core.cli import notices, output
from vc_core.client.interpreters import run_blocking
from vc_core.errors import ConfigError

if TYPE_CHECKING:
    from vc_core.client.interpreters import Operation
    from vc_core.config.container import Cmd
    from vc_core.results import ExecResult

#: Signals that a terminal or a service manager sends to a program; SIGTSTP and SIGCONT keep their effect on virtc.
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


class Forwarding:
    """Forwards this process' signals and terminal to a process in the guest, from :meth:`begin` on."""

    def __init__(self, reader: int, writer: int, on_terminal: bool) -> None:
        self.signals = client.foreground.Signals(reader, 0 if on_terminal else None)
        #: Size of the terminal; None without one.
        self.terminal = client.foreground.terminal_size(0) if on_terminal else None
        self._writer, self._on_terminal = writer, on_terminal

    def begin(self) -> None:
        """Forward signals from now on, and put the terminal into raw mode."""
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for signum in (*_FORWARDED, *((signal.SIGWINCH,) if self._on_terminal else ())):
            signal.signal(signum, lambda number, frame: None)
        if self._on_terminal:
            import termios
            import tty

            tty.setraw(0, termios.TCSADRAIN)  # keeps what was typed ahead


@contextmanager
def foreground(on_terminal: bool) -> Iterator[Forwarding]:
    """Give a Forwarding; restore signals and terminal afterwards, whatever happened.

    Raises ConfigError when a terminal is wanted and standard input is not one.
    """
    if on_terminal and not os.isatty(0):
        raise ConfigError("-t needs a terminal, but standard input is not one; omit -t")
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    handlers = {signum: signal.getsignal(signum) for signum in (*_FORWARDED, signal.SIGWINCH)}
    modes = _terminal_modes() if on_terminal else None
    try:
        yield Forwarding(reader, writer, on_terminal)
    finally:
        signal.set_wakeup_fd(-1)
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
        if modes is not None:
            _restore(modes)
        os.close(reader)
        os.close(writer)


def run_command(
    enter: Callable[..., Operation[ExecResult]], command: Cmd, on_terminal: bool, timeout: float | None
) -> int:
    """Run a command in the foreground, with this process' input and output; return its exit code.

    ``enter``: ``enter_pod`` or ``enter_container`` of the client, without its command and all that follows.
    """
    with foreground(on_terminal) as forwarding:
        forwarding.begin()
        operation = enter(
            command,
            0,
            output.stdout_fd(),
            2,
            timeout,
            forwarding.terminal,
            forwarding.signals,
            notices.of_foreground,
        )
        return run_blocking(operation).exit_code


def _terminal_modes() -> list[Any]:
    import termios

    return termios.tcgetattr(0)


def _restore(modes: list[Any]) -> None:
    import termios

    termios.tcsetattr(0, termios.TCSADRAIN, modes)
