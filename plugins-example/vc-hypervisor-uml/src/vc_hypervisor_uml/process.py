"""How the kernel's processes are started: in a pid namespace of their own, restricted, and waiting at a gate."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from vc_core.driver import vm_process
from vc_hypervisor_uml import seccomp

#: From <linux/sched.h>, and the number of pidfd_getfd(2), which is the same on every architecture. Python has neither.
_CLONE_NEWPID = 0x20000000
_PIDFD_GETFD = 438

#: The first process of the namespace waits for a line, and then for the kernel, whose orphans it inherits. The guest's
#: own mask is the one that counts for files which it makes on the host.
_FIRST = 'read -r _ && umask 0 && "$@" </dev/null; exit $?'

_libc = ctypes.CDLL(None, use_errno=True)
_T = TypeVar("_T")


def start(argv: Sequence[str], directory: Path, waiting: int, output: int, inherited: Sequence[int]) -> tuple[int, int]:
    """Start the first process of a new pid namespace, which runs ``argv`` when a line comes from ``waiting``.

    User Mode Linux has helpers that outlive it when it is killed. The end of a namespace's first process is the end of
    all others in it, and they are gone before it is seen to be. Returns its pid and a pidfd to close.
    Raises VMStartError, OSError.
    """
    command = ["/bin/sh", "-c", _FIRST, "sh", *argv]
    return _isolated(lambda: vm_process.spawn(command, directory, output, inherited, waiting))


def take(pidfd: int, number: int) -> int:
    """Return a copy of another process' descriptor ``number``. Raises OSError."""
    taken = _libc.syscall(_PIDFD_GETFD, pidfd, number, 0)
    if taken == -1:
        raise _error()
    return int(taken)


def _isolated(work: Callable[[], _T]) -> _T:
    """Do work whose children are born in a new pid namespace, and restricted.

    In a thread of its own, which ends with it: that is all whose children are concerned (unshare(2), seccomp(2)).
    """

    def run() -> _T:
        if _libc.unshare(_CLONE_NEWPID) != 0:
            raise _error()
        seccomp.restrict_thread()
        return work()

    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(run).result()


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
