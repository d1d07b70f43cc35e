"""Enters namespaces of other processes; ``os.setns`` exists from Python 3.12 on."""

from __future__ import annotations

import ctypes
import os

from vc_runtime.faults import RuntimeFault

#: Of linux/sched.h.
_CLONE_NEWNET = 0x40000000


def enter_network(path: str) -> None:
    """Enter the network namespace of a file, for good, with all processes that this one starts. Raises RuntimeFault."""
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
