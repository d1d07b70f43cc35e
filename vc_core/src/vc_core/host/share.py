"""The directories that a pod shares with its guest: below them, the host's files that its containers use are bound.

They are made in the pod's own mount namespace, so nothing is ever mounted in the host's. Each is a shared mount: a
later bind there also appears for a VM that lives in a copy of the namespace.

The supervisor calls these functions on its event loop, although they block for some system calls: a thread cannot be
stopped when an operation is cancelled, and would bind what the clean-up has just unbound. The caller has resolved a
root on another thread before it is bound here.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from vc_core.errors import StorageError
from vc_core.host import mounts
from vc_core.store import files

#: Set-user-id programs and devices have no effect below a shared directory, even if a guest manages to make some there.
_SAFE = mounts.MS_NOSUID | mounts.MS_NODEV


def make_shared_dir(directory: Path) -> None:
    """Make a shared directory, unless it is one already. Called at a pod's start. Raises StorageError."""
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        if not mounts.mounted_below(directory):
            mounts.bind(directory, directory, _SAFE)
            mounts.make_shared(directory)
    except OSError as error:
        raise StorageError(f"shared directory {str(directory)!r} cannot be made: {error.strerror}") from error


def bind_into(directory: Path, place: str, source: Path, read_only: bool = True, users: Path | None = None) -> str:
    """Bind a file or directory of the host at ``place`` below a shared directory, and return ``place``.

    Called before a container starts. ``users``: the user namespace of the VM's process, None if its ids are those of
    this process. A mount that is there already is left as it is. Raises StorageError.
    """
    target = directory / place
    try:
        if target not in mounts.mounted_below(directory):
            for parent in reversed(target.relative_to(directory).parents[:-1]):
                _make_directory(directory / parent)
            (_make_directory if source.is_dir() else _make_file)(target)
            flags = _SAFE | (mounts.MS_RDONLY if read_only else 0)
            mounts.bind(source, target, flags, users)
    except OSError as error:
        if users is not None and error.errno in (errno.EINVAL, errno.EPERM):
            raise StorageError(
                f"{str(source)!r} cannot be shared with the guest of a jailed VM, because its file system does not "
                "translate owners (idmapped mounts); copy it to another file system"
            ) from error
        why = error.strerror
        if error.errno == errno.EINVAL and os.geteuid() != 0:
            why = "something is mounted below it, which only root may leave out; share a directory without mounts"
        raise StorageError(f"{str(source)!r} cannot be shared with the guest: {why}") from error
    return place


def _make_directory(path: Path) -> None:
    """Make a directory that every user of the guest can enter, whatever the umask, unless there is one. Raises OSError.

    The mode is set through a descriptor that follows no link, because the guest may write to the directory above.
    """
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchmod(fd, 0o755)
        finally:
            os.close(fd)


def _make_file(path: Path) -> None:
    """Make an empty file that every user of the guest can read, unless there is one. Raises OSError."""
    with suppress(FileExistsError):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(fd, 0o644)
        finally:
            os.close(fd)


def unbind(directory: Path, container_id: str) -> None:
    """Unbind all that a container was given and remove its mount points. Called when it ended. Raises StorageError."""
    unmount_all(directory / container_id)
    files.remove_tree(directory / container_id)


def unmount_all(directory: Path) -> None:
    """Unmount everything at and below a directory.

    Called for a pod's run directory when the pod has stopped, after the VM ended. Raises StorageError.
    """
    try:
        for point in mounts.mounted_below(directory):
            mounts.unmount(point)
    except OSError as error:
        raise StorageError(f"{error.filename!r} cannot be unmounted: {error.strerror}") from error
