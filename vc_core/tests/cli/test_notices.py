"""What virtc says on stderr of a start that succeeded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import MOCK, virtc, virtc_process

from vc_core.cli import notices
from vc_core.supervisor.messages import Started

VIRTC = str(Path(sys.executable).with_name("virtc"))

LOST = "virtc: notice: the agent noop passes neither input nor output of commands\n"


def test_a_command_in_the_foreground_says_that_the_agent_passes_no_streams() -> None:
    virtc("pod", "run", *MOCK, "--id", "p1")
    for words in (("container", "enter", "p1", "1"), ("pod", "enter", "p1")):
        done = virtc(*words, "--", "cat")
        assert (done.stdout, done.stderr, done.returncode) == ("", LOST, 0)


@pytest.mark.slow
def test_a_container_in_the_foreground_says_that_the_agent_passes_no_streams() -> None:
    virtc_process("pod", "run", *MOCK, "--id", "p1")
    virtc_process("container", "stop", "p1", "1")
    for words in (("pod", "run", *MOCK, "-i", "--rm", "--id", "p2"), ("container", "start", "-i", "p1", "1")):
        process = subprocess.Popen([VIRTC, *words], stderr=subprocess.PIPE, encoding="utf-8")
        assert process.stderr is not None
        with process:
            assert process.stderr.readline() == LOST
            process.terminate()
    virtc_process("pod", "delete", "--force", "p1")


def test_a_pod_in_the_foreground_says_only_to_a_terminal_that_it_is_emulated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    notices.of_pod_in_foreground(Started(acceleration="tcg"))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    notices.of_pod_in_foreground(Started(acceleration="tcg"))
    assert "the VM runs under emulation (tcg)" in capsys.readouterr().err
    notices.of_pod_in_foreground(Started(acceleration="kvm"))
    assert capsys.readouterr().err == ""


def test_a_notice_that_cannot_be_written_ends_no_start(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w", encoding="utf-8", buffering=1) as full:
        monkeypatch.setattr(sys, "stderr", full)
        notices.of_pod(Started(acceleration="tcg"))
        monkeypatch.undo()
        with pytest.raises(OSError, match="No space left"):
            full.flush()  # it was written there
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, full.fileno())
        os.close(null)


def test_a_pod_that_the_foreground_leaves_is_named_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    notices.of_left_pod("p1")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    notices.of_left_pod("p1")
    assert "pod p1 runs on; 'virtc pod delete --force p1' deletes it" in capsys.readouterr().err
