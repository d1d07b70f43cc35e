"""One request to a supervisor, and its answer."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from vc_core.client.interpreters import InThread, Operation, Ready
from vc_core.errors import SupervisorError, SupervisorLostError, error_from_wire
from vc_core.plugins import running_call
from vc_core.supervisor import wire
from vc_core.supervisor.messages import Answer, Control, Event, Failure, Greeting, Reply, Request, decoder

#: Seconds that a supervisor has, beyond an operation's own timeouts, before it counts as hung.
ANSWER_GRACE = 30.0

#: Seconds between two looks at the record of a supervisor, and the looks between which it must have changed. The
#: supervisor's watchdog writes it every 3 s, and ends within 15 s what only blocks the loop. The looks are counted,
#: because the clock runs on while the host sleeps.
PULSE_INTERVAL, PULSES = 3.0, 7

_decode_reply: Callable[[bytes], Reply] = decoder(Reply)


class Link:
    """A greeted connection to what serves the pod.

    ``pidfd``: of its supervisor, or None when a thread of this process serves it. ``wait_served`` then waits until that
    thread has nothing of the pod any more. ``calls``: the record of the supervisor's calls (``plugins.running_call``),
    if it has one. ``runs_on`` returns whether the pod may have a VM after the supervisor ended.
    """

    #: Whether a supervisor that hangs is killed: set by a client that started it.
    kills_hung: bool = False

    def __init__(
        self,
        sock: socket.socket,
        pidfd: int | None,
        wait_served: Callable[[], None] | None = None,
        calls: int | None = None,
        runs_on: Callable[[], bool] = lambda: True,
    ) -> None:
        self.sock: socket.socket = sock
        self._pidfd, self._wait_served, self._calls = pidfd, wait_served, calls
        self._runs_on = runs_on
        self._beat, self._silent = 0, 0

    @property
    def to_supervisor(self) -> bool:
        """Whether a supervisor serves the pod, and no thread of this process."""
        return self._wait_served is None

    def greeted(self, deadline: float) -> Operation[None]:
        """Wait for the greeting. Raises what keeps the pod from being served, and what :meth:`receive` raises."""
        reply = yield from self.receive(deadline)
        if isinstance(reply, Failure):
            result(reply)

    def send(self, request: Request, fds: Sequence[int] = ()) -> None:
        """Send the request, with descriptors.

        Raises SupervisorLostError, as which SupervisorLeavingError counts, and SupervisorError for one that is too
        long.
        """
        try:
            wire.send(self.sock, request, fds)
        except OSError as error:
            if isinstance(reply := self.poll(), Failure):  # it said why before it went
                result(reply)
            raise SupervisorLostError(f"the pod's supervisor went away: {error.strerror}") from error

    def offer(self, messages: list[Control]) -> list[Control]:
        """Send messages as far as the supervisor takes them now; return the rest.

        A supervisor that has gone takes them all: what it answered before, or that it did not, is read from the link.
        """
        for number, message in enumerate(messages):
            try:
                wire.send(self.sock, message)
            except BlockingIOError:
                return messages[number:]
            except OSError:
                break
        return []

    def receive(self, deadline: float | None) -> Operation[Reply]:
        """Return the next message; ``deadline`` None: wait for any time.

        Raises SupervisorLostError, and SupervisorError at the deadline, or before if the supervisor hangs.
        """
        while True:
            until = deadline and min(deadline, time.monotonic() + PULSE_INTERVAL)
            if not (yield Ready(read=[self.sock.fileno()], deadline=until)):
                if deadline is not None and time.monotonic() >= deadline:
                    raise self._hung()
                self.check_pulse()
                continue
            message = self.poll()
            if message is not None:
                return message

    def check_pulse(self) -> None:
        """Raise SupervisorError if the supervisor executes no Python any more: a plug-in holds the interpreter's lock.

        Called every ``PULSE_INTERVAL`` seconds in which the supervisor sent nothing.
        """
        if self._calls is None:
            return
        beat = running_call.last_beat(self._calls)
        self._silent = self._silent + 1 if beat == self._beat else 0
        self._beat = beat
        if self._silent >= PULSES:
            raise self._hung()

    def _hung(self) -> SupervisorError:
        """Return the error of a supervisor that does not answer; kill it if this client started it."""
        call = running_call.read(self._calls) if self._calls is not None else ""
        killed = ""
        if self.kills_hung and self._pidfd is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            killed = " and was killed"
        return SupervisorError(
            f"the pod's supervisor does not answer{f' while {call}' if call else ''}{killed}; "
            "'virtc pod delete --force' ends the pod"
        )

    def poll(self) -> Reply | None:
        """Return a message that is there, or None. Raises SupervisorLostError, SupervisorError for nonsense."""
        try:
            try:
                message, fds = wire.receive(self.sock, _decode_reply)
            except ConnectionResetError:
                # It ended without reading what was sent; the kernel reports that before what it sent at last.
                message, fds = wire.receive(self.sock, _decode_reply)
        except BlockingIOError:
            return None
        except OSError as error:
            raise SupervisorLostError(f"the pod's supervisor went away: {error.strerror}") from error
        for fd in fds:
            os.close(fd)
        if message is None:
            call = running_call.read(self._calls) if self._calls is not None else ""
            while_ = f"ended while {call}" if call else "went away before it answered"
            runs_on = "; the pod may run on" if self._runs_on() else ""
            raise SupervisorLostError(f"the pod's supervisor {while_}{runs_on}")
        return message

    def wait_gone(self, timeout: float) -> Operation[bool]:
        """Return whether the supervisor ended within ``timeout`` seconds."""
        if self._pidfd is None:
            return True
        return bool((yield Ready(read=[self._pidfd], deadline=time.monotonic() + timeout)))

    def close(self) -> Operation[None]:
        """Close the connection; wait until a thread of this process that serves it has ended that."""
        self.release()
        if self._wait_served is not None:
            yield InThread(self._wait_served)

    def release(self) -> None:
        """Close the connection to a supervisor."""
        self.sock.close()
        for fd in filter(None, (self._pidfd, self._calls)):
            os.close(fd)
        self._pidfd = self._calls = None


def request(
    link: Link, message: Request, timeout: float | None, on_event: Callable[[Event], None] | None = None
) -> Operation[Answer]:
    """Send a request without streams and return its answer; ``timeout`` and errors as those of :func:`answer_to`."""
    link.send(message)
    return (yield from answer_to(link, timeout, on_event))


def answer_to(link: Link, timeout: float | None, on_event: Callable[[Event], None] | None = None) -> Operation[Answer]:
    """Return the answer to a request without streams that was sent.

    ``timeout``: seconds of silence that the operation itself may need; None for any. Each event begins them anew.
    Raises what the supervisor raised, SupervisorLostError, SupervisorError.
    """
    while True:
        deadline = None if timeout is None else time.monotonic() + timeout + ANSWER_GRACE
        reply = yield from link.receive(deadline)
        if (final := final_reply(reply, on_event)) is not None:
            return result(final)


def final_reply(reply: Reply, on_event: Callable[[Event], None] | None) -> Answer | Failure | None:
    """Return a reply that ends the request; else None, after ``on_event`` was called with an event."""
    if isinstance(reply, Answer | Failure):
        return reply
    if on_event is not None and not isinstance(reply, Greeting):
        on_event(reply)
    return None


def result(reply: Answer | Failure) -> Answer:
    """Return the answer. Raises the error of a failure."""
    if isinstance(reply, Failure):
        raise error_from_wire(msgspec.structs.asdict(reply))
    return reply
