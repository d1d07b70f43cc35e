"""Mounts: system calls that Python does not offer, and the kernel's list. Changes only a pod's own mount namespace."""

from __future__ import annotations

import ctypes
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vc_core.frozen import frozen
from vc_core.store import files

# From <sys/mount.h>; the values are part of Linux' stable interface. The last ones are those of umount2(2).
MS_RDONLY, MS_NOSUID, MS_NODEV = 0x1, 0x2, 0x4
_MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE, _MS_SHARED = 0x20, 0x1000, 0x4000, 0x40000, 0x100000
_MNT_DETACH, _UMOUNT_NOFOLLOW = 0x2, 0x8

# The system calls for detached mounts (Linux 5.12): their numbers are the same on all machines but Alpha. Their flags
# are those of linux/mount.h and linux/fcntl.h, and MS_RDONLY, MS_NOSUID and MS_NODEV have the values of the MOUNT_ATTR
# of the same name.
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH, _MOUNT_ATTR_IDMAP = 0x1, 0x4, 0x100000
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
#: struct mount_attr: attributes to set and to clear, propagation, descriptor of a user namespace.
_MOUNT_ATTR = struct.Struct("4Q")

#: The mounts of this process' namespace (proc(5)).
_MOUNTINFO = Path("/proc/self/mountinfo")

#: A blank, tab, line break or backslash in a path of mountinfo (``mangle_path`` in Linux' fs/seq_file.c).
_ESCAPE = re.compile(rb"\\([0-7]{3})")

_libc = ctypes.CDLL(None, use_errno=True)


@frozen
class Mount:
    """One line of mountinfo (proc(5)): ``root`` is the path in the file system ``device`` that is seen at ``point``."""

    id: str
    parent: str  #: id of the mount that it is mounted on
    device: str
    root: Path
    point: Path
    fstype: str
    source: str
    options: str  #: of the file system


def bind(source: int, target: Path, flags: int = 0, users: Path | None = None, whole: bool = False) -> None:
    """Bind the file or directory of a descriptor on ``target``, with mount flags of its own.

    ``whole``: with what is mounted below it, under the same flags. ``users``: a file that names a user namespace
    (``/proc/PID/ns/user``), to whose ids the owners are translated: an owner N of a file is the Nth id of the namespace
    there, and what such an id makes belongs to N. Raises OSError; EINVAL for a file system that cannot do this, and for
    a plain user who would leave out what is mounted below.
    """
    every = _AT_RECURSIVE if whole else 0
    tree = system_call(_OPEN_TREE, target, source, b"", _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH | every)
    try:
        attach(tree, target, flags, users, whole)
    finally:
        os.close(tree)


def attach(tree: int, target: Path, flags: int = 0, users: Path | None = None, whole: bool = False) -> None:
    """Mount a mount without a place, such as one of :func:`copied`, on ``target``, as :func:`bind` mounts a copy.

    It may come from another mount namespace. Raises OSError.
    """
    namespace = -1 if users is None else os.open(users, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _set_attributes(tree, target, flags, namespace=namespace, every=_AT_RECURSIVE if whole else 0)
    finally:
        if namespace != -1:
            os.close(namespace)
    system_call(_MOVE_MOUNT, target, tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)


def _set_attributes(tree: int, target: Path, flags: int, cleared: int = 0, namespace: int = -1, every: int = 0) -> None:
    """Set and clear flags of a detached mount, and translate its owners unless ``namespace`` is -1. Raises OSError."""
    translated = (0, 0) if namespace == -1 else (_MOUNT_ATTR_IDMAP, namespace)
    attributes = _MOUNT_ATTR.pack(flags | translated[0], cleared, 0, translated[1])
    system_call(_MOUNT_SETATTR, target, tree, b"", _AT_EMPTY_PATH | every, attributes, len(attributes))


def mount_memory(target: Path, flags: int) -> None:
    """Mount a new file system on ``target`` that has room for mount points only (tmpfs(5)). Raises OSError."""
    _mount("tmpfs", target, flags & ~MS_RDONLY, "tmpfs", b"mode=0755,size=64k")
    # The mount is read-only, not the file system, which the first call would make read-only.
    _mount("none", target, _MS_REMOUNT | _MS_BIND | flags)


def mount_overlay(target: Path, flags: int, options: str) -> None:
    """Mount an overlay with these options on ``target``. Raises OSError."""
    _mount("overlay", target, flags, "overlay", os.fsencode(options))


def try_translation(source: int, name: Path, users: Path) -> None:
    """Translate the owners of a copy of an open file's mount, which is dropped, as :func:`bind` does.

    Raises OSError.
    """
    namespace = os.open(users, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with copied(source, name) as tree:
            _set_attributes(tree, name, 0, namespace=namespace)
    finally:
        os.close(namespace)


@contextmanager
def writable(directory: Path) -> Iterator[int]:
    """Yield a descriptor of a directory that is mounted read-only: below it, this process alone can write.

    What is mounted below the directory is not there. Raises OSError.
    """
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with copied(fd, directory) as tree:
            _set_attributes(tree, directory, 0, cleared=MS_RDONLY)
            yield tree
    finally:
        os.close(fd)


@contextmanager
def copied(directory: int, name: Path) -> Iterator[int]:
    """Yield a descriptor of an open directory on a copy of its mount, which has no place, and nothing mounted below it.

    Errors name ``name``. Raises OSError.
    """
    tree = system_call(_OPEN_TREE, name, directory, b"", _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH)
    try:
        yield tree
    finally:
        os.close(tree)


def make_shared(target: Path) -> None:
    """Let later mounts below ``target`` appear in namespaces that are copied from this one. Raises OSError."""
    _mount("none", target, _MS_SHARED)


def make_private(target: Path) -> None:
    """Let no later mount at or below ``target`` appear in another namespace, nor come from one. Raises OSError."""
    _mount("none", target, _MS_REC | _MS_PRIVATE)


def unmount(target: Path) -> None:
    """Unmount, following no link. Raises OSError."""
    if _libc.umount2(os.fsencode(target), _UMOUNT_NOFOLLOW) != 0:
        raise _error(target)


def detach_all(target: Path) -> None:
    """Unmount what is mounted on ``target``, with all that is mounted below it. Raises OSError."""
    if _libc.umount2(os.fsencode(target), _MNT_DETACH | _UMOUNT_NOFOLLOW) != 0:
        raise _error(target)


def detach(mount: Mount) -> None:
    """Unmount a mount, and its copies in namespaces that are copied from this one, although they may be in use.

    Files of it that are open stay open. No error if it is unmounted already; another mount that has its place is left.
    Raises OSError.
    """
    try:
        fd = os.open(mount.point, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if files.mount_id(fd) == mount.id and _libc.umount2(b"/proc/self/fd/%d" % fd, _MNT_DETACH) != 0:
            raise _error(mount.point)
    finally:
        os.close(fd)


def table() -> list[Mount]:
    """Return the mounts of this process' namespace, in the order in which they were made. Raises OSError."""
    mounts = []
    # It can hold any bytes, a carriage return too, and lists other programs' mounts.
    for line in _MOUNTINFO.read_bytes().removesuffix(b"\n").split(b"\n"):
        fields, _, rest = line.partition(b" - ")
        number, parent, device, root, point = (_unescaped(field) for field in fields.split(b" ")[:5])
        fstype, source, options = (_unescaped(field) for field in rest.split(b" ")[:3])
        mounts.append(Mount(number, parent, device, Path(root), Path(point), fstype, source, options))
    return mounts


def _unescaped(field: bytes) -> str:
    return os.fsdecode(_ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), field))


def mount_of(fd: int) -> Mount | None:
    """Return the mount that an open file is on; None if it was unmounted meanwhile. Raises OSError."""
    number = files.mount_id(fd)
    return next((mount for mount in table() if mount.id == number), None)


def mounted_in(directory: Path, place: str) -> list[Mount]:
    """Return the mounts at and below a place of a directory that is a mount itself, the latest first. Raises OSError.

    They are found by the ids of the mounts that they are on, so a mount that only has such a name is not among them.
    """
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        top = files.mount_id(fd)
    finally:
        os.close(fd)
    every = table()
    points = {mount.id: mount.point / place for mount in every if mount.id == top}
    found = []
    for mount in every:  # a mount follows the one that it is on
        within = points.get(mount.parent)
        if within is not None and mount.point.is_relative_to(within):
            points[mount.id] = within
            found.append(mount)
    return found[::-1]


def mounted_below(path: Path) -> list[Path]:
    """Return the mount points at and below ``path`` in this namespace, the latest first. Raises OSError."""
    top = path.resolve()
    return [mount.point for mount in reversed(table()) if mount.point.is_relative_to(top)]


def _mount(source: str, target: Path, flags: int, fstype: str = "none", data: bytes = b"") -> None:
    if _libc.mount(source.encode(), os.fsencode(target), fstype.encode(), ctypes.c_ulong(flags), data) != 0:
        raise _error(target)


def system_call(number: int, path: Path, *arguments: int | bytes | ctypes.Array[ctypes.c_char]) -> int:
    """Make a system call that libc may not have a function for. Raises OSError, which names ``path``.

    The kernel reads bytes, and can write to an array.
    """
    result = _libc.syscall(
        ctypes.c_long(number), *(ctypes.c_long(one) if isinstance(one, int) else one for one in arguments)
    )
    if result < 0:
        raise _error(path)
    return int(result)


def _error(target: Path) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), str(target))
