"""The modes of the terminal are restored, whatever ends the process that made it raw."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from waiting import PATIENCE

#: Makes its terminal raw, says so, and waits for a line; then it restores the modes.
PROGRAM = """
import os
from vc_core.cli.raw_terminal import RawTerminal

terminal = RawTerminal()
terminal.begin()
os.write(1, b"raw")
os.read(0, 1)
terminal.restore()
terminal.restore()
os.write(1, b"restored")
"""


class Raw:
    """A process that has made its terminal raw. ``former``: the modes before."""

    def __init__(self) -> None:
        self.controller, self.terminal = pty.openpty()
        self.former = termios.tcgetattr(self.terminal)
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], stdin=self.terminal, stdout=subprocess.PIPE, bufsize=0
        )
        assert self.process.stdout is not None
        assert self.process.stdout.read(3) == b"raw"
        self.raw = self.modes()
        [guard] = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii").split()
        self._guard = os.pidfd_open(int(guard))

    def wait_for_guard(self) -> None:
        ended, _, _ = select.select([self._guard], [], [], PATIENCE)
        assert ended

    def modes(self) -> list[Any]:
        return termios.tcgetattr(self.terminal)

    def wait_for(self, wanted: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not wanted():
            assert time.monotonic() < deadline, self.modes()
            os.sched_yield()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.wait_for_guard()
        os.close(self._guard)
        os.close(self.controller)
        os.close(self.terminal)


@pytest.fixture
def raw() -> Iterator[Raw]:
    made = Raw()
    yield made
    made.close()


def test_the_modes_are_restored_when_the_process_ends_by_itself(raw: Raw) -> None:
    assert raw.raw != raw.former
    os.write(raw.controller, b"x")
    assert raw.process.wait(PATIENCE) == 0
    assert raw.modes() == raw.former


def test_the_modes_are_restored_when_the_process_is_killed(raw: Raw) -> None:
    raw.process.kill()
    raw.wait_for_guard()
    assert raw.modes() == raw.former


def test_modes_that_somebody_else_has_set_meanwhile_are_left_alone_when_the_process_is_killed(raw: Raw) -> None:
    raw.process.send_signal(signal.SIGSTOP)
    others = raw.former[:]
    others[3] &= ~termios.ECHO
    termios.tcsetattr(raw.terminal, termios.TCSANOW, others)
    raw.process.kill()
    raw.wait_for_guard()
    assert raw.modes() == others


def test_the_terminal_is_raw_again_when_the_process_continues_after_a_stop(raw: Raw) -> None:
    raw.process.send_signal(signal.SIGSTOP)
    raw.wait_for(lambda: os.waitid(os.P_PID, raw.process.pid, os.WSTOPPED | os.WNOWAIT | os.WNOHANG) is not None)
    termios.tcsetattr(raw.terminal, termios.TCSANOW, raw.former)  # as shells do
    raw.process.send_signal(signal.SIGCONT)
    raw.wait_for(lambda: raw.modes() == raw.raw)
