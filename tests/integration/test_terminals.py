"""Commands on a terminal: the caller's, seen through virtc."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import vc_core as vc
from waiting import PATIENCE

from .conftest import container, pod_config, virtc_path

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.hypervisors("qemu", "uml")]


class Terminal:
    """A terminal that a test types on and reads from, with virtc as its foreground program."""

    def __init__(self, *arguments: str, rows: int = 30, columns: int = 100) -> None:
        self._screen, self.line = pty.openpty()
        self.output = b""
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.line)
        self.client = subprocess.Popen(
            [virtc_path(), *arguments], stdin=self.line, stdout=self.line, stderr=self.line, start_new_session=True
        )

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._screen, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self._screen, text.encode())

    def expect(self, text: str, timeout: float = PATIENCE) -> None:
        end = time.monotonic() + timeout
        while text.encode() not in self.output:
            ready, _, _ = select.select([self._screen], [], [], max(0, end - time.monotonic()))
            assert ready, f"{text!r} was not printed, but {self.output!r}"
            self.output += os.read(self._screen, 4096)
        self.output = self.output.split(text.encode(), 1)[1]

    def close(self) -> None:
        self.client.kill()
        self.client.wait()
        os.close(self._screen)
        os.close(self.line)


@pytest.fixture
def shell(pod: vc.Pod) -> Iterator[Terminal]:
    terminal = Terminal("container", "enter", "-t", "shared", "c1", "--", "sh")
    terminal.expect("# ")
    yield terminal
    terminal.close()


def test_a_program_sees_the_callers_size_from_its_first_moment(pod: vc.Pod) -> None:
    for _ in range(5):
        terminal = Terminal("container", "enter", "-t", pod.id, "c1", "--", "stty", "size", rows=21, columns=77)
        try:
            terminal.expect("21 77\r\n")
        finally:
            terminal.close()


def test_the_size_is_the_callers_and_follows_it(shell: Terminal) -> None:
    shell.type("stty size\n")
    shell.expect("30 100")
    shell.resize(40, 120)
    shell.client.send_signal(signal.SIGWINCH)  # what the kernel sends to the foreground of a real terminal
    shell.type("while [ \"$(stty size)\" != '40 120' ]; do usleep 10000; done; echo re''sized\n")
    shell.expect("resized\r\n")


def test_ctrl_c_interrupts_the_program_and_not_virtc(shell: Terminal) -> None:
    shell.type("sh -c \"echo sl''eeping; exec sleep 1000\"\n")
    shell.expect("sleeping\r\n")
    shell.type("\x03")
    shell.type("echo st''ill here\n")
    shell.expect("still here\r\n")


def test_the_end_of_the_shell_is_the_end_of_virtc_with_its_exit_code(shell: Terminal) -> None:
    shell.type("exit 5\n")
    assert shell.client.wait(PATIENCE) == 5


def test_the_terminal_is_what_it_was_afterwards(shell: Terminal) -> None:
    assert termios.tcgetattr(shell.line) != shell.before, "raw while the shell runs"
    shell.type("exit\n")
    shell.client.wait(PATIENCE)
    assert termios.tcgetattr(shell.line) == shell.before


@pytest.mark.promise("T30")
def test_the_terminal_is_restored_when_virtc_is_terminated(pod: vc.Pod) -> None:
    terminal = Terminal("container", "enter", "-t", "shared", "c1", "--", "sleep", "1000")
    end = time.monotonic() + PATIENCE
    while termios.tcgetattr(terminal.line) == terminal.before:
        assert time.monotonic() < end
        select.select([], [], [], 0.02)
    terminal.client.terminate()
    assert terminal.client.wait(PATIENCE) == 128 + signal.SIGTERM
    assert termios.tcgetattr(terminal.line) == terminal.before
    terminal.close()


def test_there_is_a_terminal_only_where_one_is_asked_for(pod: vc.Pod) -> None:
    assert pod.enter_container("c1", vc.Cmd(args=["sh", "-c", "[ -t 0 ] || echo none"])).stdout == b"none\n"


def test_a_container_runs_on_the_console_of_the_caller(bundle: Path) -> None:
    screen, line = pty.openpty()
    one = vc.ContainerConfig(
        id="c1", root_fs=str(bundle), interactive=True, console=os.ttyname(line), cmd=container(bundle, "sh").cmd
    )
    with vc.run_pod(pod_config(containers=[one])) as pod:
        os.write(screen, b"echo on''console\n")
        output = b""
        while b"onconsole\r\n" not in output:
            assert select.select([screen], [], [], PATIENCE)[0], output
            output += os.read(screen, 4096)
        os.write(screen, b"exit 3\n")
        assert pod.container("c1").wait() == 3
    os.close(screen)
    os.close(line)
