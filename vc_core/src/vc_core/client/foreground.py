"""Runs a command or container with the caller's streams, signals and terminal."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vc_core.client.interpreters import Operation, Ready
from vc_core.client.link import _GRACE, Link, result
from vc_core.client.stdio import Output, Stdin, Stdio
from vc_core.errors import (
    SupervisorError,
)


def converse(
    link: Link,
    message: dict[str, Any],
    stdio: Stdio,
    timeout: float | None = None,
    signals: Signals | None = None,
    on_event: Callable[[dict[str, Any]], None] | None = None,
) -> Operation[tuple[Any, bool]]:
    """Send a request with streams; carry them until the result is there and all output was taken.

    Returns the result and whether ``timeout`` (seconds) passed, upon which the process was killed.
    """
    link.send({**message, "stdio": stdio.kinds}, stdio.fds)
    stdio.sent()
    sock = link.sock.fileno()
    deadline = None if timeout is None else time.monotonic() + timeout
    timed_out, reply = False, None
    unsent: list[dict[str, Any]] = []
    while reply is None or stdio.outputs_open:
        reading = [*stdio.reading, *([sock] if reply is None else []), *([signals.fd] if signals else [])]
        writing = [*stdio.writing, *([sock] if unsent and reply is None else [])]
        ready: set[int] = yield Ready(read=reading, write=writing, deadline=deadline)
        if not ready:
            if timed_out:
                raise SupervisorError("a command that was killed did not end; the guest may hang")
            timed_out, deadline = True, time.monotonic() + _GRACE
            unsent.append({"signal": 9})
        stdio.pump(ready)
        if signals and signals.fd in ready:
            unsent += signals.take()
        if reply is None:
            unsent = link.offer(unsent)
        if sock in ready and (heard := link.poll()) is not None:
            if "event" not in heard:
                reply = heard
            elif on_event is not None:
                on_event(heard)
    return result(reply), timed_out


class Signals:
    """Signals that this process got, meant for the process in the guest; ``fd`` is readable when there are some.

    SIGWINCH means that ``terminal``, a descriptor, has a new size.
    """

    def __init__(self, fd: int, terminal: int | None = None) -> None:
        self.fd, self._terminal = fd, terminal

    def take(self) -> list[dict[str, Any]]:
        """Return what to tell the supervisor of the signals that came since the last call."""
        try:
            numbers = os.read(self.fd, 64)  # the bytes of signal.set_wakeup_fd
        except BlockingIOError:
            return []
        return [self._message(number) for number in numbers]

    def _message(self, number: int) -> dict[str, Any]:
        if number == signal.SIGWINCH and self._terminal is not None:
            return {"resize": terminal_size(self._terminal)}
        return {"signal": number}


def terminal_size(fd: int) -> dict[str, int]:
    """Return the size of the terminal open as ``fd``, as requests carry it."""
    size = os.get_terminal_size(fd)
    return {"rows": size.lines, "columns": size.columns}


@dataclass(frozen=True, slots=True)
class Foreground:
    """A starting container that runs in the caller's foreground: its streams, forwarded signals, and terminal size."""

    container_id: str
    stdin: Stdin
    stdout: Output
    stderr: Output
    signals: Signals | None = None
    terminal: dict[str, int] | None = None


def attend(
    link: Link,
    message: dict[str, Any],
    foreground: Foreground,
    on_event: Callable[[dict[str, Any]], None] | None = None,
) -> Operation[int]:
    """Send a request that starts a container in the foreground; return its exit code when it ended."""
    stdio = Stdio(foreground.stdin, foreground.stdout, foreground.stderr)
    try:
        message = {**message, "container": foreground.container_id, "terminal": foreground.terminal}
        code, _ = yield from converse(link, message, stdio, None, foreground.signals, on_event)
    finally:
        stdio.close()
    return exit_code(code, f"container {foreground.container_id!r}")


def exit_code(code: Any, what: str) -> int:
    """Return the exit code in a result. Raises SupervisorError when there is none."""
    if not isinstance(code, int):
        raise SupervisorError(f"{what} ended without an exit code: its pod was stopped or its VM ended")
    return code
