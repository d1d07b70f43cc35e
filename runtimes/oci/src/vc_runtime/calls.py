"""What all verbs have, and small parts that several use."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from vc_runtime import spec
from vc_runtime.faults import Log, RuntimeFault
from vc_runtime.records import Record, Root, Shim

if TYPE_CHECKING:
    import socket

    from vc_runtime.console import Console

#: Exit code of a process whose own is not available.
LOST = 255

#: Signals by which somebody asks a command in the foreground to end, and all that it forwards to its process.
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_FORWARDED = (*ENDING, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGCONT)


@dataclass(frozen=True, slots=True)
class Call:
    """What all verbs have: the directory of containers, the log, and the global options, to run this program again."""

    root: Root
    log: Log
    options: tuple[str, ...] = ()


def described(record: Record, status: str) -> dict[str, Any]:
    """Return the state of a container as the specification has it, with a status of its own."""
    return {
        "ociVersion": record.oci_version or spec.VERSION,
        "id": record.id,
        "status": status,
        "pid": 0 if status == "stopped" else record.pid,
        "bundle": record.bundle,
        "rootfs": record.rootfs,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created_at)),
        "annotations": record.annotations,
        "owner": "",
    }


def state_of(record: Record, status: str) -> bytes:
    """Return the same as a document, for hooks."""
    return msgspec.json.encode(described(record, status))


def write_pid(path: Path, pid: int) -> None:
    """Write a pid file, as a whole or not at all."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(str(pid), encoding="utf-8")
    fresh.replace(path)


def open_namespace(path: str) -> int:
    """Return a descriptor of a namespace for the caller to close. Raises RuntimeFault."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise RuntimeFault(f"namespace {path} cannot be opened: {error.strerror}") from error


def console_of(path: str, terminal: bool, stack: ExitStack, own: Console | None) -> socket.socket | None:
    """Return a connection to the engine's console socket, for a process on a terminal; without one that of ``own``."""
    if not terminal:
        if path:
            raise RuntimeFault("--console-socket is given, but the process has no terminal; leave it out")
        return None
    if not path:
        if own is None:
            raise RuntimeFault("the process has a terminal; give the --console-socket that gets it")
        return own.socket
    import socket  # here, because few containers have a terminal

    console = stack.enter_context(closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)))
    try:
        console.connect(path)
    except OSError as error:
        raise RuntimeFault(f"console socket {path} cannot be connected: {error.strerror}") from error
    return console


def attended(shim: Shim, console: Console) -> int:
    """Return the exit code of a shim that is this process' child, which has its terminal and its signals meanwhile."""
    before = {one: signal.signal(one, lambda signum, _: shim.process.send(signum)) for one in _FORWARDED}
    try:
        console.relay()
        with suppress(ChildProcessError):
            return os.waitstatus_to_exitcode(os.waitpid(shim.pid, 0)[1])
        return LOST
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def reason(code: int | None) -> str:
    """Return why a program could not be started, in the words that engines expect, by a shell's exit code."""
    known = {127: "executable file not found in $PATH", 126: "permission denied"}
    return known.get(code or 0, f"it cannot be set up in the guest (exit code {code})")
