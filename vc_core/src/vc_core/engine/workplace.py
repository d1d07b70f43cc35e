"""Directories in which drivers check the host, and the processes that a check leaves there."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vc_core.config.ids import pod_uuid
from vc_core.host import processes

#: Beginning of the directories' names, below the directory for temporary files.
_PREFIX = "vc-host-check-"

#: Seconds after which a directory that no check has locked is taken for one whose check was killed.
_ABANDONED = 60.0

#: Seconds for a process that is killed to end.
_KILL_TIMEOUT = 5.0


@contextmanager
def workplace() -> Iterator[Path]:
    """Yield an empty directory that only this user can enter; then kill what runs there, and remove it.

    What runs there: the processes that have the directory as their working directory, and its UUID (``pod_uuid``)
    as an argument.
    """
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield directory
    finally:
        _clear(directory)
        os.close(fd)


def clear_abandoned() -> None:
    """Do the same for the directories of checks that were killed. Called before a check."""
    for directory in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                status = os.fstat(fd)
                private = status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) == 0o700
                if private and time.time() - status.st_mtime > _ABANDONED:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _clear(directory)
            finally:
                os.close(fd)


def _clear(directory: Path) -> None:
    for left in processes.find_vms(directory, pod_uuid(directory)):
        left.kill(_KILL_TIMEOUT)
    shutil.rmtree(directory, ignore_errors=True)
