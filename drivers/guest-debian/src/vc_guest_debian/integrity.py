"""Checks that only their owner can write the files of the cache, and that they are what was built."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from vc_core.driver import open_regular, read_regular
from vc_core.errors import GuestError

#: The file beside a guest's files that records for which files, and since which boot of the host, their hashes fit.
_VERIFIED = "verified"

#: Most bytes of that record, and of a manifest, that are read.
RECORD_MAX = 1024 * 1024


def require_private(path: Path) -> None:
    """Raise GuestError unless a file or directory is this user's, no other user can write to it, and it is no link.

    Raises OSError when it does not exist or cannot be examined.
    """
    status = path.lstat()
    remedy = "remove it, or set VIRTCONTAINERS_CACHE to another directory"
    if stat.S_ISLNK(status.st_mode):
        raise GuestError(f"{str(path)!r} in the cache of guests is a symbolic link; {remedy}")
    if status.st_uid != os.geteuid():
        raise GuestError(f"{str(path)!r} in the cache of guests belongs to user {status.st_uid}; {remedy}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise GuestError(f"{str(path)!r} in the cache of guests can be written by other users; {remedy}")


def verify(directory: Path, sha256: Mapping[str, str]) -> bool:
    """Return whether files in a directory have these hashes. Blocks. Raises OSError.

    A file that had its hash before is not read again while the host runs and the file's inode, size and times stay.
    """
    before = _identities(directory, sha256)
    if _read(directory / _VERIFIED) == before:
        return True
    if any(hash_of(directory / name) != wanted for name, wanted in sha256.items()):
        return False
    with suppress(OSError):  # of a file system without space: the files are read again the next time
        _write(directory / _VERIFIED, before)
    return True


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits. Blocks. Raises OSError."""
    with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _identities(directory: Path, names: Iterable[str]) -> dict[str, object]:
    """Return what changes when the host boots, or when one of the files is replaced or written to."""
    found: dict[str, object] = {"boot": Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()}
    for name in names:
        status = (directory / name).stat()
        found[name] = [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    return found


def _read(path: Path) -> object:
    try:
        require_private(path)
        return json.loads(read_regular(path, RECORD_MAX))
    except (OSError, GuestError, ValueError):
        return None


def _write(path: Path, found: Mapping[str, object]) -> None:
    """Replace the record; readers see the old or the new one, and several writers write the same."""
    new = path.with_name(f".{_VERIFIED}.{os.getpid()}")
    new.write_text(json.dumps(found), encoding="utf-8")
    new.chmod(0o600)
    new.rename(path)
