"""The logs of containers: capped files that a new supervisor continues without losing or repeating a byte."""

from __future__ import annotations

import errno
import os
import struct
from contextlib import suppress
from pathlib import Path

from vc_core.driver.files import open_regular
from vc_core.driver.rotating import RotatingFile, former
from vc_core.errors import StorageError

#: A container's log: two files of half this size at most (bytes), the older one ``output.log.1``.
LOG_BYTES_MAX = 16 * 1024 * 1024

#: Bytes of a disk that logs leave free for the records of pods: some hundreds of them, each written beside its former.
RESERVE = 4 * 1024 * 1024

#: The line about bytes that the disk refused.
_LOST = b"[virtcontainers: %d bytes of output are missing here: the disk did not take them]\n"

#: What is noted before bytes are appended to a log: its inode and size, the bytes of output and of error output that
#: were logged before, how many bytes follow, and to which of the two they belong (0: output, 1: error output).
_NOTE = struct.Struct("=6Q")


class ContainerLog:
    """A container's log: output and error output, in the order of arrival, capped.

    Before each append it notes beside the log what it is about to append. After a supervisor's sudden end this note and
    the log's size let the next supervisor compute exactly how many bytes of each stream the log holds.
    """

    def __init__(self, path: Path, cap: int = LOG_BYTES_MAX, resumed: bool = False) -> None:
        """Open the log of a process that starts, or with ``resumed`` of one that a former owner logged.

        ``cap``: bytes in the log's two files together. Raises StorageError.
        """
        #: Bytes of output and error output that the former owner logged; None without a former owner or its note.
        self.taken: tuple[int, int] | None = None
        self._counted = [0, 0]
        self._lost = 0
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | (0 if resumed else os.O_TRUNC)
            self._notes = open_regular(path.with_name(path.name + ".at"), flags)
            try:
                if resumed:
                    self._resume(path)
                self._file = RotatingFile(path, cap)
            except OSError:
                os.close(self._notes)
                raise
        except OSError as error:
            raise StorageError(f"log {str(path)!r} cannot be opened: {error.strerror}") from error

    def _resume(self, path: Path) -> None:
        """Continue the former owner's counts. Raises OSError."""
        note = os.pread(self._notes, _NOTE.size, 0)
        if len(note) < _NOTE.size:
            return
        inode, size, *counted, length, stream = _NOTE.unpack(note)
        for one in (path, former(path)):
            if one.exists() and (now := one.stat()).st_ino == inode:
                counted[stream] += min(now.st_size - size, length)
                self._counted, self.taken = counted, (counted[0], counted[1])
                return

    def write(self, data: bytes, stream: int | None = None) -> None:
        """Append bytes; ``stream`` is 0 for output, 1 for error output, None where they are not counted.

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
        if stream is not None:
            self._counted[stream] += len(data) - written
            with suppress(OSError):
                self._note(0, stream)

    def _report_lost(self) -> None:
        """Append the line about lost bytes, if there are any. Raises OSError."""
        if self._lost:
            self._append(_LOST % self._lost, None)
            self._lost = 0

    def _has_room(self, length: int) -> bool:
        """Return whether the disk has room for bytes beside the reserve. Raises OSError."""
        disk = os.fstatvfs(self._notes)
        return disk.f_bavail * disk.f_frsize >= length + RESERVE

    def _append(self, data: bytes, stream: int | None) -> int:
        """Append bytes, noted before, and return how many were written. Raises OSError."""
        self._file.make_room(len(data))
        if stream is not None:
            self._note(len(data), stream)
        before = self._file.size
        self._file.append(data)
        written = self._file.size - before
        if stream is not None:
            self._counted[stream] += written
        return written

    def _note(self, length: int, stream: int) -> None:
        os.pwrite(self._notes, _NOTE.pack(self._file.inode, self._file.size, *self._counted, length, stream), 0)

    def close(self) -> None:
        """Close the files. Idempotent."""
        if self._notes >= 0:
            with suppress(OSError):
                self._report_lost()
        self._file.close()
        if self._notes >= 0:
            os.close(self._notes)
            self._notes = -1
