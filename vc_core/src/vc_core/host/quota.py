"""Limits how much a directory may hold, by the project quota of ext4 and xfs (quotactl(2), xfs_quota(8)).

The directory and all below it get a project id, which is inherited by what is made there later, and the file system
counts what files of that id take. The ids are derived from whom a limit belongs to, so nothing has to be recorded: an
interrupted start or delete is completed by the next one. What other programs have given a project id is left alone.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import os
import stat
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from vc_core.config.container import ContainerConfig
from vc_core.driver.files import open_regular
from vc_core.driver.users import host_user
from vc_core.errors import StorageError
from vc_core.host import mounts

#: linux/fs.h: FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR, and struct fsxattr: flags, three fields that are kept, the project
#: id at the fourth place; and the flag of a directory whose new entries get its id.
_GET_ATTRIBUTES, _SET_ATTRIBUTES, _ATTRIBUTES = 0x801C581F, 0x401C5820, struct.Struct("5I8s")
_INHERIT = 0x200

#: The system call quotactl_fd (Linux 5.14), whose number is the same on all machines but Alpha; its commands for
#: project quota (linux/quota.h, linux/dqblk_xfs.h): ``QCMD(command, PRJQUOTA)``, as a signed int.
_QUOTACTL_FD = 443
_GET_LIMIT, _SET_LIMIT, _GET_STATE = (ctypes.c_int(one << 8 | 2).value for one in (0x800007, 0x800008, 0x5805))
#: struct if_dqblk: hard and soft limit in KiB, bytes; hard and soft limit of files, files; two times; what is valid.
_LIMIT, _BLOCK_LIMITS, _INODE_LIMITS = struct.Struct("8QI4x"), 1, 4
#: struct fs_quota_stat: version, flags; of the flags FS_QUOTA_PDQ_ENFD, limits of projects are enforced.
_STATE, _STATE_SIZE, _ENFORCED = struct.Struct("bH"), 80, 0x20

#: Project ids of limits: from the first on, _GROUPS groups of _IN_GROUP. Others count theirs up from 1 (people),
#: from 1048577 (kubelet), or from that of a directory of theirs (Docker).
_FIRST, _GROUPS, _IN_GROUP = 0x40000000, 1 << 26, 16

#: KiB for each file: who makes empty ones could otherwise fill an xfs with inodes.
_KIB_PER_FILE = 4

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class _Usage(NamedTuple):
    """The first six fields of struct if_dqblk."""

    hard: int
    soft: int
    bytes: int
    files_hard: int
    files_soft: int
    files: int


def missing(directory: int) -> str:
    """Return why the directory of a descriptor cannot be limited, "" if it can. Raises OSError.

    Called when a container is created, and at each start.
    """
    if host_user() != 0:
        return "cannot have a size limit, because only root can set project quotas; leave the size out"
    state = ctypes.create_string_buffer(_STATE_SIZE)
    try:
        mounts.system_call(_QUOTACTL_FD, Path(), directory, _GET_STATE, 0, state)
        enforced = bool(_STATE.unpack_from(state)[1] & _ENFORCED)
    except OSError:  # ENOSYS for all that has no quota, and other numbers
        enforced = False
    if enforced:
        return ""
    mount = mounts.mount_of(directory)
    return (
        "cannot have a size limit, because its file system "
        f"({mount.fstype if mount else 'unmounted'}) has no project quota switched on; use an xfs or ext4 that is "
        "mounted with the option prjquota (ext4 after tune2fs -O quota -Q prjquota), or leave the size out"
    )


def limit(directory: int, owner: str, size: int, confined: bool, stop: threading.Event) -> str:
    """Limit the directory of a descriptor to ``size`` MiB, and one file for each 4 KiB; return why not, "" if it is.

    Called before a container starts; blocks as long as it takes to visit all files, or until ``stop`` is set.
    ``owner``: whom the limit belongs to, in any words; a limit of the same owner is replaced. ``confined``: who will
    write there has no capabilities on this host. If it fails nothing is left. Raises OSError.
    """
    if why := missing(directory):
        return why
    mount = mounts.mount_of(directory)
    if not confined and (mount is None or mount.fstype != "xfs"):  # ignore_hardlimit() in Linux' fs/quota/dquot.c
        return (
            "cannot have a size limit, because the VM of this pod has no user namespace of its own, and only xfs "
            "limits root; use an xfs, or a host that can jail the VM (virtc check)"
        )
    with _opened(directory) as top:
        former = _project(top)
        project = former if former in _ids(owner) else _free(top, owner)
        if project == 0:
            return "cannot have a size limit, because all project ids for it are in use; leave the size out"
        done = False
        try:
            _set_limit(top, project, size * 1024)
            for fd in _tree(top):
                if stop.is_set():
                    raise InterruptedError(errno.EINTR, os.strerror(errno.EINTR))
                if other := _tag(fd, project):
                    return (
                        f"cannot have a size limit, because files in it belong to project {other} of another container "
                        "or program; leave the size out, or share another directory"
                    )
            done = True
        finally:
            if not done:
                _remove(top, project)
    return ""


def lift(container: ContainerConfig, pod: str) -> None:
    """Take the limits from the sources of a container's mounts. Called when it is deleted, started or not.

    ``pod``: as for :func:`owner`. A source that does not exist any more, or is another directory now, is left as it is.
    Blocks as :func:`limit` does. Raises StorageError; this may then be called again.
    """
    for number, mount in enumerate(container.mounts):
        if mount.quota:
            try:
                _lift(mount.source, owner(pod, container.id, number))
            except OSError as error:
                raise StorageError(
                    f"the size limit of {mount.source!r} cannot be taken back: {error.strerror}"
                ) from error


def owner(pod: str, container_id: str, number: int) -> str:
    """Return whom the limit of a container's mount with a number belongs to; ``pod``: the pod's UUID."""
    return f"{pod}/{container_id}/{number}"


def _lift(path: str, owner: str) -> None:
    try:
        directory = os.open(path, _DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        if (project := _project(directory)) in _ids(owner):
            with _opened(directory) as top:
                _remove(top, project)
    finally:
        os.close(directory)


def _remove(top: int, project: int) -> None:
    """Take a project id from all files, and from the top last: it shows what is left to do. Raises OSError."""
    tree = _tree(top)
    next(tree)
    for fd in tree:
        _untag(fd, project)
    _untag(top, project)
    try:
        _set_limit(top, project, 0)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ESRCH):  # it is mounted without quota now
            raise


def _ids(owner: str) -> range:
    """Return the ids that an owner's limit can have."""
    group = int.from_bytes(hashlib.sha256(owner.encode()).digest()[:8]) % _GROUPS
    return range(_FIRST + group * _IN_GROUP, _FIRST + (group + 1) * _IN_GROUP)


def _free(top: int, owner: str) -> int:
    """Return the first of an owner's ids that no file has, 0 for none. Raises OSError."""
    return next((one for one in _ids(owner) if not _usage(top, one).bytes and not _usage(top, one).files), 0)


def _usage(fd: int, project: int) -> _Usage:
    found = ctypes.create_string_buffer(_LIMIT.size)
    try:
        mounts.system_call(_QUOTACTL_FD, Path(), fd, _GET_LIMIT, project, found)
    except OSError as error:
        if error.errno != errno.ENOENT:  # of xfs, for an id that it has never counted
            raise
    return _Usage(*_LIMIT.unpack_from(found)[:6])


def _set_limit(fd: int, project: int, kib: int) -> None:
    """Limit what all files of a project take; 0: no limit. Raises OSError."""
    wanted = _LIMIT.pack(kib, 0, 0, kib // _KIB_PER_FILE, 0, 0, 0, 0, _BLOCK_LIMITS | _INODE_LIMITS)
    mounts.system_call(_QUOTACTL_FD, Path(), fd, _SET_LIMIT, project, wanted)


def _project(fd: int) -> int:
    """Return the project id of a file or directory, 0 for a file system without such. Raises OSError."""
    try:
        return _attributes(fd)[3]
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL):
            return 0
        raise


def _attributes(fd: int) -> list[int]:
    return list(_ATTRIBUTES.unpack(fcntl.ioctl(fd, _GET_ATTRIBUTES, bytes(_ATTRIBUTES.size))))


def _tag(fd: int, project: int) -> int:
    """Give a file or directory a project id; return the id that it has instead, if another uses that. Raises OSError.

    What once was moved out of a limited directory has an id without a limit, which nobody uses.
    """
    attributes = _attributes(fd)
    other = attributes[3]
    if other not in (0, project) and (not _FIRST <= other < _FIRST + _GROUPS * _IN_GROUP or _usage(fd, other).hard):
        return other
    _change(fd, attributes, project, _INHERIT)
    return 0


def _untag(fd: int, project: int) -> None:
    attributes = _attributes(fd)
    if attributes[3] == project:
        _change(fd, attributes, 0, 0)


def _change(fd: int, attributes: list[int], project: int, inherit: int) -> None:
    wanted = list(attributes)
    wanted[3] = project
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        wanted[0] = attributes[0] & ~_INHERIT | inherit
    if wanted != attributes:
        fcntl.ioctl(fd, _SET_ATTRIBUTES, _ATTRIBUTES.pack(*wanted))


@contextmanager
def _opened(directory: int) -> Iterator[int]:
    """Open a directory on a copy of its mount, below which nothing is mounted: as a guest gets it. Raises OSError."""
    with mounts.copied(directory, Path()) as tree:
        top = os.open(".", _DIRECTORY, dir_fd=tree)
        try:
            yield top
        finally:
            os.close(top)


def _tree(top: int) -> Iterator[int]:
    """Yield descriptors of a directory, then of all directories and regular files below it, following no link.

    Each is closed when the next is taken. However deep the directories are, few are open at a time. What is removed
    meanwhile is left out. Raises OSError, ESTALE for a directory that is moved meanwhile.
    """
    fd = os.open(".", _DIRECTORY, dir_fd=top)
    levels = [(os.fstat(fd), ["."])]
    try:
        while levels:
            if names := levels[-1][1]:
                try:
                    below = os.open(names.pop(), _DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
                except FileNotFoundError:
                    continue
                os.close(fd)
                fd = below
                yield fd
                levels.append((os.fstat(fd), []))
                yield from _files(fd, levels[-1][1])
                continue
            levels.pop()
            if levels:  # above the top of the copy of a mount is itself
                above = os.open("..", _DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = above
                if not os.path.samestat(os.fstat(fd), levels[-1][0]):
                    raise OSError(errno.ESTALE, "a directory in it is moved meanwhile")
    finally:
        os.close(fd)


def _files(directory: int, directories: list[str]) -> Iterator[int]:
    """Yield descriptors of the regular files in a directory, and add the names of its directories. Raises OSError."""
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                directories.append(entry.name)
            elif entry.is_file(follow_symlinks=False):
                try:
                    fd = open_regular(entry.name, os.O_RDONLY, dir_fd=directory)
                except FileNotFoundError:
                    continue
                try:
                    yield fd
                finally:
                    os.close(fd)
