"""Locks between processes, one per pod and per template that is made: an flock on a file that dies with its holder.

The holder of a pod's lock is the only process that may change the pod: a client for the time of one operation, the
supervisor for as long as the pod runs. The last step of deleting a pod is to unlink its lock file. A process that gets
a lock therefore checks that the path still names the file that it locked, and starts again if not: otherwise two
processes could hold the lock on different files.
"""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

from vc_core import failpoints
from vc_core.driver.files import open_regular
from vc_core.errors import BusyError, StorageError


class FileLock:
    """A held lock; released by :meth:`release`, by garbage collection, and by the death of the process."""

    def __init__(self, fd: int, path: Path) -> None:
        self._file = os.fdopen(fd, "rb", buffering=0)
        self._path = path

    @property
    def held(self) -> bool:
        """Whether it was not released yet."""
        return not self._file.closed

    def release(self) -> None:
        """Release the lock. Idempotent; may be called by another thread than the one that got it."""
        self._file.close()

    def unlink(self) -> None:
        """Unlink the lock file. Called after what it guards is removed, before the lock is released. Raises OSError."""
        self._path.unlink(missing_ok=True)


def acquire(path: Path, timeout: float, busy: str) -> FileLock:
    """Wait for the lock on ``path`` for ``timeout`` seconds at most and return it.

    ``busy`` is the text of the error when another process keeps it. Raises BusyError, StorageError.
    """
    lock = _lock(path)
    if lock is None and timeout > 0:
        lock = _wait(path, timeout)
    if lock is None:
        raise BusyError(busy)
    return lock


def _open(path: Path) -> int:
    try:
        return open_regular(path, os.O_RDONLY | os.O_CREAT)
    except OSError as error:
        raise StorageError(f"lock file {str(path)!r} cannot be opened: {error.strerror}") from error


def _is_current(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.lstat())
    except FileNotFoundError:
        return False


def _lock(path: Path, given_up: threading.Event | None = None) -> FileLock | None:
    """Return the lock, or None if another process holds it. Raises StorageError.

    ``given_up``: wait for it, until this is set: then a file that was removed meanwhile is not made again.
    """
    while given_up is None or not given_up.is_set():
        fd = _open(path)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (fcntl.LOCK_NB if given_up is None else 0))
            failpoints.reach("store.lock.locked")
            if _is_current(fd, path):
                return FileLock(fd, path)
        except BlockingIOError:
            os.close(fd)
            return None
        except OSError as error:
            os.close(fd)
            raise StorageError(f"lock file {str(path)!r} cannot be locked: {error.strerror}") from error
        os.close(fd)
    return None


def _wait(path: Path, timeout: float) -> FileLock | None:
    """Wait in a thread, because flock(2) has no timeout; a lock that the thread gets too late is released at once.

    Raises StorageError.
    """
    guard, given_up, got = threading.Lock(), threading.Event(), []
    failed: list[StorageError] = []

    def work() -> None:
        try:
            lock = _lock(path, given_up)
        except StorageError as error:
            failed.append(error)
            return
        with guard:
            if lock is not None and given_up.is_set():
                lock.release()
            elif lock is not None:
                got.append(lock)

    thread = threading.Thread(target=work, name=f"wait for {path.name}", daemon=True)
    thread.start()
    thread.join(timeout)
    with guard:
        given_up.set()
        if failed:
            raise failed[0]
        return got[0] if got else None
