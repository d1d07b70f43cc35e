"""How an operation reaches the one who may change a pod: its supervisor, or an engine of our own.

Everything here is written as operations (see ``interpreters``).
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec

from vc_core import wire
from vc_core.errors import BusyError, SupervisorError, SupervisorLostError, VCError, error_from_wire
from vc_core.interpreters import InThread, Operation, Ready
from vc_core.process import supervisor_arguments
from vc_core.records import PodRecord
from vc_core.states import State
from vc_core.status import vm_identity
from vc_core.stdio import Stdio
from vc_core.store import Store

#: Seconds for a supervisor to start, take over its pod, and greet.
SUPERVISOR_DEADLINE = 20.0

#: How often a supervisor may die silently while it starts before we give up; somebody must be killing it.
_KILLED_MAX = 5

#: Seconds that a supervisor has, beyond an operation's own deadlines, before it counts as hung.
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

    def wait_gone(self, deadline: float) -> Operation[bool]:
        """Return whether the supervisor ended within ``deadline`` seconds."""
        if self._pidfd is None:
            return True
        return bool((yield Ready(read=[self._pidfd], deadline=time.monotonic() + deadline)))

    def close(self) -> Operation[None]:
        """Close the connection; wait for a service of our own to end."""
        self.sock.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
        if self._thread is not None:
            yield InThread(self._thread.join)


def connect(store: Store, record: PodRecord, to_start: bool = False) -> Operation[Link]:
    """Return a greeted connection for the pod; starts its supervisor if it needs one and has none.

    ``record`` is the effective one; ``to_start`` says that its VM is about to start.
    Raises BusyError, SupervisorError, and whatever keeps a supervisor from starting.
    """
    at_rest = record.state in (State.READY, State.STOPPED) and not record.intent
    if not record.supervised or (at_rest and not to_start):
        link = yield from _serve_ourselves(store, record.id)
        return link
    deadline = time.monotonic() + SUPERVISOR_DEADLINE
    killed = 0
    while True:
        found = yield from find_supervisor(store, record.id, deadline)
        if found is not None:
            return found
        if time.monotonic() > deadline:
            raise BusyError(f"pod {record.id!r} is busy with another operation; try again")
        if not (yield from _start_supervisor(record, deadline)):
            killed += 1
            if killed == _KILLED_MAX:
                raise SupervisorError(f"the supervisor of pod {record.id!r} was killed {killed} times while it started")


def find_supervisor(store: Store, pod_id: str, deadline: float) -> Operation[Link | None]:
    """Return a greeted connection to the pod's supervisor, or None if it has none."""
    try:
        directory = os.open(
            store.roots.pod_run_dir(pod_id), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        )
    except OSError:
        return None
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.setblocking(False)
    try:
        sock.connect(wire.socket_path(directory))
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        link = Link(sock, os.pidfd_open(struct.unpack("3i", credentials)[0]))
    except BlockingIOError as error:
        sock.close()
        raise BusyError(f"the supervisor of pod {pod_id!r} has too many clients; try again") from error
    except OSError:
        sock.close()
        return None
    finally:
        os.close(directory)
    try:
        yield from link.receive(deadline)
    except SupervisorLostError:
        yield from link.close()
        return None  # it was about to end, and never saw us
    except BaseException:
        yield from link.close()
        raise
    return link


def _start_supervisor(record: PodRecord, deadline: float) -> Operation[bool]:
    """Start a supervisor and return when it serves, or when it says that another one may; False if it was killed."""
    ready, ready_end = os.pipe()
    errors, errors_end = os.pipe()
    try:
        try:
            yield InThread(lambda: _spawn(record, ready_end, errors_end))
        finally:
            os.close(ready_end)
            os.close(errors_end)
        answer = b""
        while (yield Ready(read=[ready], deadline=deadline)):
            data = os.read(ready, wire.PACKET_MAX)
            if not data:
                break
            answer += data
        else:
            raise SupervisorError(f"the supervisor of pod {record.id!r} did not get ready in time")
        if not answer:
            # Whatever was started has ended; before it was ready, it said here why.
            why = os.read(errors, wire.PACKET_MAX).decode(errors="replace").strip().rpartition("\n")[2]
            if not why:
                return False
            raise SupervisorError(f"the supervisor of pod {record.id!r} cannot be started: {why}")
    finally:
        os.close(ready)
        os.close(errors)
    if answer not in (b"ok", b"busy"):
        raise error_from_wire(msgspec.json.decode(answer))
    return True


def _spawn(record: PodRecord, ready: int, errors: int) -> None:
    """Start a supervisor as nobody's child: in a new mount namespace, or in that of the VM that it takes over."""
    identity = vm_identity(record)
    if identity is not None and identity.alive():
        namespace = ["nsenter", f"--mount=/proc/{identity.pid}/ns/mnt", "--"]
    else:
        namespace = ["unshare", "--mount", "--propagation", "private", "--"]
    python = [sys.executable, *supervisor_arguments(record.id), str(ready)]
    try:
        subprocess.run(
            ["setsid", "--fork", *namespace, *python],
            pass_fds=[ready], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, check=True, cwd="/",
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError) as error:
        raise SupervisorError(f"'setsid' (Debian package util-linux) cannot be run: {error}") from error


def _serve_ourselves(store: Store, pod_id: str) -> Operation[Link]:
    """Serve one request in a thread of this process, with the same code as a supervisor, under the pod's lock."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    failed: list[VCError] = []

    def work() -> None:
        import asyncio

        from vc_core.engine import Engine
        from vc_core.plugins import Plugins
        from vc_core.supervisor.service import serve

        plugins = Plugins()

        async def one() -> None:
            engine = await Engine.open(store, pod_id, plugins)
            try:
                await serve(engine, theirs)
            finally:
                await engine.aclose()

        try:
            with store.locked(pod_id):
                try:
                    asyncio.run(one())
                finally:
                    plugins.drain()  # under the lock, so that notifications of the next operation come later
        except VCError as error:
            failed.append(error)
        finally:
            theirs.close()

    thread = threading.Thread(target=work, name=f"pod {pod_id}")
    thread.start()
    link = Link(ours, None, thread)
    try:
        yield from link.receive(time.monotonic() + SUPERVISOR_DEADLINE)
    except BaseException as error:
        yield from link.close()
        if failed and isinstance(error, SupervisorLostError):
            raise failed[0] from None
        raise
    return link


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
