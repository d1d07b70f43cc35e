"""A guest that accepts a command and never reports its end does not hold the caller against signals."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import msgspec
import pytest

from vc_core.client import foreground
from vc_core.client.foreground import Signals, run_with_streams
from vc_core.client.interpreters import run_blocking
from vc_core.client.link import Link
from vc_core.client.stdio import Stdio
from vc_core.config.container import Cmd
from vc_core.driver.terminal import TerminalSize
from vc_core.errors import CommandTimeoutError
from vc_core.supervisor import wire
from vc_core.supervisor.messages import Answer, Exec, Resize, Started, Streams
from vc_core.testing.slowness import within


class Caller:
    """A client whose supervisor has said that the command runs, unless it has not started, and says nothing more."""

    def __init__(self, started: bool = True) -> None:
        self.client, self.supervisor = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.client.setblocking(False)
        self.signals, self.sender = os.pipe2(os.O_NONBLOCK)
        if started:
            wire.send(self.supervisor, Started(acceleration="", loses_streams=""))

    def run(self, *sent: signal.Signals, timeout: float | None = None, stdout: int = subprocess.DEVNULL) -> int | None:
        stdio = Stdio(None, stdout, subprocess.DEVNULL)
        os.write(self.sender, bytes(sent))
        request = Exec(container="c1", cmd=Cmd(args=["x"]), streams=Streams(passed=stdio.passed))
        try:
            link = Link(self.client, None)
            link.send(request, stdio.fds)
            operation = run_with_streams(link, stdio, "command 'x'", timeout, Signals(self.signals))
            return run_blocking(operation).exit_code
        finally:
            stdio.close()

    def received(self) -> list[int]:
        """Return the numbers of the signals that the supervisor got."""
        self.supervisor.setblocking(False)
        found: list[int] = []
        while True:
            try:
                message = msgspec.json.decode(self.supervisor.recv(65536))
            except BlockingIOError:
                return found
            if "number" in message:
                found.append(message["number"])

    def close(self) -> None:
        self.client.close()
        self.supervisor.close()
        os.close(self.signals)
        os.close(self.sender)


@pytest.fixture
def caller() -> Iterator[Caller]:
    made = Caller()
    yield made
    made.close()


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_has_its_time_to_end_after_a_signal_and_no_more(
    caller: Caller, monkeypatch: pytest.MonkeyPatch, sent: signal.Signals
) -> None:
    monkeypatch.setattr(foreground, "END_TIMEOUT", 0.2)
    began = time.monotonic()
    with pytest.raises(CommandTimeoutError, match=f"the end of the command 0.2 s after {sent.name}; ") as gave_up:
        caller.run(sent)
    assert gave_up.value.exit_code == 128 + sent
    assert time.monotonic() - began >= 0.2
    assert caller.received() == [sent]


def test_three_interrupts_at_once_end_the_wait_without_a_timeout(caller: Caller) -> None:
    with pytest.raises(CommandTimeoutError, match="the end of the command after 3 signals; ") as gave_up:
        caller.run(*[signal.SIGINT] * 3)
    assert gave_up.value.exit_code == 130


@pytest.mark.parametrize("sent", [[signal.SIGINT] * 2, [signal.SIGUSR1] * 5])
def test_fewer_and_other_signals_are_passed_on_and_the_wait_goes_on(
    caller: Caller, monkeypatch: pytest.MonkeyPatch, sent: list[signal.Signals]
) -> None:
    monkeypatch.setattr(foreground, "END_TIMEOUT", 0.0)
    wire.send(caller.supervisor, Answer(exit_code=3))
    assert caller.run(*sent) == 3


def test_a_process_that_continues_after_a_stop_passes_the_size_of_its_terminal_on() -> None:
    controller, terminal = pty.openpty()
    reader, writer = os.pipe2(os.O_NONBLOCK)
    try:
        termios.tcsetwinsize(terminal, (30, 100))
        os.write(writer, bytes([signal.SIGCONT]))
        assert foreground.Signals(reader, terminal).take() == [Resize(size=TerminalSize(30, 100))]
    finally:
        for fd in (controller, terminal, reader, writer):
            os.close(fd)


@pytest.mark.parametrize("started", [True, False])
def test_a_guest_that_does_not_report_the_end_of_a_killed_command_holds_its_caller_no_longer_than_the_timeout(
    monkeypatch: pytest.MonkeyPatch, started: bool
) -> None:
    monkeypatch.setattr(foreground, "KILL_TIMEOUT", 0.1)
    with closing(Caller(started)) as caller:
        with within(5), pytest.raises(CommandTimeoutError, match=r"'x' did not end in 0\.2 s, and the guest does not "):
            caller.run(timeout=0.2)
        assert caller.received() == [signal.SIGKILL]


def test_a_command_that_has_ended_in_time_is_not_late_because_its_output_is_read_late(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreground, "KILL_TIMEOUT", 0.0)
    wire.send(caller.supervisor, Answer(exit_code=3))
    reads = threading.Timer(0.3, caller.supervisor.close)  # with it goes the other end of the pipe that was passed
    reads.start()
    assert caller.run(timeout=0.1, stdout=subprocess.PIPE) == 3
    reads.join()
