"""The logs of containers."""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from pathlib import Path

from vc_core.driver.rotating import RotatingFile, former
from vc_core.errors import StorageError

#: A container's log: two files of half this size at most (bytes), the older one ``output.log.1``.
LOG_BYTES_MAX = 16 * 1024 * 1024

#: What is noted before bytes are appended to a log: its inode and size, the bytes of output and of error output that
#: came before, how many follow, and of which of the two.
_NOTE = struct.Struct("=6Q")


class ContainerLog:
    """A container's log: output and error output, in the order of arrival, capped.

    Before each append it notes beside the log what it is about to do, so that after a sudden death the size of the log
    tells whoever comes next, to the byte, how much of each stream is in it.
    """

    def __init__(self, path: Path, cap: int = LOG_BYTES_MAX, resumed: bool = False) -> None:
        """Open the log of a process that starts, or with ``resumed`` of one that a former owner logged until now.

        ``cap``: bytes in the log's two files together. Raises StorageError.
        """
        #: Bytes of output and error output that the former owner took, None if there was none or it noted nothing.
        self.taken: tuple[int, int] | None = None
        self._counted = [0, 0]
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | (0 if resumed else os.O_TRUNC)
            self._notes = os.open(path.with_name(path.name + ".at"), flags, 0o600)
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
        """Go on counting where the former owner ended."""
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
        """Append bytes, of output (0) or error output (1) where they are counted.

        What a full disk refuses is lost, so that the container can go on. It counts all the same: the guest does not
        send it again.
        """
        before = tuple(self._counted)
        if stream is not None:
            self._counted[stream] += len(data)
        with suppress(OSError):
            self._file.make_room(len(data))
            if stream is not None:
                os.pwrite(self._notes, _NOTE.pack(self._file.inode, self._file.size, *before, len(data), stream), 0)
            self._file.append(data)

    def close(self) -> None:
        """Close the files. Idempotent."""
        self._file.close()
        if self._notes >= 0:
            os.close(self._notes)
            self._notes = -1
