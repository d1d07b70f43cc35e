"""Makes files of this host of an archive from a guest, which may be hostile.

Each name is opened part by part from a directory that is open already, and no part may be a link: so nothing leads out
of the destination, neither what the archive holds nor what somebody puts there meanwhile.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from vc_core.archives.entries import END, Entries, LeftOut, header, padding, relative
from vc_core.errors import CopyError

#: How a part of a name is opened.
_PART = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def unpack(stream: IO[bytes], destination: str, name: str, *, owners: bool) -> None:
    """Make what the archive in ``stream`` holds.

    Its entry "." becomes ``destination``, or ``name`` in it if it is a directory. With an empty ``name`` the entries
    are put into the directory ``destination``, which is made if it is missing. ``owners``: numbers of owners are kept,
    else everything is this user's. No file is set-user-id. Links that lead out, devices and pipes are left out.
    Raises CopyError, at the end also for what was left out.
    """
    entries = Entries(stream)
    with _unpacking(destination, name, owners) as unpacking:
        for entry in entries:
            try:
                unpacking.make(entry, entries.contents())
            except OSError as error:
                raise CopyError(f"{unpacking.shown(entry)!r} cannot be written: {error.strerror}") from error
        unpacking.finish()
    unpacking.left_out.check()


def pass_on(stream: IO[bytes], target: IO[bytes], name: str) -> None:
    """Write the archive in ``stream`` to ``target``, with ``name`` (if it is not empty) before each name.

    Raises CopyError, at the end also for devices, which are left out; OSError of ``target``.
    """
    entries, left_out = Entries(stream), LeftOut()
    for entry in entries:
        if entry.isdev() and not entry.isfifo():
            left_out.add(entry.name, "is a device")
            continue
        entry.name = _below(name, entry.name)
        if entry.islnk():
            entry.linkname = _below(name, relative(entry.linkname))
        target.write(header(entry))
        for piece in entries.contents():
            target.write(piece)
        target.write(padding(entry))
    target.write(END)
    target.flush()
    left_out.check()


def _below(top: str, name: str) -> str:
    return name if not top else top if name == "." else f"{top}/{name}"


@contextmanager
def _unpacking(destination: str, name: str, owners: bool) -> Iterator[_Unpacking]:
    """Open the directory that holds what is made."""
    try:
        directory, top, place = _place(destination, name)
    except OSError as error:
        raise CopyError(f"{destination!r} cannot be written to: {error.strerror}") from error
    try:
        yield _Unpacking(directory, top, place, name, owners)
    finally:
        os.close(directory)


def _place(destination: str, name: str) -> tuple[int, list[str], str]:
    """Return an open directory, and below it the name of what the entry "." becomes, in a list, empty for itself.

    The third is the path of that on this host.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    if not name:
        if not os.path.isdir(destination):  # noqa: PTH112 - the caller's text, with a "/" at its end
            os.mkdir(destination)  # noqa: PTH102
        return os.open(destination, flags), [], destination
    if os.path.isdir(destination) or destination.endswith("/"):  # noqa: PTH112
        return os.open(destination, flags), [name], f"{destination.rstrip('/')}/{name}"
    parent, _, leaf = destination.rpartition("/")
    return os.open(parent or ("/" if destination.startswith("/") else "."), flags), [leaf], destination


class _Unpacking:
    """Makes entries in ``directory``; ``top`` is where the entry "." is made in it, ``name`` what it is a copy of.

    ``place`` is the path of ``top`` on this host, for errors.
    """

    def __init__(self, directory: int, top: Sequence[str], place: str, name: str, owners: bool) -> None:
        self._directory, self._top, self._place, self._name, self._owners = directory, top, place, name, owners
        self._directories: list[tuple[list[str], tarfile.TarInfo]] = []  # those that were made
        self._files: set[str] = set()
        self.left_out = LeftOut()

    def make(self, entry: tarfile.TarInfo, contents: Iterator[bytes]) -> None:
        """Make one entry. Raises OSError, CopyError."""
        place = self._parts(entry.name)
        if not place:
            return  # the destination itself
        with self._opened(place[:-1]) as parent:
            leaf = place[-1]
            if entry.isdir():
                self._make_directory(parent, leaf, place, entry)
            elif entry.isreg():
                self._make_file(parent, leaf, entry, contents)
            elif entry.issym():
                self._make_link(parent, leaf, entry)
            elif entry.islnk():
                self._make_hard_link(parent, leaf, entry)
            else:
                self.left_out.add(self._copied(entry), "is a device or a pipe")

    def finish(self) -> None:
        """Give the directories that were made their modes and times, the innermost first. Raises CopyError."""
        for place, entry in reversed(self._directories):
            try:
                with self._opened(place[:-1]) as parent:
                    fd = os.open(place[-1], os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
                    try:
                        self._set_attributes(fd, entry)
                    finally:
                        os.close(fd)
            except OSError as error:
                raise CopyError(f"{self.shown(entry)!r} cannot be written: {error.strerror}") from error

    def shown(self, entry: tarfile.TarInfo) -> str:
        """Return the path of an entry on this host, for an error."""
        return self._place if entry.name == "." else f"{self._place.rstrip('/')}/{entry.name}"

    def _copied(self, entry: tarfile.TarInfo) -> str:
        """Return the name of an entry of the copy; "." is what was copied."""
        return self._name if entry.name == "." and self._name else entry.name

    def _parts(self, name: str) -> list[str]:
        return [*self._top, *(() if name == "." else name.split("/"))]

    @contextmanager
    def _opened(self, parts: Sequence[str]) -> Iterator[int]:
        fd = os.dup(self._directory)
        try:
            for part in parts:
                inner = _open_directory(part, fd)
                os.close(fd)
                fd = inner
            yield fd
        finally:
            os.close(fd)

    def _make_directory(self, parent: int, leaf: str, place: list[str], entry: tarfile.TarInfo) -> None:
        try:
            os.mkdir(leaf, stat.S_IRWXU, dir_fd=parent)
        except FileExistsError:
            os.close(_open_directory(leaf, parent))  # raises for what is not a directory
        else:
            self._directories.append((place, entry))

    def _make_file(self, parent: int, leaf: str, entry: tarfile.TarInfo, contents: Iterator[bytes]) -> None:
        self._remove(parent, leaf, entry)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(leaf, flags, stat.S_IRUSR | stat.S_IWUSR, dir_fd=parent)
        with os.fdopen(fd, "wb") as file:
            for piece in contents:
                file.write(piece)
            file.flush()
            self._set_attributes(fd, entry)
        self._files.add(entry.name)

    def _make_link(self, parent: int, leaf: str, entry: tarfile.TarInfo) -> None:
        if _leads_out(entry):
            self.left_out.add(self._copied(entry), f"is a link to {entry.linkname!r}, which leads out of the copy")
            return
        self._remove(parent, leaf, entry)
        os.symlink(entry.linkname, leaf, dir_fd=parent)
        if self._owners:
            os.chown(leaf, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)

    def _make_hard_link(self, parent: int, leaf: str, entry: tarfile.TarInfo) -> None:
        first = relative(entry.linkname)
        if first not in self._files or first == entry.name:
            self.left_out.add(self._copied(entry), f"is a hard link to {first!r}, which is not a file of the copy")
            return
        place = self._parts(first)
        self._remove(parent, leaf, entry)
        with self._opened(place[:-1]) as other:
            os.link(place[-1], leaf, src_dir_fd=other, dst_dir_fd=parent, follow_symlinks=False)

    def _remove(self, parent: int, leaf: str, entry: tarfile.TarInfo) -> None:
        """Remove a file or link that is in the place of an entry. Raises CopyError for what is neither."""
        try:
            mode = os.stat(leaf, dir_fd=parent, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
            raise CopyError(
                f"{self.shown(entry)!r} cannot be written: there is something of that name that is not a file"
            )
        self._files.discard(entry.name)
        os.unlink(leaf, dir_fd=parent)

    def _set_attributes(self, fd: int, entry: tarfile.TarInfo) -> None:
        """Set the owner, mode and time of an open file."""
        if self._owners:
            os.fchown(fd, entry.uid, entry.gid)
        os.fchmod(fd, entry.mode & 0o777)
        os.utime(fd, (entry.mtime, entry.mtime))


def _open_directory(name: str, parent: int) -> int:
    """Return an open directory that is no link. Raises OSError, which says so of a link."""
    try:
        return os.open(name, _PART, dir_fd=parent)
    except NotADirectoryError as error:
        if stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            raise NotADirectoryError(
                error.errno, "it is a link, which a copy does not follow; name what it leads to"
            ) from None
        raise


def _leads_out(entry: tarfile.TarInfo) -> bool:
    """Return whether a link may lead out of the top of its archive.

    The directory of a link is real, so each ".." at the beginning of its target goes up by one. One behind a name may
    go up further, if that name is a link. A top that is a link leads to what is beside it.
    """
    parts = [part for part in entry.linkname.split("/") if part not in ("", ".")]
    ups = next((number for number, part in enumerate(parts) if part != ".."), len(parts))
    depth = -1 if entry.name == "." else entry.name.count("/")
    return entry.linkname.startswith("/") or ".." in parts[ups:] or ups > depth
