"""A file of bounded size that is appended to: for the logs of containers, consoles and hypervisors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from vc_core.driver.files import open_regular

#: Bytes that one read takes.
_CHUNK = 64 * 1024


class RotatingFile:
    """Appends to ``path``, which is renamed to ``path.1``, replacing the former one, at half of the capacity."""

    def __init__(self, path: Path, capacity: int) -> None:
        """Open or create the file. ``capacity``: bytes in both files together, at most. Raises OSError."""
        self._path, self._half = path, capacity // 2
        self._fd = _open(path)
        self._note_file()

    def make_room(self, length: int) -> None:
        """Begin a new file if ``length`` more bytes do not fit. Called before each :meth:`append`.

        Raises OSError: :meth:`append` then still writes to the old file, which may have been renamed, and the next call
        tries again.
        """
        if self._fd < 0 or not self.size or self.size + length <= self._half:
            return
        with suppress(FileNotFoundError):  # an earlier attempt renamed it, and failed after that
            self._path.rename(former(self._path))
        full, self._fd = self._fd, _open(self._path)
        os.close(full)
        self._note_file()

    def append(self, data: bytes) -> None:
        """Append bytes; only the first of them if the disk is full. Raises OSError, also after :meth:`close`."""
        self.size += os.write(self._fd, data)

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _note_file(self) -> None:
        status = os.fstat(self._fd)
        #: Inode and size in bytes of the file that is appended to.
        self.inode: int = status.st_ino
        self.size: int = status.st_size


class RotatedReader:
    """Reads what such files hold, from the oldest byte on, also while they grow and are rotated."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def read(self) -> Iterator[bytes]:
        """Yield the bytes that were appended since the last call. Raises OSError."""
        while True:
            following = self._open_next()
            while self._fd >= 0 and (data := os.read(self._fd, _CHUNK)):
                yield data
            if following < 0:
                return
            self.close()
            self._fd = following

    def _open_next(self) -> int:
        """Return a descriptor of the file that follows the present one, -1 if that is the last one. Raises OSError."""
        present = os.fstat(self._fd) if self._fd >= 0 else None
        found = -1
        for path in (self._path, former(self._path)):
            try:
                fd = open_regular(path, os.O_RDONLY)
            except FileNotFoundError:
                continue
            if present is not None and os.path.samestat(os.fstat(fd), present):
                os.close(fd)
                break
            if found >= 0:
                os.close(found)
            found = fd
        return found

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def former(path: Path) -> Path:
    """Return the path of the full file that a rotation renamed."""
    return path.with_name(f"{path.name}.1")


def _open(path: Path) -> int:
    return open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
