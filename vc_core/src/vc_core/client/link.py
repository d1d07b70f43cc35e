"""One request to a supervisor, and its answer."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence

import msgspec

from vc_core.client.interpreters import InThread, Operation, Ready
from vc_core.errors import SupervisorError, SupervisorLostError, error_from_wire
from vc_core.plugins import running_call
from vc_core.supervisor import wire
from vc_core.supervisor.messages import Answer, Control, Event, Failure, Greeting, Reply, Request

#: Seconds that a supervisor has, beyond an operation's own timeouts, before it counts as hung.
ANSWER_GRACE = 30.0

_decode_reply: Callable[[bytes], Reply] = msgspec.json.Decoder(Reply).decode


class Link:
    """A greeted connection to what serves the pod.

    ``pidfd``: of its supervisor, or None when a thread of this process serves it. ``wait_served`` then waits until that
    thread has nothing of the pod any more. ``calls``: the record of the supervisor's calls (``plugins.running_call``),
    if it has one.
    """

    def __init__(
        self,
        sock: socket.socket,
        pidfd: int | None,
        wait_served: Callable[[], None] | None = None,
        calls: int | None = None,
    ) -> None:
        self.sock, self._pidfd, self._wait_served, self._calls = sock, pidfd, wait_served, calls

    def greeted(self, deadline: float) -> Operation[None]:
        """Wait for the greeting. Raises what keeps the pod from being served, and what :meth:`receive` raises."""
        reply = yield from self.receive(deadline)
        if isinstance(reply, Failure):
            result(reply)

    def send(self, request: Request, fds: Sequence[int] = ()) -> None:
        """Send the request, with descriptors. Raises SupervisorLostError, SupervisorError for one that is too long."""
        try:
            wire.send(self.sock, request, fds)
        except OSError as error:
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
        """Return the next message. Raises SupervisorLostError, and SupervisorError at the deadline."""
        while True:
            if not (yield Ready(read=[self.sock.fileno()], deadline=deadline)):
                call = running_call.read(self._calls) if self._calls is not None else ""
                raise SupervisorError(
                    f"the pod's supervisor does not answer{f' while {call}' if call else ''}; "
                    "'virtc pod delete --force' ends the pod"
                )
            message = self.poll()
            if message is not None:
                return message

    def poll(self) -> Reply | None:
        """Return a message that is there, or None. Raises SupervisorLostError, SupervisorError for nonsense."""
        try:
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
            raise SupervisorLostError(f"the pod's supervisor {while_}; the pod may run on")
        return message

    def wait_gone(self, timeout: float) -> Operation[bool]:
        """Return whether the supervisor ended within ``timeout`` seconds."""
        if self._pidfd is None:
            return True
        return bool((yield Ready(read=[self._pidfd], deadline=time.monotonic() + timeout)))

    def close(self) -> Operation[None]:
        """Close the connection; wait until a thread of this process that serves it has ended that."""
        self.sock.close()
        for fd in filter(None, (self._pidfd, self._calls)):
            os.close(fd)
        self._pidfd = self._calls = None
        if self._wait_served is not None:
            yield InThread(self._wait_served)


def request(
    link: Link, message: Request, timeout: float | None, on_event: Callable[[Event], None] | None = None
) -> Operation[Answer]:
    """Send a request without streams and return its answer.

    ``timeout``: seconds of silence that the operation itself may need; None for any. Each event begins them anew.
    Raises what the supervisor raised, SupervisorLostError, SupervisorError.
    """
    link.send(message)
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
