"""One request to a supervisor, and its answer."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from vc_core.client.interpreters import InThread, Operation, Ready
from vc_core.errors import SupervisorError, SupervisorLostError, error_from_wire
from vc_core.supervisor import wire

#: Seconds that a supervisor has, beyond an operation's own timeouts, before it counts as hung.
_GRACE = 30.0


class Link:
    """A greeted connection to whoever serves the pod; ``pidfd`` of the supervisor, or None where there is none."""

    def __init__(self, sock: socket.socket, pidfd: int | None, thread: threading.Thread | None = None) -> None:
        self.sock, self._pidfd, self._thread = sock, pidfd, thread

    def send(self, message: dict[str, Any], fds: list[int] | None = None) -> None:
        """Send a message. Raises SupervisorLostError."""
        try:
            wire.send(self.sock, message, fds or [])
        except OSError as error:
            raise SupervisorLostError(f"the pod's supervisor went away: {error.strerror}") from error

    def offer(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
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

    def receive(self, deadline: float | None) -> Operation[dict[str, Any]]:
        """Return the next message. Raises SupervisorLostError, and SupervisorError at the deadline."""
        while True:
            if not (yield Ready(read=[self.sock.fileno()], deadline=deadline)):
                raise SupervisorError("the pod's supervisor does not answer; 'virtc pod delete --force' ends the pod")
            message = self.poll()
            if message is not None:
                return message

    def poll(self) -> dict[str, Any] | None:
        """Return a message that is there, or None. Raises SupervisorLostError."""
        try:
            message, fds = wire.receive(self.sock)
        except BlockingIOError:
            return None
        except OSError as error:
            raise SupervisorLostError(f"the pod's supervisor went away: {error.strerror}") from error
        for fd in fds:
            os.close(fd)
        if message is None:
            raise SupervisorLostError("the pod's supervisor went away before it answered; the pod may run on")
        return message

    def wait_gone(self, timeout: float) -> Operation[bool]:
        """Return whether the supervisor ended within ``timeout`` seconds."""
        if self._pidfd is None:
            return True
        return bool((yield Ready(read=[self._pidfd], deadline=time.monotonic() + timeout)))

    def close(self) -> Operation[None]:
        """Close the connection; wait for a service of our own to end."""
        self.sock.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
        if self._thread is not None:
            yield InThread(self._thread.join)


def request(
    link: Link,
    message: dict[str, Any],
    timeout: float | None,
    on_event: Callable[[dict[str, Any]], None] | None = None,
) -> Operation[Any]:
    """Send a request without streams and return its result; any message renews the deadline of ``timeout`` seconds.

    Raises what the supervisor raised, SupervisorLostError, SupervisorError.
    """
    link.send(message)
    while True:
        deadline = None if timeout is None else time.monotonic() + timeout + _GRACE
        reply = yield from link.receive(deadline)
        if "event" not in reply:
            return result(reply)
        if on_event is not None:
            on_event(reply)


def result(reply: dict[str, Any]) -> Any:
    """Return what a final reply holds, or raise its error."""
    if "error" in reply:
        raise error_from_wire(reply["error"])
    return reply.get("result")
