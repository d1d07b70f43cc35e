"""The log of a container has every byte once, whatever happens to the supervisor meanwhile."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

import vc_core as vc
from waiting import PATIENCE

from .conftest import container, pod_config, supervisors, virtc

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.hypervisors("qemu", "uml")]

_LINES = 1_000_000


@pytest.mark.promise("T12")
def test_no_byte_is_lost_or_repeated_when_supervisors_die(bundle: Path) -> None:
    with vc.run_pod(pod_config(id="logged", containers=[container(bundle, "seq", str(_LINES))])) as pod:
        log = Path(pod.status().containers[0].log_path)
        for part in (1, 6, 12, 18):
            end = time.monotonic() + PATIENCE
            while log.stat().st_size < part * 150_000 and time.monotonic() < end:
                os.sched_yield()
            for pid in supervisors("logged"):
                os.kill(pid, signal.SIGKILL)
            pod.enter(vc.Cmd(args=["true"]))
        assert pod.container("c1").wait() == 0
        lines = log.read_text(encoding="utf-8").splitlines()
    assert lines == [str(number) for number in range(1, _LINES + 1)]


def test_a_follower_gets_each_line_once_when_the_supervisor_dies_and_ends_with_the_container(bundle: Path) -> None:
    script = "for i in $(seq 20); do echo $i; echo $i >&2; usleep 50000; done"
    with vc.run_pod(pod_config(id="followed", containers=[container(bundle, "sh", "-c", script)])) as pod:
        found: dict[str, list[int]] = {"stdout": [], "stderr": []}
        for line in pod.container("c1").logs(follow=True):
            found[line.stream].append(int(line.data))
            if line.stream == "stderr" and found["stderr"][-1] in (5, 10):
                for pid in supervisors("followed"):
                    os.kill(pid, signal.SIGKILL)
        assert found == {stream: list(range(1, 21)) for stream in ("stdout", "stderr")}
        assert pod.container("c1").status().state is vc.State.STOPPED


def test_a_container_in_the_foreground_has_a_log_as_well(bundle: Path) -> None:
    script = "echo out; echo err >&2; cat"
    run = ("pod", "run", "-i", "-q", "--id", "front", "--bundle", str(bundle), "--", "sh", "-c", script)
    done = virtc(*run, stdin=b"in")
    assert (done.returncode, done.stdout) == (0, b"out\nin")
    with vc.Pod("front"):
        shown = virtc("logs", "front")
        assert (shown.stdout, shown.stderr) == (b"out\nin", b"err\n")
        last = virtc("logs", "--stdout", "--tail", "1", "front/1")
        assert (last.stdout, last.stderr) == (b"in", b"")
