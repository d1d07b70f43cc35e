"""Writes an initramfs: a cpio archive in the format newc, the same bytes for the same contents. For guest drivers.

The format holds owners, modes and links as plain numbers, so no rights are needed to write it (Linux,
Documentation/driver-api/early-userspace/buffer-format.rst).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from vc_core.frozen import frozen


@frozen
class Entry:
    """One file of the guest: ``mode`` as in stat(2), and its contents or a symbolic link's target."""

    mode: int
    data: bytes = b""


def file_entry(data: bytes, executable: bool = False) -> Entry:
    """Return the entry of a regular file."""
    return Entry(stat.S_IFREG | (0o755 if executable else 0o644), data)


_DIRECTORY = Entry(stat.S_IFDIR | 0o755)


def pack(files: Mapping[str, Entry]) -> Iterator[bytes]:
    """Yield the archive of ``files`` (by absolute path) in pieces, with the directories that hold them.

    All entries belong to root, have the time 0, and are in the order of their paths.
    """
    entries = {
        str(parent): _DIRECTORY for path in files for parent in PurePosixPath(path).parents if parent.name
    } | dict(files)
    for number, path in enumerate(sorted(entries), start=1):
        yield from _record(number, path.lstrip("/"), entries[path])
    yield from _record(0, "TRAILER!!!", Entry(0))


def _record(number: int, name: str, entry: Entry) -> Iterator[bytes]:
    encoded = os.fsencode(name) + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    # ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
    fields = (number, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, 0, 0, len(encoded), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    yield header + bytes(-len(header) % 4)
    yield entry.data + bytes(-len(entry.data) % 4)
