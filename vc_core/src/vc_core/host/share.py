"""The directories that a pod shares with its guest: below them, the host's files that its containers use are bound.

They are made in the pod's own mount namespace, so nothing is ever mounted in the host's. Each is a small file system in
memory with nothing but mount points, and is mounted read-only: what a guest may write to are the mounts alone. It is a
shared mount: a later bind there also appears for a VM that lives in a copy of the namespace, and goes as it goes here.

The supervisor calls these functions on its event loop, although they block for some system calls: a thread cannot be
stopped when an operation is cancelled, and would bind what the clean-up has just unbound. The caller has opened
what is bound here on another thread.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory

from vc_core.errors import StorageError
from vc_core.host import mounts, overlays
from vc_core.host.sources import Source
from vc_core.store import files

#: Set-user-id programs and devices have no effect below a shared directory, even if a guest manages to make some there.
_SAFE = mounts.MS_NOSUID | mounts.MS_NODEV

#: The directories below a shared one in which root file systems, and mounts that containers can write to, are bound; no
#: container can have such an id.
_ROOTS, _MOUNTS = ".roots", ".mounts"

#: The link to its root file system in the directory of a container, and the directory of its mounts, or links to them.
_ROOT, _OF_CONTAINER = "rootfs", "mounts"


def make_shared_dir(directory: Path) -> None:
    """Make a shared directory, unless it is one already. Called at a pod's start. Raises StorageError."""
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        if not is_shared_dir(directory):
            mounts.mount_memory(directory, _SAFE | mounts.MS_RDONLY)
            mounts.make_shared(directory)
    except OSError as error:
        raise StorageError(f"shared directory {str(directory)!r} cannot be made: {error.strerror}") from error


def is_shared_dir(directory: Path) -> bool:
    """Return whether there is such a shared directory in this mount namespace. Raises OSError."""
    return bool(mounts.mounted_below(directory))


def bind_into(directory: Path, place: str, source: Source, read_only: bool = True, users: Path | None = None) -> str:
    """Bind a file or directory of the host at ``place`` below a shared directory, and return ``place``.

    Called before a container starts. ``users``: the user namespace of the VM's process, None if its ids are those of
    this process. It takes the place of what an interrupted start has bound there. Raises StorageError.
    """
    try:
        _unmount_below(directory, place)
        with mounts.writable(directory) as top:
            _make_point(top, PurePath(place), source.is_directory)
        _bind(source, directory / place, _flags(read_only), users)
    except OSError as error:
        if users is not None and error.errno in (errno.EINVAL, errno.EPERM):
            raise StorageError(
                f"{source.given!r} cannot be shared with the guest of a jailed VM, because its file system does not "
                "translate owners (idmapped mounts); copy it to another file system"
            ) from error
        why = error.strerror
        if error.errno == errno.EINVAL and os.geteuid() != 0:
            why = "something is mounted below it, which only root may leave out; share a directory without mounts"
        raise StorageError(f"{source.given!r} cannot be shared with the guest: {why}") from error
    return place


def _bind(source: Source, target: Path, flags: int, users: Path | None) -> None:
    """Mount a source on ``target``: an overlay as another of its layers where owners are translated. Raises OSError."""
    mount = mounts.attach if source.is_mount else mounts.bind
    if users is None or not flags & mounts.MS_RDONLY or not overlays.is_overlay(source.fd):
        return mount(source.fd, target, flags, users)
    with TemporaryDirectory(prefix="vc-layers-") as folder:
        workplace, name = Path(folder), Path(source.given).absolute()
        overlays.bind(lambda place: mount(source.fd, place), name, source.is_directory, target, flags, users, workplace)
    return None


def bind_root(
    directory: Path, container_id: str, source: Source, users: Path | None = None, read_only: bool = True
) -> str:
    """Bind a container's root file system below a shared directory, unless another container has it; return its place.

    Called before a container starts; ``users`` as for :func:`bind_into`. There is one place for each directory of the
    host, because a guest that caches what it sees takes two places of one directory for the same, and loses both when
    one of them is unbound. Raises StorageError.
    """
    return _bind_once(directory, _ROOTS, container_id, _ROOT, source, read_only, users)


def bind_mount(
    directory: Path, container_id: str, number: int, source: Source, read_only: bool, users: Path | None = None
) -> str:
    """Bind the source of a container's mount below a shared directory, and return its place.

    Called before a container starts; ``users`` as for :func:`bind_into`. What containers can write to has one place for
    all containers of the pod: only then is it one file for the guest, so that locks and sockets in it work between
    them. Raises StorageError.
    """
    name = f"{_OF_CONTAINER}/{number}"
    if read_only:
        return bind_into(directory, f"{container_id}/{name}", source, users=users)
    return _bind_once(directory, _MOUNTS, container_id, name, source, False, users)


def _bind_once(
    directory: Path, kind: str, container_id: str, name: str, source: Source, read_only: bool, users: Path | None
) -> str:
    """Bind a source at its place for all containers, unless one has it; link to it from the container's directory."""
    status = os.fstat(source.fd)
    place = f"{kind}/{status.st_dev}-{status.st_ino}"  # a bound file keeps its number
    link = PurePath(container_id, name)
    try:
        if not mounts.mounted_in(directory, place):
            bind_into(directory, place, source, read_only, users)
        with mounts.writable(directory) as top:
            _make_point(top, link.parent, is_directory=True)
            with suppress(FileNotFoundError):  # of an interrupted start
                os.unlink(link, dir_fd=top)
            os.symlink(f"{'../' * len(link.parent.parts)}{place}", link, dir_fd=top)
    except OSError as error:
        raise StorageError(f"{source.given!r} cannot be shared with the guest: {error.strerror}") from error
    return place


def bind_volume(target: Path, source: Source, read_only: bool) -> None:
    """Bind a directory of the host on ``target``, with what is mounted below it, for a VM that is made then.

    Called at a pod's start: drivers name it by a path, of which nobody but the pod's owner can change a part. Raises
    StorageError.
    """
    try:
        target.parent.mkdir(mode=0o700, exist_ok=True)
        target.mkdir(mode=0o700, exist_ok=True)
        mounts.bind(source.fd, target, _flags(read_only), whole=True)
    except OSError as error:
        raise StorageError(f"{source.given!r} cannot be shared with the guest: {error.strerror}") from error


def _flags(read_only: bool) -> int:
    return _SAFE | (mounts.MS_RDONLY if read_only else 0)


def _make_point(top: int, place: PurePath, is_directory: bool) -> None:
    """Make a mount point, unless there is one, which every user of the guest can reach, whatever the umask."""
    for directory in [*reversed(place.parents[:-1]), *([place] if is_directory else [])]:
        with suppress(FileExistsError):
            os.mkdir(directory, 0o700, dir_fd=top)
            os.chmod(directory, 0o755, dir_fd=top)
    if not is_directory:
        with suppress(FileExistsError):
            fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=top)
            try:
                os.fchmod(fd, 0o644)
            finally:
                os.close(fd)


def unbind(directory: Path, container_id: str) -> None:
    """Unbind all that a container was given and remove its mount points. Called when it ended. Raises StorageError.

    It is gone for the VM too, but for files that the VM has open, and what another container has as well.
    """
    try:
        _unmount_below(directory, container_id)
        with mounts.writable(directory) as top:
            files.remove_tree(Path(container_id), within=top)
            for place in _unused(top):
                _unmount_below(directory, place)
                files.remove_tree(Path(place), within=top)
    except OSError as error:
        raise StorageError(f"{str(directory / container_id)!r} cannot be unmounted: {error.strerror}") from error


def _unused(top: int) -> list[str]:
    """Return the places of roots and writable mounts, below the shared directory ``top``, that no container has."""
    used = set()
    for container_id in _names(top, "."):
        for name in (
            _ROOT,
            *(f"{_OF_CONTAINER}/{number}" for number in _names(top, f"{container_id}/{_OF_CONTAINER}")),
        ):
            with suppress(OSError):  # it has a disk for its root, a mount of its own, or is no container
                used.add("/".join(PurePath(os.readlink(f"{container_id}/{name}", dir_fd=top)).parts[-2:]))
    places = [f"{kind}/{name}" for kind in (_ROOTS, _MOUNTS) for name in _names(top, kind)]
    return [place for place in places if place not in used]


def _names(top: int, place: str) -> list[str]:
    try:
        fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
    except FileNotFoundError:
        return []
    try:
        with os.scandir(fd) as entries:
            return [entry.name for entry in entries]
    finally:
        os.close(fd)


def _unmount_below(directory: Path, place: str) -> None:
    """Unmount everything at and below a place of a shared directory, although the VM may use it. Raises OSError."""
    for mount in mounts.mounted_in(directory, place):
        mounts.detach(mount)


def unmount_all(directory: Path) -> None:
    """Unmount everything at and below a directory.

    Called for a pod's run directory when the pod has stopped, after the VM ended. Raises StorageError.
    """
    try:
        for point in mounts.mounted_below(directory):
            mounts.unmount(point)
    except OSError as error:
        raise StorageError(f"{error.filename!r} cannot be unmounted: {error.strerror}") from error
