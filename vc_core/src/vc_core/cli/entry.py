"""Where virtc begins: what must be so before any other module of it is imported."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from contextlib import suppress

#: Objects that are made before Python's collector looks for garbage among them. Most of what a command makes, such as
#: modules, stays until its end: with Python's own value, 700, it would be searched again and again.
_COLLECT_AFTER = 100_000


def main() -> None:
    """Run the command line of this process; the entry point of ``virtc``."""
    _open_standard_descriptors()
    gc.set_threshold(_COLLECT_AFTER)
    atexit.register(gc.freeze)  # the interpreter, as it ends, need not search for garbage what ends with it
    # Before the command runs there is nothing to undo: SIGINT ends the process at once, and no traceback is printed.
    interruptible = signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    if interruptible:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from vc_core.cli import early

    early.begin(sys.argv[1:])
    from vc_core.cli.main import run

    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # else nohup has it ignored
        signal.signal(signal.SIGHUP, _terminate)
    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    code = run(sys.argv[1:])
    with suppress(KeyboardInterrupt):
        _notify_extensions()
    if interruptible:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # nor is there afterwards, while the interpreter ends
    sys.exit(code)


def _notify_extensions() -> None:
    """Wait until extensions were notified of all that this command did, if it did something.

    Without this that would be done while the interpreter ends, when an extension can start no thread any more.
    """
    if (registry := sys.modules.get("vc_core.plugins.registry")) is not None:
        registry.QUEUE.drain(registry.DRAIN_TIMEOUT)


def _terminate(signum: int, frame: object) -> None:
    raise SystemExit(128 + signum)


def _open_standard_descriptors() -> None:
    """Open the null device in the place of a closed standard descriptor, whose number another file would get."""
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
            os.set_inheritable(fd, True)
            stream = open(fd, "w" if fd else "r", encoding="utf-8", closefd=False)  # noqa: SIM115 - as long as virtc
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
