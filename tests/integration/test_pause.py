"""Pods with virtual machines that are paused and go on."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import vc_core as vc
from vc_core.testing.slowness import within
from waiting import PATIENCE

from .conftest import container, pod_config, supervisors, virtc, wait_ended

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.hypervisors("qemu")]

#: Seconds that a pod is paused, and what a clock may be off by on a busy machine.
PAUSED, OFF = 1.5, 0.5


@pytest.fixture
def paused(pod: vc.Pod) -> Iterator[vc.Pod]:
    pod.pause()
    yield pod
    if pod.status().state == "paused":
        pod.resume()


def uptime(pod: vc.Pod) -> float:
    return float(pod.enter_container("c1", vc.Cmd(["cat", "/proc/uptime"])).stdout.split()[0])


def test_the_clock_of_a_paused_pod_stands_still(pod: vc.Pod) -> None:
    before, began = uptime(pod), time.monotonic()
    pod.pause()
    assert pod.status().state == "paused"
    threading.Event().wait(PAUSED)  # nothing happens, which is what is looked for
    pod.resume()
    passed_inside, passed = uptime(pod) - before, time.monotonic() - began
    assert passed - passed_inside > PAUSED - OFF


def test_a_command_that_runs_stands_still_and_goes_on(pod: vc.Pod) -> None:
    with pod.container("c1").popen(vc.Cmd(["cat"])) as process:
        assert process.stdin
        assert process.stdout
        pod.pause()
        process.stdin.write(b"line\n")
        with pytest.raises(vc.CommandTimeoutError):
            process.wait(timeout=0.5)
        pod.resume()
        assert process.stdout.readline() == b"line\n"
        process.stdin.close()
        assert process.wait() == 0


@pytest.mark.parametrize(
    "words",
    [
        ("exec", "shared", "true"),
        ("cp", "shared:/etc/passwd", "-"),
        ("pod", "enter", "shared", "--", "true"),
        ("stats", "--no-stream", "shared"),
        ("container", "stop", "shared", "c1"),
    ],
)
def test_commands_on_a_paused_pod_answer_one_sentence_at_once(paused: vc.Pod, words: tuple[str, ...]) -> None:
    with within(5):
        failed = virtc(*words)
    assert failed.returncode in (1, 125)
    assert failed.stderr.startswith(b"virtc: pod 'shared' is paused; ")
    assert failed.stderr.count(b"\n") == 1


def test_a_supervisor_that_is_lost_meanwhile_changes_nothing(bundle: Path) -> None:
    with vc.run_pod(pod_config(containers=[container(bundle)])) as pod:
        pod.pause()
        for pid in supervisors(pod.id):
            os.kill(pid, signal.SIGKILL)
            assert wait_ended(pid)
        assert pod.status().state == "paused"
        codes: list[int] = []
        waiting = threading.Thread(target=lambda: codes.append(pod.container("c1").wait()))
        waiting.start()  # starts a supervisor, which cannot reach the guest
        pod.resume()
        assert pod.enter_container("c1", vc.Cmd(["echo", "there"])).stdout == b"there\n"
        pod.container("c1").kill("SIGKILL")
        waiting.join(timeout=PATIENCE)
        assert codes == [137]


def test_the_guest_of_a_paused_pod_ends_in_order_when_it_is_stopped(bundle: Path, tmp_path: Path) -> None:
    script = "trap 'echo ended >/out/file; exit 0' TERM; echo ready; while :; do sleep 0.1; done"
    mount = vc.Mount(str(tmp_path), "/out", read_only=False)
    config = replace(container(bundle, "sh", "-c", script), mounts=[mount])
    with vc.run_pod(pod_config(containers=[config])) as pod:
        assert next(pod.container("c1").logs(follow=True)).data == b"ready\n"
        pod.pause()
        pod.stop()
        assert (tmp_path / "file").read_text(encoding="utf-8") == "ended\n"
        pod.start()
        pod.pause()
        with within(10):
            assert virtc("pod", "delete", "--force", pod.id).returncode == 0
