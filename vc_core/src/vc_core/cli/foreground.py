"""A command in the foreground: this process' signals and terminal are forwarded to it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from subprocess import PIPE
from typing import TYPE_CHECKING

import click

from vc_core import client
from vc_core.cli import notices, output
from vc_core.client.interpreters import run_blocking
from vc_core.errors import ConfigError

if TYPE_CHECKING:
    from vc_core.cli.exec_options import ExecOptions
    from vc_core.cli.raw_terminal import RawTerminal
    from vc_core.client.detach import DetachKeys
    from vc_core.config.container import Cmd

#: Signals that a terminal or a service manager sends to a program; SIGTSTP and SIGCONT keep their effect on virtc.
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


class Forwarding:
    """Forwards this process' signals and terminal to a process in the guest, from :meth:`begin` on."""

    def __init__(self, reader: int, writer: int, terminal: RawTerminal | None, detach_keys: DetachKeys | None) -> None:
        on_terminal = terminal is not None
        #: What the operation gets of this process.
        self.caller = client.foreground.Caller(
            signals=client.foreground.Signals(reader, 0 if on_terminal else None),
            terminal=client.foreground.terminal_size(0) if on_terminal else None,
            detach_keys=detach_keys,
        )
        self._writer, self._terminal = writer, terminal

    @property
    def detached(self) -> bool:
        """Whether the keys were typed that leave the process in the guest to itself."""
        return self.caller.detach_keys is not None and self.caller.detach_keys.pressed

    def begin(self) -> None:
        """Forward signals from now on, and put the terminal into raw mode."""
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for signum in (*_FORWARDED, *((signal.SIGWINCH,) if self._terminal is not None else ())):
            signal.signal(signum, lambda number, frame: None)
        if self._terminal is not None:
            self._terminal.begin()


@contextmanager
def foreground(on_terminal: bool, detach_keys: str = "") -> Iterator[Forwarding]:
    """Give a Forwarding; restore signals and terminal afterwards, whatever happened.

    ``detach_keys``: those that end it on a terminal, and not the process in the guest.
    Raises ConfigError when a terminal is wanted and standard input is not one, and for keys that are not valid.
    """
    keys = client.detach.DetachKeys.parse(detach_keys)
    if on_terminal and not os.isatty(0):
        raise ConfigError("-t needs a terminal, but standard input is not one; omit -t")
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    handlers = {signum: signal.getsignal(signum) for signum in (*_FORWARDED, signal.SIGWINCH)}
    terminal = _raw_terminal() if on_terminal else None
    try:
        yield Forwarding(reader, writer, terminal, keys if on_terminal else None)
    finally:
        signal.set_wakeup_fd(-1)
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
        if terminal is not None:
            terminal.restore()
        os.close(reader)
        os.close(writer)


@contextmanager
def raw_terminal() -> Iterator[None]:
    """Put the terminal that is the standard input, if it is one, into raw mode within the block."""
    if not os.isatty(0):
        yield
        return
    terminal = _raw_terminal()
    terminal.begin()
    try:
        yield
    finally:
        terminal.restore()


def run_command(pod_id: str, container_id: str, command: Cmd, wanted: ExecOptions) -> int:
    """Run a command in a container, or for an empty id in the pod itself, with this process' output.

    Returns its exit code; 0 as soon as it runs if it is wanted detached.
    """
    if wanted.detach:
        return _leave_command(pod_id, container_id, command)
    enter = partial(client.containers.enter_container, pod_id, container_id)
    if not container_id:
        enter = partial(client.containers.enter_pod, pod_id)
    with foreground(wanted.on_terminal, wanted.detach_keys) as forwarding:
        forwarding.begin()
        stdin = 0 if wanted.interactive or wanted.on_terminal else None
        caller = forwarding.caller
        operation = enter(command, stdin, output.stdout_fd(), 2, wanted.timeout, caller, notices.of_foreground)
        code = run_blocking(operation).exit_code
    if forwarding.detached:
        notices.of_detached()
    return code


def _leave_command(pod_id: str, container_id: str, command: Cmd) -> int:
    """Start a command and leave it to itself; return 0, or the exit code of one that could not be executed."""
    running = run_blocking(client.processes.open_process(pod_id, container_id, command, None, None, PIPE, None))
    if running.started:
        run_blocking(running.detach())
        return 0
    assert running.stderr is not None
    reason = run_blocking(running.stderr.read())
    click.echo(reason, err=True, nl=False)
    return run_blocking(running.wait(None))


def _raw_terminal() -> RawTerminal:
    from vc_core.cli.raw_terminal import RawTerminal

    return RawTerminal()
