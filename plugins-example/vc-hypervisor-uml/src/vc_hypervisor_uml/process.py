"""Starts the kernel's processes: in a pid namespace of their own, under a seccomp filter, and stopped by a pipe."""

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

#: The first process of the namespace waits for a line, then runs the kernel and waits for its end; orphans in the
#: namespace become its children. Its umask is 0, so that files made on the host have the modes that the guest gives.
_FIRST = 'read -r _ && umask 0 && "$@" </dev/null; exit $?'

#: Makes the first ``$1`` of the directories that follow read-only, with what is mounted below them as it is, and runs
#: the rest as a command.
_READ_ONLY = """
count=$1; shift
while [ "$count" -gt 0 ]; do
    mount --rbind "$1" "$1" && mount -o remount,bind,ro "$1" || exit
    shift; count=$((count - 1))
done
exec "$@"
"""

_libc = ctypes.CDLL(None, use_errno=True)
_T = TypeVar("_T")


def start(argv: Sequence[str], directory: Path, waiting: int, output: int, inherited: Sequence[int]) -> tuple[int, int]:
    """Start the first process of a new pid namespace, which runs ``argv`` once it has read a line from ``waiting``.

    User Mode Linux has helpers that outlive it when it is killed. When a namespace's first process ends, the host's
    kernel kills all others in it, before the parent is notified (pid_namespaces(7)). ``output``: descriptor for the
    output of all. ``inherited``: descriptors that they get under the same numbers. Returns the first process' pid and a
    pidfd to close.
    Raises VMStartError, OSError.
    """
    command = ["/bin/sh", "-c", _FIRST, "sh", *argv]
    return _isolated(lambda: vm_process.spawn(command, directory, output, inherited, waiting))


def without_writing(argv: Sequence[str], directories: Sequence[Path]) -> list[str]:
    """Return a command that runs ``argv`` in a mount namespace of its own, where the directories are read-only.

    hostfs itself cannot refuse to write: a guest's root can mount it again, for writing. The namespace is a slave of
    the pod's, so what is bound in the directories later is there too. The first process, which is the VM's for the
    core, stays in the pod's namespace.
    """
    if not directories:
        return list(argv)
    namespace = ["unshare", "--mount", "--propagation", "slave", "--"]
    return [*namespace, "/bin/sh", "-c", _READ_ONLY, "sh", str(len(directories)), *map(str, directories), *argv]


def take(pidfd: int, number: int) -> int:
    """Return a copy of the descriptor ``number`` of the process ``pidfd`` (pidfd_getfd(2)). Raises OSError."""
    taken = _libc.syscall(_PIDFD_GETFD, pidfd, number, 0)
    if taken == -1:
        raise _error()
    return int(taken)


def _isolated(work: Callable[[], _T]) -> _T:
    """Return ``work()``, whose children are in a new pid namespace and under the seccomp filter.

    It runs in a thread that ends afterwards: both apply only to children of that thread (unshare(2), seccomp(2)).
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
