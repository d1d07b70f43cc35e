"""Files below the roots: replaced as a whole, opened without following links, removed without crossing a mount."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from vc_core import failpoints
from vc_core.driver.files import open_regular
from vc_core.errors import StorageError
from vc_core.frozen import frozen

#: Bytes. No record comes near this size: what is larger was not written by :func:`write_atomic`.
_READ_MAX = 16 * 1024 * 1024

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def write_atomic(directory: Path, name: str, data: bytes) -> None:
    """Replace a file so that a reader, and a crash at any moment, sees the old or the new content, whole.

    Called with the pod's lock held, so the temporary name needs no uniqueness. Raises StorageError; the file has its
    old content then, or is not there if it was not, but for a disk that refuses to undo the change as well.
    """
    temporary = f".{name}.new"
    try:
        folder = os.open(directory, _DIRECTORY | os.O_NOFOLLOW)
        try:
            _replace(folder, name, temporary, data)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise
        finally:
            os.close(folder)
    except OSError as error:
        raise StorageError(f"{str(directory / name)!r} cannot be written: {error.strerror}") from error


def write_new(directory: Path, contents: Mapping[str, bytes]) -> None:
    """Write files into a new directory, so that they survive a crash, before the directory gets its name.

    Raises OSError.
    """
    folder = os.open(directory, _DIRECTORY | os.O_NOFOLLOW)
    try:
        for name, data in contents.items():
            _write(folder, name, data, os.O_EXCL)
        os.fsync(folder)
    finally:
        os.close(folder)


def _replace(folder: int, name: str, temporary: str, data: bytes) -> None:
    """Replace the file ``name`` in an open directory. Raises OSError, with ``temporary`` left or not."""
    with contextlib.ExitStack() as stack:
        try:
            former = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            stack.callback(os.close, former)
        except FileNotFoundError:
            former = -1
        _write(folder, temporary, data, os.O_TRUNC)
        failpoints.reach("store.write.synced")
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        try:
            failpoints.reach("store.write.renamed")
            os.fsync(folder)
        except OSError:
            with contextlib.suppress(OSError):
                _restore(folder, name, temporary, former)
            raise


def _write(folder: int, name: str, data: bytes, flag: int) -> None:
    """Write a whole file in an open directory to the disk; ``flag``: O_EXCL or O_TRUNC. Raises OSError."""
    fd = open_regular(name, os.O_WRONLY | os.O_CREAT | flag, dir_fd=folder)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        failpoints.reach("store.write.written")
        os.fsync(fd)
    finally:
        os.close(fd)


def _restore(folder: int, name: str, temporary: str, former: int) -> None:
    """Give a file that was replaced its content before, of the open file ``former``; -1: there was none."""
    if former == -1:
        os.unlink(name, dir_fd=folder)
        return
    fd = open_regular(f"/proc/self/fd/{former}", os.O_RDONLY, follow=True)  # it has no name any more
    with os.fdopen(fd, "rb", buffering=0) as file:
        _write(folder, temporary, file.read(), os.O_TRUNC)
    os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)


def read_whole(path: Path | str) -> bytes:
    """Return a file's content. Raises FileNotFoundError when there is no file, StorageError for other failures."""
    try:
        fd = open_regular(path, os.O_RDONLY)
        try:
            size = os.fstat(fd).st_size
            if size > _READ_MAX:
                raise StorageError(f"{str(path)!r} is larger than {_READ_MAX} bytes")
            # Records are replaced, never changed, and far smaller than what one read(2) returns.
            return os.read(fd, size)
        finally:
            os.close(fd)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError(f"{str(path)!r} cannot be read: {error.strerror}") from error


def sync_directory(path: Path) -> None:
    """Make a rename or removal in a directory survive a crash. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def remove_tree(path: Path, within: int | None = None) -> None:
    """Remove a directory and all below it, but nothing on another mount, and nothing through a link; or a file.

    ``within``: descriptor of the directory that a relative ``path`` is in. A bind mount can have its source's device
    number, so the mount id of every directory is compared. However deep the directories are, few are open at a time.
    No error if there is nothing. Raises StorageError, with everything on the other mount untouched.
    """
    try:
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=within)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"{str(path.parent)!r} cannot be opened: {error.strerror}") from error
    try:
        _remove_directory(parent, path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"{str(path)!r} cannot be removed: {error.strerror}") from error
    finally:
        os.close(parent)


@frozen
class _Level:
    """A directory that is being removed: itself, its name in the one above, and the names of those left in it."""

    status: os.stat_result
    name: str
    directories: list[str]


def _remove_directory(parent: int, path: Path) -> None:
    """Remove ``path``, which is in ``parent``. Raises OSError, StorageError."""
    try:
        os.unlink(path.name, dir_fd=parent)
        return
    except IsADirectoryError:  # unlink(2): Linux refuses every directory with this error
        pass
    mount = mount_id(parent)
    levels = [_Level(os.fstat(parent), "", [path.name])]
    fd = os.dup(parent)
    try:
        while levels:
            level = levels[-1]
            if level.directories:
                name = level.directories.pop()
                fd = _replaced(fd, os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=fd))
                if mount_id(fd) != mount:
                    where = Path(*(one.name for one in levels[1:]), name).relative_to(path.name)
                    raise _is_mount_point(path / where)
                levels.append(_Level(os.fstat(fd), name, _remove_files(fd)))
                continue
            levels.pop()
            if levels:
                fd = _replaced(fd, os.open("..", _DIRECTORY, dir_fd=fd))
                if not os.path.samestat(os.fstat(fd), levels[-1].status):
                    raise StorageError(f"{str(path)!r} is moved while it is removed; try again")
                os.rmdir(level.name, dir_fd=fd)
    finally:
        os.close(fd)


def require_no_mount(path: Path) -> None:
    """Refuse a directory below which something is mounted, before anything in it is removed. Raises StorageError.

    Called before a pod's directory gets another name, under which nobody would find the mount.
    """
    try:
        fd = os.open(path, _DIRECTORY | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise StorageError(f"{str(path)!r} cannot be opened: {error.strerror}") from error
    try:
        for _, _, _, directory in os.fwalk(".", dir_fd=fd, onerror=_raise):
            if mount_id(directory) != mount_id(fd):
                raise _is_mount_point(Path(f"/proc/self/fd/{directory}").readlink())
    except OSError as error:
        raise StorageError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    finally:
        os.close(fd)


def _raise(error: OSError) -> None:
    raise error


def _is_mount_point(path: Path) -> StorageError:
    return StorageError(f"{str(path)!r} is a mount point; unmount it first, nothing in it was removed")


def _replaced(former: int, fd: int) -> int:
    os.close(former)
    return fd


def _remove_files(directory: int) -> list[str]:
    """Remove everything in a directory but directories, and return the names of these. Raises OSError."""
    directories = []
    with os.scandir(directory) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                directories.append(entry.name)
            else:
                os.unlink(entry.name, dir_fd=directory)
    return directories


def mount_id(fd: int) -> str:
    """Return the id of the mount that an open file is on (proc(5), fdinfo; Python has no statx)."""
    info = os.open(f"/proc/self/fdinfo/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _, found, rest = os.read(info, 4096).partition(b"\nmnt_id:")
    finally:
        os.close(info)
    if found:
        return rest.split(maxsplit=1)[0].decode()
    raise StorageError("this kernel does not show the mount of an open file (/proc/self/fdinfo has no mnt_id)")


# From <sys/inotify.h>; the values are part of Linux' stable interface.
_IN_MODIFY, _IN_MOVED_TO, _IN_CREATE, _IN_DELETE_SELF, _IN_MOVE_SELF = 0x2, 0x80, 0x100, 0x400, 0x800


def watch(directory: Path, growth: bool = False) -> int:
    """Return a descriptor that becomes readable when a file is replaced in a directory, or the directory is removed.

    With ``growth`` also when a file in it is begun or written to. The caller closes it. Raises StorageError. (Python
    offers no inotify(7).)
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    events = _IN_MOVED_TO | _IN_DELETE_SELF | _IN_MOVE_SELF | (_IN_MODIFY | _IN_CREATE if growth else 0)
    if fd < 0 or libc.inotify_add_watch(fd, os.fsencode(directory), events) < 0:
        number = ctypes.get_errno()
        if fd >= 0:
            os.close(fd)
        raise StorageError(f"{str(directory)!r} cannot be watched: {os.strerror(number)}")
    return int(fd)
