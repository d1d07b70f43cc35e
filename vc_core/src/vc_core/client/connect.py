"""Connects an operation to the pod's supervisor, or runs the engine in this process for pods that need none.

Everything here is written as operations (see ``interpreters``).
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from vc_core import trace
from vc_core.client.interpreters import InThread, Operation, Ready
from vc_core.client.link import Link
from vc_core.errors import BusyError, SupervisorError, SupervisorLostError, VCError, error_from_wire
from vc_core.host.processes import find_starting_supervisor, supervisor_arguments
from vc_core.plugins import running_call
from vc_core.store.locks import FileLock
from vc_core.store.records import PodRecord
from vc_core.store.status import at_rest, vm_identity
from vc_core.store.store import Store
from vc_core.supervisor import wire
from vc_core.supervisor.messages import Failure
from vc_core.supervisor.ready import BUSY, OK

#: Seconds for a supervisor to start, take over its pod, and greet.
SUPERVISOR_TIMEOUT = 20.0

#: Variables of the caller's environment that a supervisor gets, and beginnings of such: what finds programs, packages
#: and directories, and what is made for this project, its drivers (``VC_``) and its tests. Others may hold secrets.
_VARIABLES = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR"}
)
_PROXIES = frozenset(f"{scheme}_proxy" for scheme in ("http", "https", "ftp", "no", "all"))  # written in either case
_BEGINNINGS = ("VIRTCONTAINERS_", "VC_", "XDG_", "LC_", "PYTHON", "COVERAGE_")

#: Capabilities (linux/capability.h) that no supervisor needs, nor any program that it runs: LINUX_IMMUTABLE,
#: SYS_MODULE, SYS_RAWIO, SYS_PACCT, SYS_BOOT, SYS_TIME, LEASE, AUDIT_CONTROL, MAC_OVERRIDE, MAC_ADMIN, SYSLOG,
#: WAKE_ALARM, BLOCK_SUSPEND, AUDIT_READ, PERFMON, BPF.
_NEEDLESS = (9, 16, 17, 20, 22, 25, 28, 30, 32, 33, 34, 35, 36, 37, 38, 39)

#: Attempts to start a supervisor before giving up when each ends without a message, as one that is killed.
_START_ATTEMPTS = 5

#: Seconds for a supervisor that is killed to end.
_KILL_TIMEOUT = 10.0


def connect(store: Store, record: PodRecord, to_start: bool = False) -> Operation[Link]:
    """Return a greeted connection for the pod; starts its supervisor if it needs one and has none.

    ``record`` is the effective one; ``to_start``: its VM is about to start.
    Raises BusyError, SupervisorError, and what keeps a supervisor from starting.
    """
    if not record.supervised or (at_rest(record) and not to_start):
        link = yield from _serve_here(store, record.id)
        return link
    deadline = time.monotonic() + SUPERVISOR_TIMEOUT
    killed, answer = 0, b""
    while True:
        found = yield from find_supervisor(store, record.id, deadline)
        if found is not None:
            found.kills_hung = answer == OK
            return found
        if time.monotonic() > deadline:
            raise BusyError(f"pod {record.id!r} is busy with another operation; try again")
        with trace.span("start the supervisor"):
            answer = yield from _start_supervisor(store, record, deadline)
        if not answer:
            killed += 1
            if killed == _START_ATTEMPTS:
                raise SupervisorError(
                    f"the supervisor of pod {record.id!r} ended {killed} times while it started"
                    f"{_last_call(store, record.id, ', the last time while ')}"
                )


def find_supervisor(store: Store, pod_id: str, deadline: float) -> Operation[Link | None]:
    """Return a greeted connection to the pod's supervisor, or None if it has none.

    ``deadline`` (of time.monotonic) is for its greeting. Raises BusyError when it has too many clients, SupervisorError
    when it does not greet in time.
    """
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
    try:
        yield from link.greeted(deadline)
    except SupervisorLostError:
        yield from link.close()
        return None  # it was about to end, and did not accept the connection
    except BaseException:
        yield from link.close()
        raise
    return link


def _start_supervisor(store: Store, record: PodRecord, deadline: float) -> Operation[bytes]:
    """Start a supervisor; return ``OK`` when it serves, ``BUSY`` if it found that the pod is busy.

    Returns b"" if it ended without a message, or with its VM, in whose namespace it was to be. If this gives up
    before the supervisor is ready, or is interrupted, the supervisor is killed. Raises SupervisorError, and the error
    that keeps it from serving.
    """
    ready, ready_end = os.pipe()
    errors, errors_end = os.pipe()
    try:
        try:
            enters: bool = yield InThread(lambda: _spawn(store, record, ready_end, errors_end))
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
            hung = _last_call(store, record.id, " while ")
            raise SupervisorError(f"the supervisor of pod {record.id!r} did not get ready in time{hung}; it was killed")
        if not answer:
            # The process has ended; before it is ready, its error output comes here.
            why = os.read(errors, wire.PACKET_MAX).decode(errors="replace").strip().rpartition("\n")[2]
            vm = vm_identity(record)
            if not why or (enters and vm is not None and not vm.alive()):
                return b""
            raise SupervisorError(f"the supervisor of pod {record.id!r} cannot be started: {why}")
    except BaseException:
        yield InThread(lambda: _kill_starting(record.id, ready))
        raise
    finally:
        os.close(ready)
        os.close(errors)
    if answer not in (OK, BUSY):
        raise error_from_wire(msgspec.json.decode(answer))
    return answer


def _runs_on(store: Store, pod_id: str) -> bool:
    """Return whether a pod may have a VM now that its supervisor ended."""
    try:
        record = store.read(pod_id)
        identity = vm_identity(record)
    except VCError:
        return True
    return record.discards and not at_rest(record) if identity is None else identity.alive()


def _kill_starting(pod_id: str, ready: int) -> None:
    """Kill the supervisor whose ready pipe is read from ``ready``, if it still starts."""
    for supervisor in find_starting_supervisor(pod_id, ready):
        supervisor.kill(_KILL_TIMEOUT)


def _last_call(store: Store, pod_id: str, before: str) -> str:
    """Return ``before`` and the plug-in's call that the pod's supervisor is executing or ended in; "" for none."""
    try:
        directory = os.open(store.roots.pod_run_dir(pod_id), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        record = running_call.open_record(directory)
    finally:
        os.close(directory)
    if record is None:
        return ""
    try:
        call = running_call.read(record)
    finally:
        os.close(record)
    return before + call if call else ""


def _spawn(store: Store, record: PodRecord, ready: int, errors: int) -> bool:
    """Start a supervisor, as a child of init, in a new mount namespace or in that of the VM that it takes over.

    That of a plain user enters the namespace by itself. Returns whether it is started in that of the VM.
    """
    identity = vm_identity(record)
    enters = os.geteuid() == 0 and identity is not None and identity.alive()
    if os.geteuid() != 0:
        namespace = []
    elif identity is not None and enters:
        namespace = ["nsenter", f"--mount=/proc/{identity.pid}/ns/mnt", "--"]
    else:
        namespace = ["unshare", "--mount", "--propagation", "private", "--"]
    python = [sys.executable, *supervisor_arguments(record.id), str(ready)]
    try:
        subprocess.run(
            ["setsid", "--fork", *namespace, *_less_capable(), *python],
            pass_fds=[ready],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            check=True,
            cwd="/",
            env=_environment(store.roots.environment),
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise SupervisorError(f"'setsid' (Debian package util-linux) cannot be run: {error}") from error
    return enters


def _environment(caller: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a supervisor: of that of its caller, what a supervisor may need."""
    return {
        name: value
        for name, value in caller.items()
        if name.lower() in _PROXIES or name in _VARIABLES or name.startswith(_BEGINNINGS)
    }


def _less_capable() -> list[str]:
    """Return the beginning of a command that runs a program without the capabilities that no supervisor needs."""
    if os.geteuid() != 0:
        return []
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text(encoding="ascii"))
    return ["setpriv", "--bounding-set", ",".join(f"-cap_{number}" for number in _NEEDLESS if number <= last), "--"]


def _serve_here(store: Store, pod_id: str) -> Operation[Link]:
    """Serve one request in a thread of this process, with the same code as a supervisor, under the pod's lock.

    Raises BusyError when another operation holds the lock, StorageError.
    """
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
                try:
                    event_loop.run(one(), watchdog, on_stopped=report_end)
                finally:
                    plugins.drain()  # under the lock, so that notifications of the next operation come later
        except VCError as error:
            failed.append(error)
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
