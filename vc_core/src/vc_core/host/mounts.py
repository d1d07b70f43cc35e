"""mount(2) and umount2(2), which Python does not offer. Called only in a pod's own mount namespace."""

from __future__ import annotations

import ctypes
import os
import re
import struct
from contextlib import ExitStack
from pathlib import Path

# From <sys/mount.h>; the values are part of Linux' stable interface. The last one is umount2's UMOUNT_NOFOLLOW.
MS_RDONLY, MS_NOSUID, MS_NODEV = 0x1, 0x2, 0x4
MS_REC, MS_PRIVATE, MS_SHARED = 0x4000, 0x40000, 0x100000
_UMOUNT_NOFOLLOW = 0x8

# The system calls for detached and translated mounts (Linux 5.12): their numbers are the same on all machines but
# Alpha. Their flags are those of linux/mount.h and linux/fcntl.h, and MS_RDONLY, MS_NOSUID and MS_NODEV have the
# values of the MOUNT_ATTR of the same name.
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH, _MOUNT_ATTR_IDMAP = 0x1, 0x4, 0x100000
_AT_FDCWD, _AT_EMPTY_PATH = -100, 0x1000
#: struct mount_attr: attributes to set and to clear, propagation, descriptor of a user namespace.
_MOUNT_ATTR = struct.Struct("4Q")

#: The mounts of this process' namespace (proc(5)).
_MOUNTINFO = Path("/proc/self/mountinfo")

#: A blank, tab, line break or backslash of a mount point in mountinfo (``mangle_path`` in Linux' fs/seq_file.c).
_ESCAPE = re.compile(rb"\\([0-7]{3})")

_libc = ctypes.CDLL(None, use_errno=True)


def bind(source: Path, target: Path, flags: int = 0, users: Path | None = None) -> None:
    """Bind ``source`` on ``target`` (not what is mounted below it), with mount flags beside those of its mount.

    The bind has its flags before it is there, so that it has them wherever it is propagated to. ``users``: a file that
    names a user namespace (``/proc/PID/ns/user``), to whose ids the owners are translated: an owner N of a file is the
    Nth id of the namespace there, and what such an id makes belongs to N. Raises OSError; EINVAL for a file system that
    cannot do this, and for a plain user who would leave out what is mounted below ``source``.
    """
    with ExitStack() as stack:
        tree = _call(_OPEN_TREE, source, _AT_FDCWD, os.fsencode(source), _OPEN_TREE_CLONE | os.O_CLOEXEC)
        stack.callback(os.close, tree)
        namespace = 0
        if users is not None:
            namespace = os.open(users, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, namespace)
            flags |= _MOUNT_ATTR_IDMAP
        attributes = _MOUNT_ATTR.pack(flags, 0, 0, namespace)
        _call(_MOUNT_SETATTR, source, tree, b"", _AT_EMPTY_PATH, attributes, len(attributes))
        _call(_MOVE_MOUNT, target, tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)


def make_shared(target: Path) -> None:
    """Let later mounts below ``target`` appear in namespaces that are copied from this one. Raises OSError."""
    _mount("none", target, MS_SHARED)


def make_private(target: Path) -> None:
    """Let no later mount at or below ``target`` appear in another namespace, nor come from one. Raises OSError."""
    _mount("none", target, MS_REC | MS_PRIVATE)


def unmount(target: Path) -> None:
    """Unmount, following no link. Raises OSError."""
    if _libc.umount2(os.fsencode(target), _UMOUNT_NOFOLLOW) != 0:
        raise _error(target)


def mounted_below(path: Path) -> list[Path]:
    """Return the mount points at and below ``path`` in this namespace, the latest first. Raises OSError."""
    top = os.fsencode(path.resolve())
    # proc(5): the fifth field is the mount point. It can hold any bytes, and the file lists other programs' mounts too.
    fields = (line.split(b" ")[4] for line in _MOUNTINFO.read_bytes().splitlines())
    points = [_ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), field) for field in fields]
    return [Path(os.fsdecode(point)) for point in reversed(points) if point == top or point.startswith(top + b"/")]


def _mount(source: str, target: Path, flags: int) -> None:
    if _libc.mount(os.fsencode(source), os.fsencode(target), None, ctypes.c_ulong(flags), None) != 0:
        raise _error(target)


def _call(number: int, path: Path, *arguments: int | bytes) -> int:
    """Make a system call that libc may not have a function for. Raises OSError, which names ``path``."""
    result = _libc.syscall(
        ctypes.c_long(number), *(one if isinstance(one, bytes) else ctypes.c_long(one) for one in arguments)
    )
    if result < 0:
        raise _error(path)
    return int(result)


def _error(target: Path) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), str(target))
