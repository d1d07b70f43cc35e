"""Makes the archive that a guest reads, of files of this host or of a tar archive in any format."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator
from typing import IO

from vc_core.archives.entries import CHUNK, END, LeftOut, header, padding, relative
from vc_core.errors import CopyError

#: Bits that give a program the rights of its owner: files whose owner changes on the way lose them.
_SET_ID = stat.S_ISUID | stat.S_ISGID


def pack(path: str, *, owners: bool, follow: bool) -> Iterator[bytes]:
    """Yield the archive of a file or directory, in pieces; its own entry is ".", or none for a path that ends with it.

    ``owners``: numbers of owners are kept, else everything is root's. ``follow``: if ``path`` is a link, what it leads
    to. No link below it is followed, also none that somebody puts there meanwhile. Sockets are left out.
    Raises CopyError, at the end also for devices, which are left out.
    """
    yield from _Packing(owners).pack(path, follow=follow)


def name_of(path: str) -> str:
    """Return the name that what is at a path gets in a directory; "" for one that stands for its contents ("DIR/.")."""
    last = path.rstrip("/").rpartition("/")[2]
    return "" if last in ("", ".", "..") else last


class _Packing:
    def __init__(self, owners: bool) -> None:
        self._owners = owners
        self._several: dict[tuple[int, int], str] = {}  # the first names of files that have several
        self._left_out = LeftOut()

    def pack(self, path: str, *, follow: bool) -> Iterator[bytes]:
        yield from self._pack(None, path, ".", follow=follow, top=True, shown=bool(name_of(path)))
        yield END
        self._left_out.check()

    def _pack(
        self, parent: int | None, path: str, name: str, *, follow: bool = False, top: bool = False, shown: bool = True
    ) -> Iterator[bytes]:
        try:
            what = os.stat(path, dir_fd=parent, follow_symlinks=follow)
            entry = self._entry(name, what)
            if stat.S_ISLNK(what.st_mode):
                entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(path, dir_fd=parent)
                yield header(entry)
            elif stat.S_ISFIFO(what.st_mode):
                entry.type = tarfile.FIFOTYPE
                yield header(entry)
            elif stat.S_ISDIR(what.st_mode) or stat.S_ISREG(what.st_mode):
                flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)
                yield from self._opened(os.open(path, flags, dir_fd=parent), name, shown=shown)
            elif top:
                raise CopyError(f"{path!r} is neither a file, a directory nor a link")
            elif not stat.S_ISSOCK(what.st_mode):
                self._left_out.add(name, "is a device")
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not top:
                return  # it was removed meanwhile
            if isinstance(error, BrokenPipeError):
                raise
            raise CopyError(f"{path if top else name!r} cannot be read: {error.strerror}") from error

    def _opened(self, fd: int, name: str, *, shown: bool) -> Iterator[bytes]:
        try:
            what = os.fstat(fd)
            entry = self._entry(name, what)
            if stat.S_ISDIR(what.st_mode):
                yield from self._directory(fd, entry, shown=shown)
            elif stat.S_ISREG(what.st_mode):
                yield from self._file(fd, entry, what)
        finally:
            os.close(fd)

    def _directory(self, fd: int, entry: tarfile.TarInfo, *, shown: bool) -> Iterator[bytes]:
        entry.type, mode = tarfile.DIRTYPE, entry.mode
        entry.mode |= stat.S_IRWXU  # until all that is below it was made
        if shown:
            yield header(entry)
        for name in sorted(os.listdir(fd)):
            yield from self._pack(fd, name, name if entry.name == "." else f"{entry.name}/{name}")
        if shown and mode != entry.mode:
            entry.mode = mode
            yield header(entry)

    def _file(self, fd: int, entry: tarfile.TarInfo, what: os.stat_result) -> Iterator[bytes]:
        if what.st_nlink > 1:
            first = self._several.setdefault((what.st_dev, what.st_ino), entry.name)
            if first != entry.name:
                entry.type, entry.linkname = tarfile.LNKTYPE, first
                yield header(entry)
                return
        entry.size = what.st_size
        yield header(entry)
        left = entry.size
        while left:
            piece = os.read(fd, min(left, CHUNK)) or bytes(min(left, CHUNK))  # zeros if it has become shorter
            left -= len(piece)
            yield piece
        yield padding(entry)

    def _entry(self, name: str, what: os.stat_result) -> tarfile.TarInfo:
        entry = tarfile.TarInfo(name)
        entry.mode, entry.mtime = stat.S_IMODE(what.st_mode), max(0, int(what.st_mtime))
        entry.uid, entry.gid = what.st_uid, what.st_gid
        return _owned(entry, self._owners)


def repack(stream: IO[bytes], *, owners: bool) -> Iterator[bytes]:
    """Yield the archive of what a tar archive holds, in any of tar's formats, compressed or not.

    ``owners`` as for :func:`pack`. A leading "/" of a name is removed, as tar does. Raises CopyError, at the end also
    for devices, which are left out.
    """
    left_out = LeftOut()
    try:
        with tarfile.open(fileobj=stream, mode="r|*") as archive:
            for member in archive:
                if member.isreg() or member.isdir() or member.issym() or member.islnk() or member.isfifo():
                    yield from _again(archive, member, owners)
                else:
                    left_out.add(member.name, "is a device, or of an unusual type")
    except (tarfile.TarError, EOFError) as error:
        raise CopyError(f"the tar archive cannot be read: {error}") from error
    yield END
    left_out.check()


def _again(archive: tarfile.TarFile, member: tarfile.TarInfo, owners: bool) -> Iterator[bytes]:
    entry = tarfile.TarInfo(relative(member.name.lstrip("/")))
    entry.type = tarfile.REGTYPE if member.isreg() else member.type
    entry.mode, entry.mtime = stat.S_IMODE(member.mode), max(0, int(member.mtime))
    entry.uid, entry.gid = member.uid, member.gid
    entry.linkname = relative(member.linkname.lstrip("/")) if member.islnk() else member.linkname
    contents = archive.extractfile(member) if member.isreg() else None
    entry.size = member.size if contents else 0
    yield header(_owned(entry, owners))
    while contents and (piece := contents.read(CHUNK)):
        yield piece
    yield padding(entry)


def _owned(entry: tarfile.TarInfo, owners: bool) -> tarfile.TarInfo:
    if not owners:
        entry.uid = entry.gid = 0
        entry.mode &= ~_SET_ID
    return entry
