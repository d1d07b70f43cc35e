"""Enters namespaces of other processes; ``os.setns`` exists from Python 3.12 on."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from vc_runtime.faults import Refused, RuntimeFault
from vc_runtime.records import Record

#: Of linux/sched.h.
_CLONE_NEWNET = 0x40000000

HOST_NETWORK = "a container in a virtual machine cannot have the host's network; give it one of its own"


def enter_network(path: str) -> None:
    """Enter the network namespace of a file, for good, with all processes that this one starts. Raises RuntimeFault."""
    import ctypes  # here, because most verbs enter none

    libc = ctypes.CDLL(None, use_errno=True)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise RuntimeFault(f"network namespace {path} cannot be opened: {error.strerror}") from error
    try:
        if libc.setns(fd, _CLONE_NEWNET):
            why = os.strerror(ctypes.get_errno())
            raise RuntimeFault(f"network namespace {path} cannot be entered: {why}")
    finally:
        os.close(fd)


def sharer(path: str, records: Iterable[Record]) -> str:
    """Return the id of the container that has the network namespace of a file, "" for none.

    Raises Refused for that of the host, where a VM would take what arrives for the host.
    """
    try:
        wanted = Path(path).stat()
    except OSError as error:
        raise RuntimeFault(f"network namespace {path} cannot be opened: {error.strerror}") from error
    if _has(os.getpid(), wanted) or _has(1, wanted):
        raise Refused(HOST_NETWORK)
    return next((one.sandbox or one.id for one in records if one.pid and _has(one.pid, wanted)), "")


def _has(pid: int, network: os.stat_result) -> bool:
    """Return whether a process has a network namespace; not, where it has ended or nobody may look."""
    try:
        return os.path.samestat(Path(f"/proc/{pid}/ns/net").stat(), network)
    except OSError:
        return False
