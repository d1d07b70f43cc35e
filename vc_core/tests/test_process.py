"""Nobody but the very process that is meant is ever signalled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from vc_core import process
from vc_core.process import ProcessIdentity


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"]) as child:
        yield child
        child.kill()


def identity(child: subprocess.Popen[bytes]) -> ProcessIdentity:
    found = ProcessIdentity.of(child.pid)
    assert found is not None
    return found


def test_an_identity_survives_json(sleeper: subprocess.Popen[bytes]):
    one = identity(sleeper)
    assert ProcessIdentity.from_mapping(one.to_mapping()) == one
    assert one.alive()


@pytest.mark.parametrize("change", [{"start_time": 1}, {"boot_id": "another"}, {"pid": 1}, {"pid": 0}, {"pid": -1}])
def test_a_pid_that_belongs_to_somebody_else_is_never_signalled(
    sleeper: subprocess.Popen[bytes], change: dict[str, object], monkeypatch: pytest.MonkeyPatch
):
    sent: list[object] = []
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda *what: sent.append(what))
    other = replace(identity(sleeper), **change)  # type: ignore[arg-type] # fields by name
    assert not other.alive()
    try:
        assert not other.send(signal.SIGKILL)
    except (OSError, ValueError):
        assert change["pid"] in (0, -1)  # the kernel's own refusal
    assert sent == []
    assert sleeper.poll() is None


def test_a_zombie_is_dead(sleeper: subprocess.Popen[bytes]):
    one = identity(sleeper)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert not one.alive()
    assert one.wait(0)


def test_a_process_whose_first_thread_ended_lives_until_all_did():
    script = (
        "import ctypes, threading, sys, time\n"
        "threading.Thread(target=lambda: (sys.stdin.read(), None)).start()\n"
        "print('up', flush=True); ctypes.CDLL(None).pthread_exit(None)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        one = identity(child)
        assert child.stdout is not None
        child.stdout.readline()
        while Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            pass
        assert not one.wait(0)
        assert one.kill(10)
        assert one.wait(0)


def test_a_process_is_found_by_its_directory_and_a_word_of_its_arguments(tmp_path: Path):
    with subprocess.Popen(["sleep", "1000"], cwd=tmp_path) as child:
        assert [one.pid for one in process.find_in_directory(tmp_path, "1000")] == [child.pid]
        assert process.find_in_directory(tmp_path, "2000") == []
        assert process.find_in_directory(tmp_path.parent, "1000") == []
        child.kill()
