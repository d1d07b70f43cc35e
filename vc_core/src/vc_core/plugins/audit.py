"""Records what a hook does besides computing, by Python's audit events."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

#: Audit events (docs.python.org, "Audit events table") of what a hook must not do, by their beginnings.
_FORBIDDEN = (
    *("subprocess.", "socket.", "os.posix_spawn", "os.fork", "os.exec", "os.system", "os.kill"),
    *("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown"),
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


# What hooks do behind the core's back.

_heard: list[str] | None = None
_hearing = False


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _heard is None:
        return
    writes = event == "open" and len(arguments) == 3 and bool((arguments[2] or 0) & _WRITING)
    if (writes or event.startswith(_FORBIDDEN)) and not _importing():
        text = " ".join([event, *(str(argument)[:100] for argument in arguments[:1])])
        if text not in _heard:
            _heard.append(text)


def _importing() -> bool:
    """Tell whether this happens because a module is imported, which some do late and which may do anything."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


@contextmanager
def heard() -> Iterator[list[str]]:
    """Give a list that fills with what the block does beyond computing: processes, sockets, changes of files."""
    global _heard, _hearing
    if not _hearing:
        sys.addaudithook(_hear)  # for good: Python has no way to take one out
        _hearing = True
    events: list[str] = []
    _heard = events
    try:
        yield events
    finally:
        _heard = None
