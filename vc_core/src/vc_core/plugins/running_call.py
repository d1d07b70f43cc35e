"""Records which plug-in's code a process is executing, so that another process can name it when this one ended in it.

A supervisor records its calls in a file in the pod's run directory: what was written last is there after ``os._exit``,
a crash, or SIGKILL. It is written with pwrite(2) and not through a mapping, whose writer a full disk would kill.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from vc_core.driver.files import open_regular
from vc_core.driver.kinds import PluginKind
from vc_core.frozen import frozen

#: Name of the file in the pod's run directory.
FILE_NAME = "supervisor.call"

#: Bytes of the file: one line, padded with blanks so that each replaces the one before.
_SIZE = 512


@frozen
class Call:
    """An execution of a plug-in's code: of the hook or method ``method``, or, if that is "", of its modules.

    ``plugin`` names it with its distribution, for an error. The text of this object is a clause.
    """

    kind: PluginKind
    name: str
    plugin: str
    method: str

    def __str__(self) -> str:
        return f"{self.plugin} executed {self.method}" if self.method else f"{self.plugin} was loaded"


_lock = threading.Lock()
#: The calls that are being executed, each with the identifier of its thread.
_executing: list[tuple[int, Call]] = []
_latest: Call | None = None
_file: int | None = None


@contextmanager
def record_in(run_dir: Path) -> Iterator[None]:
    """Within the block, record the calls of this process in the run directory of its pod. Called by a supervisor.

    The file is a new one, so that a client of a former supervisor reads what that one executed. A file that cannot be
    made is done without.
    """
    global _file
    path = run_dir / FILE_NAME
    with suppress(OSError):
        path.unlink(missing_ok=True)
        _file = open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        yield
    finally:
        with _lock:
            file, _file = _file, None
        if file is not None:
            os.close(file)


class Executing:
    """Records within a block that a plug-in's code is being executed in this thread.

    Of the blocks that several threads are in, the one that was entered last is recorded. A command in a pod enters some
    ten of them, so this is no generator.
    """

    __slots__ = ("_entry",)

    def __init__(self, call: Call) -> None:
        self._entry = threading.get_ident(), call

    def __enter__(self) -> None:
        global _latest
        with _lock:
            _executing.append(self._entry)
            _latest = self._entry[1]
            _write()

    def __exit__(self, *_: object) -> None:
        with _lock:
            _executing.remove(self._entry)
            _write()


def of_thread(thread: int) -> Call | None:
    """Return the call that a thread of this process is executing, the innermost one; None if it executes none."""
    with _lock:
        return next((call for one, call in reversed(_executing) if one == thread), None)


def latest() -> Call | None:
    """Return the call that this process began last, whether it has ended or not."""
    return _latest


def beat() -> None:
    """Note in the record, as its time of change, that this process executes Python. Called by the watchdog."""
    with _lock, suppress(OSError):
        if _file is not None:
            os.utime(_file)


def _write() -> None:
    if _file is None:
        return
    with suppress(OSError):
        os.pwrite(_file, _line(_executing[-1][1] if _executing else None), 0)


@lru_cache(256)
def _line(call: Call | None) -> bytes:
    return str(call or "").encode(errors="replace")[:_SIZE].ljust(_SIZE)


def open_record(run_dir: int) -> int | None:
    """Return a descriptor of the record of the supervisor whose run directory is open as ``run_dir``; None for none.

    The caller reads it with :func:`read`, and closes it.
    """
    try:
        return open_regular(FILE_NAME, os.O_RDONLY, dir_fd=run_dir)
    except OSError:
        return None


def read(record: int) -> str:
    """Return the call that a supervisor is executing, or ended in, as a clause; "" if it executes its own code."""
    try:
        return os.pread(record, _SIZE, 0).decode(errors="replace").strip()
    except OSError:
        return ""


def last_beat(record: int) -> int:
    """Return when a supervisor last showed that it executes Python, in ns; see :func:`beat`."""
    return os.fstat(record).st_mtime_ns
