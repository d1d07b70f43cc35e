"""The limit of open files (RLIMIT_NOFILE): a supervisor raises its own; the VM and tools that it starts keep theirs.

Programs such as apt close every possible descriptor, which takes long with a high limit, and QEMU needs no high one.
"""

from __future__ import annotations

import resource
from contextlib import suppress

#: The soft and hard limit that this process had before it raised the soft one; None while it has not.
_usual: tuple[int, int] | None = None


def raise_own() -> None:
    """Raise the soft limit of this process to its hard limit. Called when a supervisor starts."""
    global _usual
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):  # a hard limit above the kernel's present maximum: the soft one stays
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            _usual = _usual or (soft, hard)


def restore(pid: int) -> None:
    """Give a child the limit that this process had before it raised its own. Called after the child was started.

    ``pid``: of the child. Raises OSError, ProcessLookupError for one that has ended.
    """
    if _usual is not None:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, _usual)
