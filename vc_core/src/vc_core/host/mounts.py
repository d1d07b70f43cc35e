"""mount(2) and umount2(2), which Python does not offer. Called only in a pod's own mount namespace."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path

# From <sys/mount.h>; the values are part of Linux' stable interface. The last one is umount2's UMOUNT_NOFOLLOW.
MS_RDONLY, MS_NOSUID, MS_NODEV = 0x1, 0x2, 0x4
MS_REMOUNT, MS_BIND, MS_SHARED = 0x20, 0x1000, 0x100000
_UMOUNT_NOFOLLOW = 0x8

#: The mounts of this process' namespace (proc(5)).
_MOUNTINFO = Path("/proc/self/mountinfo")

#: A blank, tab, line break or backslash of a mount point in mountinfo (``mangle_path`` in Linux' fs/seq_file.c).
_ESCAPE = re.compile(rb"\\([0-7]{3})")

_libc = ctypes.CDLL(None, use_errno=True)


def bind(source: Path, target: Path, flags: int = 0) -> None:
    """Bind ``source`` on ``target`` (not what is mounted below it), with mount flags of its own. Raises OSError."""
    _mount(str(source), target, MS_BIND)
    if flags:
        # The kernel takes a bind's own flags only in a second call (mount(2), "Creating a bind mount").
        _mount("none", target, MS_REMOUNT | MS_BIND | flags)


def make_shared(target: Path) -> None:
    """Let later mounts below ``target`` appear in namespaces that are copied from this one. Raises OSError."""
    _mount("none", target, MS_SHARED)


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


def _error(target: Path) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), str(target))
