"""A process in which a plug-in may hang is given up after its timeout, but not because the host is busy."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vc_core.plugins import isolation
from vc_core.plugins.isolation import communicate
from waiting import PATIENCE


@contextmanager
def running(script: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sh", "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def test_one_that_hangs_is_given_up_with_what_it_wrote() -> None:
    with running("echo first; exec sleep 1000") as process:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], PATIENCE)[0]
        with pytest.raises(subprocess.TimeoutExpired) as given_up:
            communicate(process, 0.05)
        assert given_up.value.output == b"first\n"


def test_one_that_waits_for_a_processor_has_more_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    looked = []

    def waited(pid: int) -> float:
        looked.append(pid)
        if len(looked) == 1:
            return 0.0
        (tmp_path / "go").touch()  # its timeout is over
        return 1000.0

    monkeypatch.setattr(isolation, "_waited", waited)
    monkeypatch.setattr(isolation, "_BUSY", 1000)
    with running(f"until [ -e {tmp_path}/go ]; do sleep 0.02; done; echo late") as process:
        assert communicate(process, 0.1) == b"late\n"


def test_one_that_waits_for_ever_is_given_up_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "_waited", lambda pid: 1000.0)
    with running("exec sleep 1000") as process, pytest.raises(subprocess.TimeoutExpired):
        communicate(process, 0.05)


def test_the_time_for_which_a_process_waits_for_a_processor_is_seen() -> None:
    one = min(os.sched_getaffinity(0))
    busy = f"taskset -c -p {one} $$ >/dev/null; while :; do :; done"
    with running(busy) as process, running(busy):
        end = time.monotonic() + PATIENCE
        while isolation._waited(process.pid) < 0.05:
            assert time.monotonic() < end
            time.sleep(0.01)
    assert isolation._waited(process.pid) == 0.0  # it has ended
