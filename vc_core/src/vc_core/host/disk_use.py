"""Finds out whether this host itself uses a disk, which nobody else may write to then."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from vc_core.host import mounts

#: linux/loop.h: the request for what is behind a loop device, and its answer, of which the first three fields are
#: lo_device, lo_inode and lo_rdevice. The whole struct loop_info64 has 232 bytes.
_LOOP_GET_STATUS64, _LOOP_INFO, _LOOP_INFO_SIZE = 0x4C05, struct.Struct("3Q"), 232

_BLOCK_DEVICES, _DEVICE_NUMBERS = Path("/sys/block"), Path("/sys/dev/block")


def found(disk: int) -> str:
    """Return how this host uses an open file or block device as a disk, "" if it does not.

    Called before a VM gets the disk for writing. Raises OSError.
    """
    status = os.fstat(disk)
    if stat.S_ISBLK(status.st_mode):
        try:
            # A file system, swap space, a volume group and another VM claim a device, or a part of it; so does this.
            os.close(os.open(f"/proc/self/fd/{disk}", os.O_RDWR | os.O_EXCL | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError as error:
            if error.errno == errno.EBUSY:
                return "it, or a part of it, is mounted or otherwise in use"
    for mount in mounts.table():
        if _is_on(mount, status):
            return f"it is mounted on {str(mount.point)!r}"
    return next((f"it is behind the loop device {name!r}" for name in _loops(status)), "")


def _is_on(mount: mounts.Mount, status: os.stat_result) -> bool:
    if stat.S_ISBLK(status.st_mode):
        return mount.device == f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    with suppress(OSError):
        return mount.source.startswith("/") and os.path.samestat(Path(mount.source).stat(), status)
    return False


def _loops(status: os.stat_result) -> Iterator[str]:
    """Yield the loop devices behind which a disk is, or for a block device one that has sectors in common with it."""
    devices = _relatives(status.st_rdev) if stat.S_ISBLK(status.st_mode) else set()
    for entry in _BLOCK_DEVICES.glob("loop*/loop"):
        device = f"/dev/{entry.parent.name}"
        try:
            fd = os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:  # another user's: the kernel shows at least the name of the file
            with suppress(OSError):
                name = (entry / "backing_file").read_text(encoding="utf-8", errors="surrogateescape")[:-1]
                behind = Path(name).stat()
                if os.path.samestat(behind, status) or (stat.S_ISBLK(behind.st_mode) and behind.st_rdev in devices):
                    yield device
            continue
        try:
            answer = fcntl.ioctl(fd, _LOOP_GET_STATUS64, bytes(_LOOP_INFO_SIZE))
        except OSError:  # it was detached meanwhile
            continue
        finally:
            os.close(fd)
        on, inode, number = _LOOP_INFO.unpack_from(answer)
        if (on, inode) == (status.st_dev, status.st_ino) or number in devices:
            yield device


def _relatives(device: int) -> set[int]:
    """Return the numbers of a block device, of the disk that it is a part of, and of its own parts."""
    found = {device}
    try:
        own = (_DEVICE_NUMBERS / f"{os.major(device)}:{os.minor(device)}").resolve(strict=True)
        others = [own.parent, *own.iterdir()] if not (own / "partition").exists() else [own.parent]
        for other in others:
            if (other / "dev").is_file() and ((other / "partition").exists() or other == own.parent):
                major, _, minor = (other / "dev").read_text(encoding="utf-8").strip().partition(":")
                found.add(os.makedev(int(major), int(minor)))
    except (OSError, ValueError):
        pass
    return found
