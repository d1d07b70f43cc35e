"""Operations on all containers of a pod and on several pods, with drivers that need no virtual machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from commands import MOCK, virtc

import vc_core as vc
from vc_core.client import lifecycle, queries
from vc_core.client.interpreters import Operation
from vc_core.errors import StateError
from waiting import PATIENCE

MakeConfig = Callable[..., vc.PodConfig]


def run(mock_config: MakeConfig, *pod_ids: str) -> list[vc.Pod]:
    return [vc.run_pod(mock_config().with_id(pod_id)) for pod_id in pod_ids]


def states() -> dict[str, str]:
    return {one.id: str(one.state) for one in vc.list_pods()}


def test_a_wait_for_a_pod_returns_when_its_last_container_has_ended(mock_config: MakeConfig) -> None:
    pod = vc.run_pod(mock_config("p", containers=2))
    names = [one.id for one in pod.status().containers]
    assert len(names) == 2
    found: list[dict[str, int | None]] = []
    waiting = threading.Thread(target=lambda: found.append(pod.wait()))
    waiting.start()
    pod.container(names[0]).stop()
    waiting.join(timeout=0.3)
    assert waiting.is_alive()
    pod.container(names[1]).stop()
    waiting.join(timeout=PATIENCE)
    assert [list(codes) for codes in found] == [names]
    assert all(isinstance(code, int) for codes in found for code in codes.values())
    assert virtc("wait", "p").stdout.split() == [str(code) for code in found[0].values()]


def test_a_container_that_was_not_started_has_no_code(mock_config: MakeConfig) -> None:
    (pod,) = run(mock_config, "p")
    pod.create_container(replace(mock_config().containers[0], id="c2"))
    pod.kill("SIGKILL")
    assert pod.wait() == {"c1": 137, "c2": None}
    assert virtc("wait", "p", "p/c1").stdout == "137\n-\n137\n"


def test_a_pod_that_was_never_started_is_not_waited_for(mock_config: MakeConfig) -> None:
    pod = vc.create_pod(mock_config())
    with pytest.raises(StateError, match="is ready; waiting for the end of it needs it running or"):
        pod.wait()


def test_a_signal_to_a_pod_reaches_all_of_its_containers(mock_config: MakeConfig) -> None:
    pod = vc.run_pod(mock_config("p", containers=2))
    pod.kill("SIGKILL")
    assert [one.state for one in pod.status().containers] == ["stopped"] * 2
    pod.kill()  # there is nothing left to signal
    with pytest.raises(vc.VCError, match="NOSUCH"):
        pod.kill("NOSUCH")
    pod.stop()
    with pytest.raises(StateError, match="sending a signal to it needs it running"):
        pod.kill()


def test_a_restart_starts_what_runs_and_what_does_not(mock_config: MakeConfig) -> None:
    pod = vc.create_pod(mock_config())
    for _ in range(2):
        pod.restart()
        assert pod.status().state == "running"
    name = pod.status().containers[0].id
    began = pod.container(name).status().started_at
    for stop in (False, True):
        if stop:
            pod.container(name).stop()
        pod.container(name).restart()
        assert pod.container(name).status().state == "running"
    after = pod.container(name).status().started_at
    assert began is not None
    assert after is not None
    assert after > began


def test_only_stopped_pods_with_the_labels_are_pruned(mock_config: MakeConfig) -> None:
    run(mock_config, "runs", "stopped")
    vc.create_pod(mock_config().with_id("ready"))
    vc.run_pod(replace(mock_config(), id="labelled", labels={"job": "1"})).stop()
    vc.stop_pod("stopped")
    assert [one.id for one in vc.prune_pods(labels={"job": None}, dry_run=True)] == ["labelled"]
    assert vc.prune_pods(until=time.time() - 3600) == []
    assert set(states()) == {"runs", "stopped", "ready", "labelled"}
    assert [one.id for one in vc.prune_pods(labels={"job": "1"})] == ["labelled"]
    assert [one.id for one in vc.prune_pods()] == ["stopped"]
    assert states() == {"runs": "running", "ready": "ready"}


@pytest.mark.parametrize("how", ["started", "started and stopped", "made anew", "deleted"])
def test_a_pod_that_changes_meanwhile_is_not_pruned(
    mock_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    (pod,) = run(mock_config, "p")
    pod.stop()
    find = queries.list_pods

    def outrun(labels: object) -> Operation[list[vc.PodStatus]]:
        found = yield from find()
        if "started" in how:
            pod.start()
        if "stopped" in how:
            pod.stop()
        if how in ("made anew", "deleted"):
            pod.delete()
        if how == "made anew":
            vc.create_pod(mock_config().with_id("p"))
        return found

    monkeypatch.setattr(lifecycle, "list_pods", outrun)
    assert vc.prune_pods() == []
    assert list(states()) == ([] if how == "deleted" else ["p"])


def test_the_command_acts_on_several_pods_and_on_all(mock_config: MakeConfig) -> None:
    for pod in "abc":
        assert virtc("pod", "create", *MOCK, "--id", pod).returncode == 0
    assert virtc("pod", "start", "-q", "a", "b").returncode == 0
    assert states() == {"a": "running", "b": "running", "c": "ready"}
    assert virtc("pod", "start", "--all").returncode == 0
    assert virtc("kill", "--all").returncode == 0
    assert [one.state for pod in "abc" for one in vc.status_pod(pod).containers] == ["stopped"] * 3
    assert virtc("restart", "a", "b/1").returncode == 0
    assert [vc.status_pod(pod).containers[0].state for pod in "abc"] == ["running", "running", "stopped"]
    assert virtc("pod", "stop", "--all").returncode == 0
    assert set(states().values()) == {"stopped"}
    assert virtc("prune", "--dry-run").stdout.split() == ["a", "b", "c"]
    assert virtc("pod", "start", "a").returncode == 0
    assert virtc("pod", "delete", "--all").returncode == 0
    assert states() == {"a": "running"}
    assert virtc("pod", "delete", "--all", "--force").returncode == 0
    assert states() == {}
    assert virtc("pod", "stop", "--all").returncode == 0  # there is none


def test_each_pod_is_tried_whatever_becomes_of_the_others(mock_config: MakeConfig) -> None:
    run(mock_config, "a", "b")
    vc.stop_pod("a")
    done = virtc("pod", "stop", "a", "b")
    assert done.returncode == 1
    assert done.stderr == "virtc: pod 'a' is stopped; stopping it needs it running or paused or failed\n"
    assert states() == {"a": "stopped", "b": "stopped"}
    done = virtc("wait", "nosuch", "a/nosuch")
    assert (done.returncode, done.stderr.count("\n")) == (1, 2)


@pytest.mark.parametrize(
    "words",
    [
        *(("pod", verb, *more) for verb in ("start", "stop", "delete") for more in ((), ("--all", "p"))),
        ("kill",),
        ("kill", "--all", "p"),
        ("restart",),
        ("wait",),
        ("prune", "--filter", "state=running"),
        ("prune", "--filter", "until=yesterday"),
    ],
    ids=" ".join,
)
def test_what_names_no_pod_or_too_much_is_wrong_usage(mock_config: MakeConfig, words: tuple[str, ...]) -> None:
    done = virtc(*words)
    assert done.returncode == 2
    assert "give" in done.stderr or "name it" in done.stderr
