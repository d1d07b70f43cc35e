"""Writes what the processes of a pod do, and when, to a file that Perfetto shows (ui.perfetto.dev).

The format is the Trace Event Format of Chromium, as an array of JSON objects; its closing bracket may be missing.
Every process appends whole lines to one file, whose name it gets from the environment. Times are those of
CLOCK_MONOTONIC, which all processes of a host share.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: The variable of the environment with the absolute path of the file; without it nothing is written.
VARIABLE = "VIRTCONTAINERS_TRACE"

#: Numbers of the rows for tasks of an event loop begin here; below are numbers of threads.
_TASKS = 1 << 32

#: Numbers of guests begin here; below are those of processes (PID_MAX_LIMIT of Linux).
_GUESTS = 1 << 22

_file: int | None = None


def create(path: Path) -> None:
    """Make an empty trace, which this process, and those that it starts, write to.

    A regular file that is there is emptied. Raises OSError, also for a pipe or a device.
    """
    global _file
    stop()
    flags = os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    file = os.open(path, os.O_RDWR | flags, 0o600)  # for writing alone, a pipe could not be opened and named as such
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    _file = file
    os.truncate(_file, 0)
    os.write(_file, b"[\n")
    os.environ[VARIABLE] = str(path.resolve())


def join(process: str) -> None:
    """Write to the trace that the environment names, if any, as a process of this name; first, how long it started.

    Called once, early, by each kind of process.
    """
    global _file
    if _file is None and (path := os.environ.get(VARIABLE)):
        with suppress(OSError):
            _file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if _file is not None:
        _write({"name": "process_name", "ph": "M", "pid": os.getpid(), "tid": 0, "args": {"name": process}})
        add("start of the interpreter, imports", _process_start())


def stop() -> None:
    """Write no more from this process."""
    global _file
    if _file is not None:
        os.close(_file)
        _file = None


@contextmanager
def span(name: str) -> Iterator[None]:
    """Within the block, this process does what ``name`` says."""
    if _file is None:
        yield
        return
    began = time.monotonic_ns()
    try:
        yield
    finally:
        add(name, began)


def add(name: str, began: int) -> None:
    """Add a span that began at ``began``, in ns of CLOCK_MONOTONIC, and ends now."""
    if _file is not None:
        begin, length = began / 1000, (time.monotonic_ns() - began) / 1000  # microseconds, as the format wants
        _write({"name": name, "ph": "X", "ts": begin, "dur": length, "pid": os.getpid(), "tid": _row()})


def traced() -> bool:
    """Return whether this process writes a trace. Called by drivers before they ask a guest what it did."""
    return _file is not None


def trace_guest(pod_id: str, phases: Iterable[tuple[str, int, int]]) -> None:
    """Add what the guest of a pod did: names, each with begin and end in ns of this host's CLOCK_MONOTONIC.

    Called by drivers of agents. The guest is shown as a process of its own.
    """
    if _file is None:
        return
    process = _GUESTS + os.getpid()
    _write({"name": "process_name", "ph": "M", "pid": process, "tid": 0, "args": {"name": f"guest of pod {pod_id}"}})
    for name, begin, end in phases:
        length = max(0, end - begin) / 1000
        _write({"name": name, "ph": "X", "ts": begin / 1000, "dur": length, "pid": process, "tid": 1})


def _row() -> int:
    """Return the number of the row: spans of one row enclose each other, so each task has one of its own."""
    task = None
    if asyncio := sys.modules.get("asyncio"):
        with suppress(RuntimeError, AttributeError):  # no event loop runs in this thread, or another one loads asyncio
            task = asyncio.current_task()
    return threading.get_native_id() if task is None else _TASKS + id(task) % _TASKS


def _process_start() -> int:
    """Return when this process was started, in ns of CLOCK_MONOTONIC, exact to a tick of 10 ms (proc(5), stat)."""
    ticks = int(Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()[19])
    suspended = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
    return ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK") - suspended


def _write(event: dict[str, object]) -> None:
    assert _file is not None
    import json  # here, because few processes are traced

    with suppress(OSError):
        os.write(_file, json.dumps(event).encode() + b",\n")
