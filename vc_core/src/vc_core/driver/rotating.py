"""A file of bounded size that is appended to: for the logs of containers, consoles and hypervisors."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from vc_core.driver.files import open_regular


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
        self.inode, self.size = status.st_ino, status.st_size


def former(path: Path) -> Path:
    """Return the path of the full file that a rotation renamed."""
    return path.with_name(f"{path.name}.1")


def _open(path: Path) -> int:
    return open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
