"""The same measurements of anybody's virtual machines. Uses nothing of this project: a peer's environment runs it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Protocol

from benchmarks.proc import memory

#: MiB of each VM. It has one CPU.
MEMORY = 256
TOGETHER = 4
_EXECS = 50


class Vm(Protocol):
    """A virtual machine that runs."""

    def run_true(self) -> object:
        """Run the command ``true`` in it; return when it has ended."""


@dataclass(frozen=True)
class Figures:
    """Seconds of a start, of a command and of starts at once, each until a command has ended; MiB of each VM."""

    start: float
    execute: float
    together: float
    memory: float


def measure(start: Callable[[], AbstractContextManager[Vm]], pids: Callable[[], list[int]], rounds: int) -> Figures:
    """Measure VMs that ``start`` starts; ``pids`` returns all processes of those that run."""
    starts = []
    for _ in range(rounds):
        began = time.monotonic()
        with start() as vm:
            vm.run_true()
            starts.append(time.monotonic() - began)
            commands = [_seconds(vm.run_true) for _ in range(_EXECS)]
    with ExitStack() as running, ThreadPoolExecutor(TOGETHER) as threads:

        def one(_: int) -> None:
            running.enter_context(start()).run_true()

        together = _seconds(lambda: list(threads.map(one, range(TOGETHER))))
        used = sum(map(memory, pids())) / TOGETHER
    return Figures(statistics.median(starts), statistics.median(commands), together, used)


def _seconds(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began
