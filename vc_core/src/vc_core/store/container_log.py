"""The files of a container's log, and what reads them: bytes of output, and an index of when each arrived.

The log is ``output.log`` and, once that was full, ``output.log.1`` before it: the container's bytes as they arrived.
Beside each is an index, ``output.log.index``: a header that names its log's inode, then an entry for each append.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from vc_core.driver.files import open_regular
from vc_core.driver.rotating import former
from vc_core.errors import StorageError
from vc_core.results import LogLine

#: The header of an index: the inode of its log, and a number that grows with each file of the log.
HEADER = struct.Struct("=2Q")

#: An entry of an index, see :class:`Entry`.
ENTRY = struct.Struct("=4Q2I")

#: The ``stream`` of an entry about bytes that the log itself adds, which are not counted: how many the disk refused.
OF_LOG = 2

#: Entries that one read takes.
_ENTRIES = 1024

#: Bytes of a line after which its beginning is returned as a line of its own.
_LINE_MAX = 64 * 1024


class Entry(NamedTuple):
    """What an index has of one append. It is written before the bytes are.

    ``time``: nanoseconds since the epoch. ``offset``: bytes that the file had before. ``stdout`` and ``stderr``: bytes
    of each stream that were logged before, since the process started. ``length``: bytes that follow; none where a
    process started, and with :data:`OF_LOG` after a loss, which ``stdout`` and ``stderr`` then include. ``stream``: 0
    for output, 1 for error output, or :data:`OF_LOG`, which a reader returns as error output.
    """

    time: int
    offset: int
    stdout: int
    stderr: int
    length: int
    stream: int


def index_path(log: Path) -> Path:
    """Return the path of the index of a log's file."""
    return log.with_name(f"{log.name}.index")


def read_header(index: int) -> tuple[int, int] | None:
    """Return inode and number of an index that is open, None for one whose header was not written. Raises OSError."""
    data = os.pread(index, HEADER.size, 0)
    return HEADER.unpack(data) if len(data) == HEADER.size else None


def read_entries(index: int, first: int, count: int = _ENTRIES) -> list[Entry]:
    """Return up to ``count`` entries of an index that is open, from number ``first`` on. Raises OSError."""
    data = os.pread(index, count * ENTRY.size, HEADER.size + first * ENTRY.size)
    return [Entry._make(one) for one in ENTRY.iter_unpack(data[: len(data) // ENTRY.size * ENTRY.size])]


def last_entry(log: Path) -> tuple[int, Entry] | None:
    """Return the last entry of a log, and the inode of the file that it is about; None if there is none.

    Raises OSError.
    """
    for path in map(index_path, (log, former(log))):
        with suppress(FileNotFoundError):
            index = open_regular(path, os.O_RDONLY)
            try:
                header = read_header(index)
                count = (os.fstat(index).st_size - HEADER.size) // ENTRY.size
                if header is not None and count > 0:
                    return header[0], read_entries(index, count - 1, 1)[0]
            finally:
                os.close(index)
    return None


class _File:
    """One file of a log and its index, open; and how much of them was read."""

    def __init__(self, number: int, index: int, data: int) -> None:
        self.number, self.index, self.data = number, index, data
        self.entry = 0  #: the first entry that was not read to its end
        self.done = 0  #: bytes of that entry that were read

    def close(self) -> None:
        os.close(self.index)
        os.close(self.data)

    def read(self) -> Iterator[tuple[Entry, bytes]]:
        """Yield what has arrived since the last call. Raises OSError."""
        while True:
            entries = read_entries(self.index, self.entry)
            size = os.fstat(self.data).st_size  # after the entries: so the bytes of all but the last one are there
            last = len(entries) < _ENTRIES
            for number, entry in enumerate(entries if last else entries[:-1]):
                following = entries[number + 1].offset if number + 1 < len(entries) else size
                end = min(entry.offset + entry.length, following)  # less, where a disk was full
                start = entry.offset + self.done
                if end > start or not entry.length:
                    yield entry, os.pread(self.data, end - start, start)
                if number + 1 == len(entries) and end < entry.offset + entry.length:
                    self.done = max(0, end - entry.offset)
                    return
                self.entry, self.done = self.entry + 1, 0
            if last:
                return


class LogReader:
    """Reads a container's log from its oldest byte on, also while it grows and is rotated."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: _File | None = None
        #: The beginnings of lines that have not ended: time and bytes, for each stream.
        self._begun: dict[int, tuple[int, bytes]] = {}

    def lines(self, ended: bool = False) -> Iterator[LogLine]:
        """Yield the lines that were completed since the last call; with ``ended`` also what is no whole line.

        Raises StorageError.
        """
        try:
            for entry, data in self._pieces():
                if entry.length or entry.stream == OF_LOG:
                    yield from self._split(entry, data)
                else:
                    yield from self._rest()
        except OSError as error:
            raise self._unreadable(error) from error
        if ended:
            yield from self._rest()

    def skip(self) -> None:
        """Leave out what there is now. Raises StorageError."""
        for _ in self.pieces():
            pass

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """Yield the stream (0 for output, else error output) and bytes of what has arrived since the last call.

        Raises StorageError.
        """
        try:
            for entry, data in self._pieces():
                yield entry.stream, data
        except OSError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: OSError) -> StorageError:
        return StorageError(f"log {str(self._path)!r} cannot be read: {error.strerror}")

    def close(self) -> None:
        """Close the files. Idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _pieces(self) -> Iterator[tuple[Entry, bytes]]:
        while True:
            following = self._open_next()
            if self._file is not None:
                yield from self._file.read()  # to its end, if another follows
            if following is None:
                return
            self.close()
            self._file = following

    def _open_next(self) -> _File | None:
        """Return the file that follows the present one, None if that is the last one. Raises OSError."""
        present = self._file.number if self._file is not None else 0
        for path in (former(self._path), self._path):
            try:
                index = open_regular(index_path(path), os.O_RDONLY)
            except FileNotFoundError:
                continue
            header = read_header(index)
            if header is not None and header[1] > present:
                for data_path in (path, former(path)):  # the log is renamed before its index
                    with suppress(FileNotFoundError):
                        data = open_regular(data_path, os.O_RDONLY)
                        if os.fstat(data).st_ino == header[0]:
                            return _File(header[1], index, data)
                        os.close(data)
            os.close(index)
        return None

    def _split(self, entry: Entry, data: bytes) -> Iterator[LogLine]:
        began, before = self._begun.pop(entry.stream, (entry.time, b""))
        *lines, rest = (before + data).split(b"\n")
        for line in lines:
            yield _line(began, entry.stream, line + b"\n")
            began = entry.time
        if len(rest) > _LINE_MAX:
            yield _line(began, entry.stream, rest)
        elif rest:
            self._begun[entry.stream] = (began, rest)

    def _rest(self) -> Iterator[LogLine]:
        for stream, (began, data) in sorted(self._begun.items(), key=lambda item: item[1][0]):
            yield _line(began, stream, data)
        self._begun.clear()


def _line(time: int, stream: int, data: bytes) -> LogLine:
    return LogLine(time / 1e9, "stderr" if stream else "stdout", data)
