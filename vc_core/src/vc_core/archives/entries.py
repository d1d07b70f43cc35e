"""Reads the entries of an archive from a guest, which may be hostile, and writes entries for one."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import IO

from vc_core.errors import CopyError

#: Bytes that are moved at once.
CHUNK = 256 * 1024

#: Longest name of an entry and target of a link, in bytes (Linux: PATH_MAX).
_NAME_MAX = 4096

#: The types of entries that a guest writes.
_TYPES = frozenset(
    (
        *(tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE),
        *(tarfile.CHRTYPE, tarfile.BLKTYPE),
    )
)

#: Bounds of numbers: owners are 32 bits, of which the last number stands for none; times end with the year 9999.
_ID_MAX, _TIME_MAX = 2**32 - 2, 253402300799

_ENCODING, _ERRORS = "utf-8", "surrogateescape"


class IncompleteError(CopyError):
    """The archive ends before its end: what wrote it failed."""


class Entries:
    """The entries of an archive in ``stream``, one by one; the bytes of a file are read with :meth:`contents`.

    What is read into memory has a bound, whatever the archive claims. Names are checked: none is absolute or has a part
    ``..``. Raises CopyError for an archive that is not valid, or not complete.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._left = self._padding = 0

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        while (entry := self._next()) is not None:
            yield entry
            for _ in self.contents():
                pass
            self._read(self._padding)

    def contents(self) -> Iterator[bytes]:
        """Yield the bytes of the entry that was returned last, in pieces."""
        while self._left:
            piece = self._read(min(self._left, CHUNK))
            self._left -= len(piece)
            yield piece

    def _next(self) -> tarfile.TarInfo | None:
        texts: dict[bytes, str] = {}
        while True:
            block = self._read(tarfile.BLOCKSIZE)
            if not any(block):
                return None
            try:
                entry = tarfile.TarInfo.frombuf(block, _ENCODING, _ERRORS)
            except tarfile.HeaderError as error:
                raise CopyError(f"the archive has a block that is not a header: {error}") from error
            if entry.type not in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
                break
            if not 0 < entry.size <= _NAME_MAX:
                raise CopyError(f"the archive has a name of {entry.size} bytes; {_NAME_MAX} are possible")
            text = self._read(entry.size + -entry.size % tarfile.BLOCKSIZE)[: entry.size]
            texts[entry.type] = text.partition(b"\0")[0].decode(_ENCODING, _ERRORS)
        entry.name = relative(texts.get(tarfile.GNUTYPE_LONGNAME, entry.name))
        entry.linkname = texts.get(tarfile.GNUTYPE_LONGLINK, entry.linkname)
        if entry.type not in _TYPES or entry.size < 0 or (entry.size and not entry.isreg()):
            raise CopyError(f"the archive has an entry that is not valid: {entry.name!r}")
        if not (0 <= entry.uid <= _ID_MAX and 0 <= entry.gid <= _ID_MAX and 0 <= entry.mtime <= _TIME_MAX):
            raise CopyError(f"the archive has an owner or a time that is not valid, of {entry.name!r}")
        self._left, self._padding = entry.size, -entry.size % tarfile.BLOCKSIZE
        return entry

    def _read(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) < size:
            raise IncompleteError("the archive is not complete")
        return data


def relative(name: str) -> str:
    """Return a name in an archive without "." parts, "." for the top. Raises CopyError for one that leads out."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts:
        raise CopyError(f"the archive has the name {name!r}, which leads out of it")
    return "/".join(parts) or "."


def header(entry: tarfile.TarInfo) -> bytes:
    """Return the blocks that stand before the bytes of an entry."""
    try:
        return entry.tobuf(tarfile.GNU_FORMAT, _ENCODING, _ERRORS)
    except ValueError as error:  # a number that no archive can hold
        raise CopyError(f"{entry.name!r} cannot be in an archive: {error}") from error


def padding(entry: tarfile.TarInfo) -> bytes:
    """Return what fills the last block of an entry."""
    return bytes(-entry.size % tarfile.BLOCKSIZE)


#: The end of an archive.
END = bytes(2 * tarfile.BLOCKSIZE)


class LeftOut:
    """What was left out of a copy, and why."""

    #: So many are kept with their names.
    NAMED_MAX = 100

    def __init__(self) -> None:
        self._count = 0
        self._named: list[str] = []

    def add(self, name: str, reason: str) -> None:
        """Note an entry that is left out."""
        self._count += 1
        if len(self._named) < self.NAMED_MAX:
            self._named.append(f"{name!r} {reason}")

    def check(self) -> None:
        """Raise CopyError if something was left out; the rest was copied."""
        if not self._count:
            return
        shown = "; ".join(self._named[:3])
        more = self._count - 3
        others = f"; and {more} other{'s' if more > 1 else ''}" if more > 0 else ""
        raise CopyError(f"all was copied but what is left out: {shown}{others}", left_out=self._named)
