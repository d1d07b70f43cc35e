"""Opens files of this project's directories, where something else may have been planted."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def open_regular(
    path: Path | str, flags: int, mode: int = 0o600, *, dir_fd: int | None = None, follow: bool = False
) -> int:
    """Return a descriptor of a regular file; the caller closes it.

    Called for every lock, log, record and note: a link in its place is not followed, and a pipe, socket, device or
    directory is an error and not a wait. ``flags`` are those of open(2), to which O_NOFOLLOW, O_NONBLOCK, O_NOCTTY and
    O_CLOEXEC are added; ``mode`` is that of a file that O_CREAT makes, for its owner alone unless given. ``path`` is
    relative to the directory open as ``dir_fd``, if there is one. ``follow``: links are followed, for files that the
    caller of the API chose.
    Raises OSError: EINVAL for anything that is no regular file.
    """
    safe = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        fd = os.open(path, flags | safe, mode, dir_fd=dir_fd)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):  # a link; a pipe that nobody reads, or a socket
            raise
        raise _not_regular(path) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _not_regular(path)
    return fd


def read_regular(path: Path, size: int, offset: int = 0, *, follow: bool = False) -> bytes:
    """Return up to ``size`` bytes of a regular file from ``offset`` on, which is opened by :func:`open_regular`.

    Called for parts of logs and the first bytes of kernels and images. Raises OSError.
    """
    fd = open_regular(path, os.O_RDONLY, follow=follow)
    try:
        return os.pread(fd, size, offset)
    finally:
        os.close(fd)


def _not_regular(path: Path | str) -> OSError:
    return OSError(errno.EINVAL, "it is not a regular file; remove it", str(path))
