"""Connects an operation to the pod's supervisor, or runs the engine in this process for pods that need none.

Everything here is written as operations (see ``interpreters``).
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from vc_core import trace
from vc_core.client.interpreters import Operation, system_errors
from vc_core.client.link import Link, answer_to
from vc_core.errors import (
    BusyError,
    SupervisorError,
    SupervisorLeavingError,
    SupervisorLostError,
    VCError,
    refused,
)
from vc_core.plugins import running_call
from vc_core.store.locks import FileLock
from vc_core.store.records import PodRecord
from vc_core.store.status import at_rest, effective_record, vm_identity
from vc_core.store.store import Store
from vc_core.supervisor import wire
from vc_core.supervisor.messages import Answer, Failure, Request
from vc_core.supervisor.ready import BUSY, OK

if TYPE_CHECKING:
    from vc_core.client.starting import Starting

_T = TypeVar("_T")

#: Seconds for a supervisor to start, take over its pod, and greet.
SUPERVISOR_TIMEOUT = 20.0

#: Attempts to start a supervisor before giving up when each ends before it greets its client, as one that is killed.
_START_ATTEMPTS = 5


def connect(
    store: Store,
    record: PodRecord,
    to_start: bool = False,
    early: Starting | None = None,
    send: Callable[[Link], None] | None = None,
) -> Operation[Link]:
    """Return a greeted connection for the pod; starts its supervisor if it needs one and has none.

    ``record`` is the effective one; ``to_start``: its VM is about to start; ``early``: a supervisor that may wait.
    ``send`` sends the request before the greeting is there, which saves a round trip. A supervisor reads it after it
    has sent the greeting, so a request without a greeting had no effect, and ``send`` is called again.
    Raises BusyError, SupervisorError, what keeps a supervisor from starting, and what ``send`` raises.
    """
    if not record.supervised or (at_rest(record) and not to_start):
        link = yield from _serve_here(store, record.id)
        if send is not None:
            send(link)
        return link
    deadline = time.monotonic() + SUPERVISOR_TIMEOUT
    ended, answer = 0, b""  # supervisors that ended before they greeted, and the answer of the last one
    while True:
        found = yield from find_supervisor(store, record.id, deadline, send)
        if found is not None:
            found.kills_hung = answer == OK
            return found
        from vc_core.client.starting import Starting, last_call  # a pod that runs has a supervisor

        if ended == _START_ATTEMPTS:
            raise SupervisorError(
                f"the supervisor of pod {record.id!r} ended {ended} times while it started"
                f"{last_call(store, record.id, ', the last time while ')}"
            )
        if time.monotonic() > deadline:
            raise BusyError(f"pod {record.id!r} is busy with another operation; try again")
        with trace.span("start the supervisor"):
            starting = early if early is not None and early.waits else Starting(store, record.id)
            answer = yield from starting.serve(record, deadline)
        if answer != BUSY:
            ended += 1


def until_served(operation: Callable[[], Operation[_T]]) -> Operation[_T]:
    """Perform an operation on a pod, again if it meets a supervisor that is about to end.

    ``operation`` reads the pod's record anew. Raises what it raises, but for SupervisorLeavingError.
    """
    while True:
        try:
            return (yield from operation())
        except SupervisorLeavingError:
            continue


def ask(
    store: Store, record: PodRecord, message: Request, timeout: float | None = 0.0, fds: Sequence[int] = ()
) -> Operation[Answer]:
    """Send one request without streams to a supervisor; return its answer.

    ``timeout``: as :func:`answer_to`. ``fds``: descriptors that go with the request.
    Raises what the pod's record, the way to its supervisor and the answer raise.
    """

    def once() -> Operation[Answer]:
        now = effective_record(store.read(record.id))
        link = yield from connect(store, now, send=lambda link: link.send(message, fds))
        try:
            return (yield from answer_to(link, timeout))
        finally:
            yield from link.close()

    return (yield from until_served(once))


def find_supervisor(
    store: Store, pod_id: str, deadline: float, send: Callable[[Link], None] | None = None
) -> Operation[Link | None]:
    """Return a greeted connection to the pod's supervisor, or None if it has none.

    ``deadline`` (of time.monotonic) is for its greeting. ``send`` as for :func:`connect`, whose errors are raised.
    Raises BusyError when it has too many clients, SupervisorError when it does not greet in time.
    """
    with system_errors():
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.setblocking(False)
    try:
        directory = os.open(
            store.roots.pod_run_dir(pod_id), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        )
    except OSError:
        sock.close()
        return None
    try:
        sock.connect(wire.socket_path(directory))
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pidfd = os.pidfd_open(struct.unpack("3i", credentials)[0])
        calls = running_call.open_record(directory)
        link = Link(sock, pidfd, calls=calls, runs_on=lambda: _runs_on(store, pod_id))
    except BlockingIOError as error:
        sock.close()
        raise BusyError(f"the supervisor of pod {pod_id!r} has too many clients; try again") from error
    except OSError:
        sock.close()
        return None
    finally:
        os.close(directory)
    return (yield from greeted(link, deadline, send))


def greeted(link: Link, deadline: float, send: Callable[[Link], None] | None = None) -> Operation[Link | None]:
    """Return a connection once it is greeted; None, with it closed, if the supervisor ends and sends no greeting.

    Arguments and errors as those of :func:`find_supervisor`.
    """
    try:
        if send is not None:
            send(link)
        yield from link.greeted(deadline)
    except SupervisorLostError:
        yield from link.close()
        return None
    except BaseException:
        yield from link.close()
        raise
    return link


def _runs_on(store: Store, pod_id: str) -> bool:
    """Return whether a pod may have a VM now that its supervisor ended."""
    try:
        record = store.read(pod_id)
        identity = vm_identity(record)
    except VCError:
        return True
    return record.discards and not at_rest(record) if identity is None else identity.alive()


def _serve_here(store: Store, pod_id: str) -> Operation[Link]:
    """Serve one request in a thread of this process, with the same code as a supervisor, under the pod's lock.

    Raises BusyError when another operation holds the lock, StorageError.
    """
    with system_errors():
        client_end, server_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client_end.setblocking(False)
    failed: list[VCError] = []
    served = threading.Event()
    held: list[FileLock] = []

    from vc_core.engine.engine import Engine
    from vc_core.plugins import event_loop
    from vc_core.plugins.registry import Plugins
    from vc_core.supervisor.service import serve

    def give_up(error: VCError) -> None:
        """Answer in the place of a thread that a plug-in blocks, and leave it behind, without the pod's lock.

        If the plug-in returns after all, the thread can change the pod no more: its store refuses that.
        """
        for lock in held:
            lock.release()
        with suppress(OSError):
            wire.send(server_end, Failure.of(error))
        served.set()

    stopped: list[str] = []

    def report_end(why: str) -> None:
        stopped.append(why)
        with suppress(OSError):
            wire.send(server_end, Failure.of(SupervisorError(f"the operation ended, because {why}")))

    watchdog = event_loop.Watchdog(give_up)

    def work() -> None:
        plugins = Plugins()

        async def one() -> None:
            engine = await Engine.open(store.holding(*held), pod_id, plugins)
            try:
                await serve(engine, server_end)
            finally:
                await engine.aclose()

        try:
            with store.locked(pod_id) as lock:
                held.append(lock)
                event_loop.run(one(), watchdog, on_stopped=report_end)
        except VCError as error:
            failed.append(error)
        except OSError as error:
            failed.append(refused(error))
        except Exception as error:  # such as that no thread can be started
            if not stopped:
                failed.append(SupervisorError(f"the operation failed unexpectedly: {error!r}"))
        except BaseException:
            if not stopped:
                raise
        finally:
            server_end.close()
            served.set()

    def wait_served() -> None:
        watchdog.hurry()  # the caller has its answer or wants none any more
        served.wait()

    # A daemon: the process must not wait for it when it is left behind.
    threading.Thread(target=work, name=f"pod {pod_id}", daemon=True).start()
    link = Link(client_end, None, wait_served)
    try:
        yield from link.greeted(time.monotonic() + SUPERVISOR_TIMEOUT)
    except BaseException as error:
        yield from link.close()
        if failed and isinstance(error, SupervisorLostError):
            raise failed[0] from None
        raise
    return link
