"""Records the side effects of a hook (processes, sockets, changes of files) with Python's audit events."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

#: Prefixes of the audit events (docs.python.org, "Audit events table") that count as side effects.
_SIDE_EFFECTS = (
    *("subprocess.", "socket.", "os.posix_spawn", "os.fork", "os.exec", "os.system", "os.kill"),
    *("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown"),
)

#: Flags of open(2) with which opening a file counts too.
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

#: The list to which :func:`_audit_hook` appends, None while nothing is recorded.
_recorder: list[str] | None = None
_hook_added = False


def _audit_hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _recorder is None:
        return
    writes = event == "open" and len(arguments) == 3 and bool((arguments[2] or 0) & _WRITING)
    if (writes or event.startswith(_SIDE_EFFECTS)) and not _importing():
        text = " ".join([event, *(str(argument)[:100] for argument in arguments[:1])])
        if text not in _recorder:
            _recorder.append(text)


def _importing() -> bool:
    """Return whether a module is being imported: a hook may import late, and what an import does is not counted."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


@contextmanager
def record_side_effects() -> Iterator[list[str]]:
    """Yield a list to which each side effect of the block is appended once, as its audit event and first argument.

    The events of all threads are recorded. Blocks cannot be nested.
    """
    global _recorder, _hook_added
    if not _hook_added:
        sys.addaudithook(_audit_hook)  # once per process: Python cannot remove an audit hook
        _hook_added = True
    events: list[str] = []
    _recorder = events
    try:
        yield events
    finally:
        _recorder = None
