"""Executes plug-ins in processes of their own, so that one that hangs, exits or crashes disturbs no other.

The process is ``python -m MODULE LIFELINE ARGUMENT...``; its module calls :func:`end_with_starter` first. What it finds
it prints line by line, so that the lines before its end are not lost.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO, TypeVar

from vc_core.errors import VCError

#: The command of fcntl(2) that selects the signal for input (``asm-generic/fcntl.h``); Python does not name it.
_F_SETSIG = 10

#: How many times its timeout a process has on a host that is so busy that it waits for a processor.
_BUSY = 8

_T = TypeVar("_T")
_R = TypeVar("_R")


def in_parallel(work: Callable[[_T, int], _R], items: Iterable[_T]) -> list[_R]:
    """Return the result of ``work`` for each item and a lifeline for :func:`run_isolated`, in the order of the items.

    A signal ends this, too: then the processes are killed, and the threads that wait for them end.
    """
    lifeline, end = os.pipe()
    pool = ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 1))
    try:
        return list(pool.map(lambda item: work(item, lifeline), items))
    finally:
        os.close(end)
        pool.shutdown(cancel_futures=True)
        os.close(lifeline)


def run_isolated(
    module: str, arguments: Sequence[str], timeout: float, lifeline: int, environment: Mapping[str, str] | None = None
) -> tuple[list[str], bool]:
    """Run a module in a process; return the lines that it printed, and whether it ended within ``timeout`` seconds.

    It is killed after that time, of which :func:`communicate` leaves out some, and when the last end of the pipe
    ``lifeline`` for writing is closed. ``environment``: that of the process, by default of this one. Raises VCError
    when Python cannot be started.
    """
    try:
        started = subprocess.Popen(
            [sys.executable, "-P", "-m", module, str(lifeline), *arguments],
            pass_fds=[lifeline],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            process_group=0,  # so that the processes that a driver starts are killed with it
            env=environment,
        )
    except OSError as error:
        raise VCError(f"{sys.executable!r}, which runs this, cannot be started again: {error.strerror}") from error
    with started as process:
        in_time = True
        try:
            output = communicate(process, timeout)
        except subprocess.TimeoutExpired as error:
            in_time, output = False, error.output or b""
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return output.decode(errors="replace").splitlines(), in_time


def communicate(process: subprocess.Popen[bytes], timeout: float) -> bytes:
    """Return what a process wrote to the pipe of its standard output, after its end; nothing without such a pipe.

    Called for processes in which a plug-in may hang. ``timeout``: in seconds. Those in which the process waited for a
    processor do not count, up to :data:`_BUSY` times as many: on a busy host it does not hang, but is slow to start.
    Raises subprocess.TimeoutExpired.
    """
    began = time.monotonic()
    while True:
        left = min(timeout + _waited(process.pid), _BUSY * timeout) - (time.monotonic() - began)
        try:
            return process.communicate(timeout=max(0.0, left))[0] or b""
        except subprocess.TimeoutExpired:
            if left <= 0:
                raise


def _waited(pid: int) -> float:
    """Return for how many seconds the threads of a process have waited for a processor (proc(5), ``schedstat``).

    0 for one that has ended, and for a kernel that does not show it.
    """
    with suppress(OSError):
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text(encoding="utf-8").split()[1]) for task in tasks) / 1e9
    return 0.0


def how_it_ended(in_time: bool, timeout: float) -> str:
    """Return what a plug-in does whose process did not print all, for a sentence whose subject is the plug-in."""
    return "ends the process" if in_time else f"hangs ({timeout:g} s)"


def end_with_starter(lifeline: int) -> None:
    """Let the kernel kill this process group when no process has the other end of the pipe ``lifeline`` any more.

    The starter has it: it ended, whatever ended it. A signal for input (fcntl(2), F_SETSIG) needs neither a thread nor
    Python's lock, which a plug-in may hold; and the processes that the plug-in started get it, too.
    """
    # Opened anew: who gets the signal is a property of the open file, which all processes that check share.
    fd = os.open(f"/proc/self/fd/{lifeline}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.close(lifeline)
    fcntl.fcntl(fd, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(fd, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    poll = select.poll()
    poll.register(fd, 0)
    if poll.poll(0):  # it ended before
        os.killpg(0, signal.SIGKILL)


@contextmanager
def own_output() -> Iterator[TextIO]:
    """Yield this process' standard output; what a driver prints goes to standard error, so as not to mix with it."""
    stdout = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(stdout, "w", encoding="utf-8") as out:
        yield out
