"""Measures quicksand. ``peers`` runs this module in an environment in which quicksand is installed."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from quicksand_core import Sandbox

from benchmarks.peer import MEMORY, Figures, measure
from benchmarks.proc import descendants


class _Vm:
    def __init__(self, runner: asyncio.Runner, sandbox: Sandbox) -> None:
        self._runner = runner
        self._sandbox = sandbox

    def run_true(self) -> None:
        """Run a command by the guest's shell, the only way that quicksand has."""
        assert self._runner.run(self._sandbox.execute("true")).exit_code == 0


@contextmanager
def _start() -> Iterator[_Vm]:
    """Start a sandbox; ``accel=None`` is emulation, as for all others."""
    with asyncio.Runner() as runner:
        sandbox = Sandbox(image="alpine", memory=f"{MEMORY}M", cpus=1, accel=None)
        runner.run(sandbox.start())
        try:
            yield _Vm(runner, sandbox)
        finally:
            runner.run(sandbox.stop())


def _measured() -> Figures:
    return measure(_start, lambda: descendants(os.getpid()), rounds=1)


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # that emulation is slow
    json.dump(asdict(_measured()), sys.stdout)
