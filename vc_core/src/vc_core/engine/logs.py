"""The logs of containers: capped files that a new supervisor continues without losing or repeating a byte."""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from pathlib import Path

from vc_core.driver.files import open_regular
from vc_core.driver.rotating import RotatingFile, former
from vc_core.errors import StorageError
from vc_core.store.container_log import ENTRY, HEADER, OF_LOG, Entry, index_path, last_entry, read_header

#: A container's log: two files of half this size at most (bytes), their indexes included, the older ``output.log.1``.
LOG_BYTES_MAX = 16 * 1024 * 1024

#: Bytes of a disk that logs leave free for the records of pods: some hundreds of them, each written beside its former.
RESERVE = 4 * 1024 * 1024

#: The line about bytes that the disk refused.
_LOST = b"[virtcontainers: %d bytes of output are missing here: the disk did not take them]\n"


class ContainerLog:
    """A container's log: output and error output, in the order of arrival, capped.

    Before each append it adds an entry to the log's index that says what is about to be appended. After a supervisor's
    sudden end the last entry and the log's size let the next supervisor compute exactly how many bytes of each stream
    the log holds.
    """

    def __init__(self, path: Path, cap: int = LOG_BYTES_MAX, resumed: bool = False) -> None:
        """Open the log of a process that starts, or with ``resumed`` of one that a former owner logged.

        ``cap``: bytes in all files of the log together. Raises StorageError.
        """
        #: Bytes of output and error output that the former owner logged; None without a former owner or its index.
        self.taken: tuple[int, int] | None = None
        self._counted = [0, 0]
        self._lost = 0
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if resumed:
                self._resume(path)
            self._file = RotatingFile(path, cap)
            try:
                self._index = _Index(index_path(path), index_path(former(path)), self._file.inode)
                if not resumed:
                    self._index.append(self._file.size, 0, 0, 0, 0)
            except OSError:
                self._file.close()
                raise
        except OSError as error:
            raise StorageError(f"log {str(path)!r} cannot be opened: {error.strerror}") from error

    def _resume(self, path: Path) -> None:
        """Continue the former owner's counts. Raises OSError."""
        last = last_entry(path)
        for one in (path, former(path)):
            if last is not None and one.exists() and (now := one.stat()).st_ino == last[0]:
                entry = last[1]
                self._counted = [entry.stdout, entry.stderr]
                if entry.stream != OF_LOG:
                    self._counted[entry.stream] += min(now.st_size - entry.offset, entry.length)
                self.taken = (self._counted[0], self._counted[1])
                return

    def write(self, data: bytes, stream: int = 0) -> None:
        """Append bytes; ``stream`` is 0 for output, 1 for error output.

        Never raises: bytes that a full disk refuses are lost, so that the container can go on. They are counted all the
        same, because the guest does not send them again, and a line says how many were lost before the next that the
        disk takes. The last ``RESERVE`` bytes of the disk are left for the records of pods.
        """
        try:
            if not self._has_room(len(data)):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._report_lost()
            written = self._append(data, stream)
        except OSError:
            written = 0
        if written == len(data):
            return
        self._lost += len(data) - written
        self._counted[stream] += len(data) - written
        with suppress(OSError):
            self._note(0, OF_LOG)

    def _report_lost(self) -> None:
        """Append the line about lost bytes, if there are any. Raises OSError."""
        if self._lost:
            self._append(_LOST % self._lost, OF_LOG)
            self._lost = 0

    def _has_room(self, length: int) -> bool:
        """Return whether the disk has room for bytes beside the reserve. Raises OSError."""
        return self._index.disk_space() >= length + RESERVE

    def _append(self, data: bytes, stream: int) -> int:
        """Append bytes, noted before, and return how many were written. Raises OSError."""
        self._file.make_room(len(data) + self._index.size)
        self._note(len(data), stream)
        before = self._file.size
        self._file.append(data)
        written = self._file.size - before
        if stream != OF_LOG:
            self._counted[stream] += written
        return written

    def _note(self, length: int, stream: int) -> None:
        """Add an entry to the index of the file that is appended to. Raises OSError."""
        self._index.follow(self._file.inode)
        self._index.append(self._file.size, *self._counted, length, stream)

    def close(self) -> None:
        """Close the files. Idempotent."""
        with suppress(OSError):
            self._report_lost()
        self._file.close()
        self._index.close()


class _Index:
    """The index of the file that is appended to."""

    def __init__(self, path: Path, former_path: Path, inode: int) -> None:
        """Open or begin the index of the file ``inode``. Raises OSError."""
        self._path, self._former = path, former_path
        self._fd = open_regular(path, os.O_RDWR | os.O_CREAT)
        try:
            #: The file that this is the index of, 0 before there is one, and its number among the files of the log.
            self._inode, self._number = read_header(self._fd) or (0, _number(former_path))
            #: Bytes of the index.
            self.size = HEADER.size + max(0, os.fstat(self._fd).st_size - HEADER.size) // ENTRY.size * ENTRY.size
            self.follow(inode)
        except OSError:
            os.close(self._fd)
            raise

    def follow(self, inode: int) -> None:
        """Begin the index of another file, unless this is it. Raises OSError; the next call then tries again."""
        if inode == self._inode or self._fd < 0:
            return
        if self._inode:  # else an earlier attempt renamed it, and failed after that
            self._path.rename(self._former)
            self._inode = 0
        old, self._fd = self._fd, open_regular(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.close(old)
        os.pwrite(self._fd, HEADER.pack(inode, self._number + 1), 0)
        self._inode, self._number, self.size = inode, self._number + 1, HEADER.size

    def append(self, *fields: int) -> None:
        """Add an entry, with the present time and these other fields. Raises OSError."""
        if os.pwrite(self._fd, ENTRY.pack(*Entry(time.time_ns(), *fields)), self.size) < ENTRY.size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.size += ENTRY.size

    def disk_space(self) -> int:
        """Return how many bytes are free on its disk. Raises OSError."""
        disk = os.fstatvfs(self._fd)
        return disk.f_bavail * disk.f_frsize

    def close(self) -> None:
        """Close it. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _number(path: Path) -> int:
    """Return the number in the header of an index, 0 if there is none. Raises OSError."""
    try:
        fd = open_regular(path, os.O_RDONLY)
    except FileNotFoundError:
        return 0
    try:
        return (read_header(fd) or (0, 0))[1]
    finally:
        os.close(fd)
