"""The connection to a supervisor that a program keeps after a command, for its next one in the pod."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import vc_core as vc
from vc_core.client import containers
from waiting import wait_until

from .conftest import container, pod_config, supervisors

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.hypervisors("qemu")]


def says(pod: vc.Pod, text: str) -> None:
    assert pod.enter_container("c1", vc.Cmd(["echo", text])).stdout == f"{text}\n".encode()


def test_the_next_command_needs_neither_the_record_of_the_pod_nor_a_new_connection(
    pod: vc.Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(pod, "first")
    monkeypatch.delattr(containers, "record_to_enter")
    monkeypatch.delattr(containers, "connect")
    says(pod, "second")
    assert vc.enter_pod(pod.id, vc.Cmd(["false"])).exit_code == 1
    says(pod, "third")


def test_what_a_command_cannot_do_is_the_same_error_on_a_kept_connection(pod: vc.Pod) -> None:
    messages = []
    for _ in range(2):
        with pytest.raises(vc.ContainerNotFoundError) as raised:
            pod.enter_container("none", vc.Cmd(["true"]))
        messages.append(str(raised.value))
        says(pod, "then it is kept")
    assert messages[0] == messages[1]


def test_commands_of_many_threads_get_their_own_output(pod: vc.Pod) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: says(pod, f"number {number}"), range(16)))


def test_a_forked_process_does_not_send_on_the_connection_of_its_parent(pod: vc.Pod) -> None:
    says(pod, "parent")
    if (child := os.fork()) == 0:
        try:
            for number in range(5):
                says(pod, f"child {number}")
            os._exit(0)
        except BaseException:
            os._exit(1)
    for number in range(5):
        says(pod, f"parent {number}")
    assert os.waitpid(child, 0)[1] == 0


def test_a_command_that_is_killed_in_time_does_not_harm_the_next(pod: vc.Pod) -> None:
    says(pod, "first")
    with pytest.raises(vc.CommandTimeoutError):
        pod.enter_container("c1", vc.Cmd(["sleep", "1000"]), timeout=0.3)
    says(pod, "second")


def test_a_command_is_served_by_the_next_supervisor_when_the_last_was_killed(bundle: Path) -> None:
    with vc.run_pod(pod_config(containers=[container(bundle)])) as pod:
        says(pod, "first")
        for pid in supervisors(pod.id):
            os.kill(pid, signal.SIGKILL)
        says(pod, "second")


def test_a_pod_stops_although_a_connection_is_kept_and_its_next_life_has_another(bundle: Path) -> None:
    with vc.run_pod(pod_config(containers=[container(bundle)])) as pod:
        says(pod, "first life")
        pod.stop()
        wait_until(lambda: not supervisors(pod.id))
        with pytest.raises(vc.StateError):
            says(pod, "at rest")
        pod.start()
        says(pod, "second life")
