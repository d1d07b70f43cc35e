"""What stands by to remove a pod removes it only if virtc made it and ended before it could."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest
from commands import MOCK, virtc_process

import vc_core as vc
from vc_core.cli.removal import Removal
from waiting import PATIENCE, wait_until


@pytest.fixture
def pod(mock_config: Callable[..., vc.PodConfig]) -> vc.Pod:
    return vc.create_pod(mock_config())


def stand_by(end: Callable[[Removal], None]) -> None:
    """Let a process stand by, and wait until it has ended as ``end`` makes it."""
    removal = Removal("p1", "c1")
    end(removal)
    deadline = time.monotonic() + PATIENCE
    while os.waitpid(removal._pid, os.WNOHANG) == (0, 0):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def made(removal: Removal) -> None:
    removal.created()
    removal.leave()


def test_a_pod_that_virtc_made_is_removed_when_virtc_has_ended(pod: vc.Pod) -> None:
    stand_by(made)
    assert vc.list_pods() == []


@pytest.mark.slow
def test_a_pod_that_runs_in_the_background_is_removed_when_its_container_has_ended() -> None:
    done = virtc_process("pod", "run", *MOCK, "--rm", "--id", "p1", "--", "sleep", "1000")
    assert (done.returncode, done.stdout) == (0, "Created pod p1\n")
    vc.kill_container("p1", "1")
    wait_until(lambda: not vc.list_pods())


def test_a_pod_of_the_same_id_that_virtc_did_not_make_stays(pod: vc.Pod) -> None:
    stand_by(Removal.leave)
    assert [one.id for one in vc.list_pods()] == ["p1"]


def test_nothing_is_removed_by_another_process_once_virtc_has_done_it(pod: vc.Pod) -> None:
    removal = Removal("p1", "c1")
    removal.created()
    removal.done()
    assert [one.id for one in vc.list_pods()] == ["p1"]
