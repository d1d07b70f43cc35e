"""Runs a command or container with the caller's streams, signals and terminal."""

from __future__ import annotations

import errno
import math
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from vc_core.client.detach import DetachKeys
from vc_core.client.interpreters import Operation, Ready
from vc_core.client.link import PULSE_INTERVAL, Link, final_reply, result
from vc_core.client.stdio import Output, Stdin, Stdio
from vc_core.driver.terminal import TerminalSize
from vc_core.errors import CommandTimeoutError, OutputError
from vc_core.frozen import frozen
from vc_core.supervisor.messages import (
    Answer,
    Control,
    Detach,
    Event,
    Failure,
    Resize,
    Signal,
    Start,
    StartContainer,
    Started,
    Streams,
)

#: Signals by which a caller asks for the command's end, and those of them after which it must end in time: a program
#: may handle SIGINT and run on, but SIGTERM and SIGHUP mean that the caller goes.
_ENDING = frozenset((signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP))
_FINAL = frozenset((signal.SIGTERM, signal.SIGHUP))

#: Seconds after SIGTERM or SIGHUP for the command to end; as many as a container has to stop.
END_TIMEOUT = 10.0

#: Seconds for the end of a process that was killed because its time is over, with its last output. A guest that takes
#: longer may hang, and a caller who gave a timeout does not wait for it.
KILL_TIMEOUT = 2.0

#: So many of those signals within so many seconds mean that the caller waits no longer.
_INSISTING, _INSISTING_WITHIN = 3, 3.0


class Signals:
    """Signals that this process got, meant for the process in the guest; ``fd`` is readable when there are some.

    SIGWINCH means that ``terminal``, a descriptor, has a new size, and SIGCONT that it may have: its signal may have
    been lost while this process was stopped.
    """

    def __init__(self, fd: int, terminal: int | None = None) -> None:
        self.fd, self._terminal = fd, terminal

    def take(self) -> list[Control]:
        """Return a message to the supervisor for each signal that came since the last call."""
        try:
            numbers = os.read(self.fd, 64)  # the bytes of signal.set_wakeup_fd
        except BlockingIOError:
            return []
        return [self._message(number) for number in numbers]

    def _message(self, number: int) -> Control:
        if number in (signal.SIGWINCH, signal.SIGCONT) and self._terminal is not None:
            return Resize(size=terminal_size(self._terminal))
        return Signal(number=number)


class _Insistence:
    """How much the caller wants the command to end: it does not wait for ever for a guest that reports no end.

    ``until``: point in time (time.monotonic) when it waits no longer; ``latest``: the last of the signals.
    """

    def __init__(self) -> None:
        self.until = math.inf
        self.latest = 0
        self._times: deque[float] = deque(maxlen=_INSISTING)

    def error(self) -> CommandTimeoutError:
        """Return what is raised then."""
        name = signal.Signals(self.latest).name
        what = f"{END_TIMEOUT:g} s after {name}" if self.latest in _FINAL else f"after {_INSISTING} signals"
        return CommandTimeoutError(
            f"the guest did not report the end of the command {what}; this process no longer waits",
            exit_code=128 + self.latest,
        )

    def note(self, messages: Sequence[Control]) -> None:
        """Count the signals among messages that were just taken from the caller's own."""
        now = time.monotonic()
        for message in messages:
            if not isinstance(message, Signal) or message.number not in _ENDING:
                continue
            self._times.append(now)
            self.latest = message.number
            if message.number in _FINAL:
                self.until = min(self.until, now + END_TIMEOUT)
            if len(self._times) == _INSISTING and now - self._times[0] <= _INSISTING_WITHIN:
                self.until = now


def terminal_size(fd: int) -> TerminalSize:
    """Return the size of the terminal open as ``fd``."""
    size = os.get_terminal_size(fd)
    return TerminalSize(size.lines, size.columns)


@frozen(kw_only=True)
class Caller:
    """What a caller has for a process besides streams: signals to forward, the size of its terminal, and its keys."""

    signals: Signals | None = None
    terminal: TerminalSize | None = None
    detach_keys: DetachKeys | None = None


#: A caller that is a program and has none of these.
NO_TERMINAL = Caller()


@frozen
class Foreground:
    """A starting container that runs in the caller's foreground, with its streams.

    ``timeout``: seconds after its start when it is killed, None for never.
    """

    container_id: str
    stdin: Stdin
    stdout: Output
    stderr: Output
    caller: Caller = NO_TERMINAL
    timeout: float | None = None


def run_with_streams(
    link: Link,
    stdio: Stdio,
    what: str,
    timeout: float | None = None,
    signals: Signals | None = None,
    on_event: Callable[[Event], None] | None = None,
    after_start: bool = False,
) -> Operation[Answer]:
    """Carry the streams of a request that was sent with them, until the answer is there and all output was taken.

    ``what`` names the process in errors. It is killed when ``timeout`` has passed: seconds, with ``after_start`` from
    its start on.
    Raises what the supervisor raised, OutputError for output that could not be written, although its reader is there,
    SupervisorLostError, CommandTimeoutError with the output so far when ``timeout`` has passed and the process was
    killed, or the guest does not report that (``KILL_TIMEOUT``);
    CommandTimeoutError too for one that goes on although this process got SIGTERM or SIGHUP (``END_TIMEOUT``), or
    three signals within 3 s. The caller then closes the link, which withdraws the request.
    A caller that types its detach keys gets an answer that says so, and the process runs on.
    """
    stdio.sent()
    sock = link.sock.fileno()
    deadline = None if timeout is None or after_start else time.monotonic() + timeout
    timed_out = False
    final: Answer | Failure | None = None
    unsent: list[Control] = []
    runs = detached = False
    insistence = _Insistence()
    while final is None or stdio.outputs_open:
        reading = [*stdio.reading, *([sock] if final is None else []), *([signals.fd] if signals else [])]
        writing = [*stdio.writing, *([sock] if unsent and final is None else [])]
        look = math.inf if runs or final is not None else time.monotonic() + PULSE_INTERVAL
        until = min(math.inf if deadline is None else deadline, look, insistence.until)
        ready: set[int] = yield Ready(read=reading, write=writing, deadline=None if until == math.inf else until)
        if time.monotonic() >= insistence.until:
            raise insistence.error()
        if not ready and until == look:
            link.check_pulse()
            continue
        if not ready:
            if timed_out:
                text = f"{what} did not end in {timeout:g} s, and the guest does not report that it was killed"
                raise _with_output_so_far(CommandTimeoutError(f"{text}; it may hang"), stdio)
            timed_out, deadline = True, time.monotonic() + KILL_TIMEOUT
            unsent.append(Signal(number=signal.SIGKILL))
        stdio.pump(ready)
        if stdio.detached and not detached:
            detached = True
            unsent.append(Detach())
        if signals and signals.fd in ready:
            taken = signals.take()
            insistence.note(taken)
            unsent += taken
        if final is None:
            unsent = link.offer(unsent)
        if sock in ready and (reply := link.poll()) is not None:
            if isinstance(reply, Started) and not runs:
                runs = True
                if timeout is not None and after_start:
                    deadline = time.monotonic() + timeout
            final = final_reply(reply, on_event)
            if isinstance(final, Answer) and final.detached:
                return final
            if final is not None:
                deadline = None  # the process has ended; who takes its output has any time
    answer = with_output(result(final), stdio.output_failure)
    if timed_out:
        error = CommandTimeoutError(f"{what} did not end in {timeout:g} s and was killed")
        raise _with_output_so_far(error, stdio)
    return answer


def _with_output_so_far(error: CommandTimeoutError, stdio: Stdio) -> CommandTimeoutError:
    error.stdout, error.stderr = stdio.stdout, stdio.stderr
    return error


def with_output(answer: Answer, failure_here: int) -> Answer:
    """Return the answer of a process whose output is complete, or lost its reader. Raises OutputError for another.

    ``failure_here``: the errno of a write of this process, 0 for none.
    """
    failure = next((one for one in (answer.output_failure, failure_here) if one not in (0, errno.EPIPE)), 0)
    if failure:
        text = f"the output of the command cannot be written: {os.strerror(failure)}"
        raise OutputError(f"{text}; the command ended with the exit code {answer.code}", exit_code=answer.code)
    if errno.EPIPE in (answer.output_failure, failure_here) and not answer.code:
        return msgspec.structs.replace(answer, exit_code=128 + signal.SIGPIPE)
    return answer


def on_started(started: Callable[[Started], None] | None) -> Callable[[Event], None]:
    """Return what to call with each event of a request, which passes ``started`` the one that the process runs."""

    def on_event(event: Event) -> None:
        if started is not None and isinstance(event, Started):
            started(event)

    return on_event


def attend(
    link: Link,
    make_request: Callable[[Streams], Start | StartContainer],
    foreground: Foreground,
    on_event: Callable[[Event], None] | None = None,
    sources: Sequence[int] = (),
) -> Operation[int]:
    """Send a request that starts a container in the foreground; return its exit code when it ended, 0 when detached.

    ``sources``: descriptors of those of the container, which the request names.
    Raises what :func:`run_with_streams` raises.
    """
    caller = foreground.caller
    stdio = Stdio(foreground.stdin, foreground.stdout, foreground.stderr, caller.detach_keys)
    try:
        request = make_request(Streams(passed=stdio.passed, terminal=caller.terminal))
        link.send(request, [*stdio.fds, *sources])
        what = f"container {foreground.container_id!r}"
        answer = yield from run_with_streams(
            link, stdio, what, foreground.timeout, caller.signals, on_event, after_start=True
        )
    finally:
        stdio.close()
    return answer.code
