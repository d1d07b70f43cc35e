"""Keeps the programs of seccomp profiles below ``--root``: compiling one takes longer than most that ``create`` does.

Engines give nearly all containers one profile. A program is in a file with all that it was made of, which must be
equal, and with a sum that a damaged file does not have. What cannot be read or written is compiled.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from zlib import crc32

import msgspec

from vc_runtime import seccomp, spec

#: The directory of the files; no id of a container has a colon.
_NAME = ":seccomp"

#: Programs that are kept.
_MOST = 16


def program(root: Path, profile: spec.Seccomp | None, notes: list[str]) -> bytes:
    """Return the program of a profile, as :func:`seccomp.program` does, from the files below the directory ``root``."""
    if profile is None:
        return b""
    made_of = f"{os.uname().machine} libseccomp {seccomp.version()} ".encode() + msgspec.json.encode(profile)
    path = root / _NAME / f"{crc32(made_of):08x}"
    kept = _read(path, made_of)
    if kept is None:
        kept = seccomp.program(profile, notes)
        if kept:
            _write(path, made_of, kept)
    return kept


def _content(made_of: bytes, program: bytes) -> bytes:
    whole = b"%d %s%s" % (len(made_of), made_of, program)
    return b"%08x %s" % (crc32(whole), whole)


def _read(path: Path, made_of: bytes) -> bytes | None:
    """Return the program in a file, None unless it is whole, made of the same, and this user alone could write it."""
    try:
        if not _is_own(path.parent.parent.lstat()) or not _is_own(path.parent.lstat()):
            return None
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(fd, "rb") as file:
            content = file.read() if _is_own(os.fstat(fd)) else b""
    except OSError:
        return None
    program = content[len(_content(made_of, b"")) :]
    return program if program and content == _content(made_of, program) else None


def _write(path: Path, made_of: bytes, program: bytes) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        kept = [one for one in path.parent.iterdir() if one != path]
        for one in kept if len(kept) >= _MOST else ():
            one.unlink()
        try:
            fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(_content(made_of, program))
            fresh.replace(path)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise


def _is_own(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
