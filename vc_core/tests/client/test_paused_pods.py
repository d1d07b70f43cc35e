"""Pods that are paused, with drivers that need no virtual machine."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import vc_core as vc
from vc_core.errors import StateError, VCError
from vc_core.plugins.registry import Plugins
from vc_core.results import EventKind
from vc_hypervisor_mock.hypervisor import MockHypervisor

MakeConfig = Callable[..., vc.PodConfig]


def test_a_pod_is_paused_and_goes_on(mock_config: MakeConfig) -> None:
    pod = vc.run_pod(mock_config())
    states = []
    for operation in (pod.pause, pod.resume, pod.pause, pod.stop):
        operation()
        states.append(pod.status().state)
    assert states == ["paused", "running", "paused", "stopped"]
    kinds = [event.kind for event in vc.pod_events(pod.id) if not event.container_id]
    assert kinds[1:] == [EventKind.STARTED, *(EventKind.PAUSED, EventKind.RESUMED) * 2, EventKind.STOPPED]


@pytest.mark.parametrize(
    ("operation", "sentence"),
    [
        (lambda pod: pod.pause(), "pod 'p1' is paused; pausing it needs it running"),
        (lambda pod: pod.start(), "pod 'p1' is paused; starting it needs it ready or stopped or failed"),
        (lambda pod: pod.delete(), "pod 'p1' is paused; deleting it without force needs it ready"),
        (lambda pod: pod.stats(), "pod 'p1' is paused; measuring what it uses needs it running"),
        (lambda pod: pod.enter(vc.Cmd(["true"])), "pod 'p1' is paused; entering it needs it running"),
        (lambda pod: pod.copy_out("/f", "f"), "pod 'p1' is paused; copying files of it needs it running"),
        (lambda pod: pod.container("c1").start(), "pod 'p1' is paused; starting container 'c1' needs it running"),
        (lambda pod: pod.container("c1").stop(), "pod 'p1' is paused; stopping container 'c1' needs it running"),
        (lambda pod: pod.container("c1").kill(), "pod 'p1' is paused; sending a signal to container 'c1' needs"),
        (lambda pod: pod.container("c1").delete(), "pod 'p1' is paused; deleting container 'c1' without force needs"),
        (lambda pod: pod.container("c1").delete(force=True), "pod 'p1' is paused; stopping container 'c1' needs it"),
        (lambda pod: pod.container("c1").enter(vc.Cmd(["true"])), "pod 'p1' is paused; entering container 'c1' needs"),
    ],
)
def test_what_needs_the_guest_is_one_sentence_while_it_is_paused(
    mock_config: MakeConfig, operation: Callable[[vc.Pod], object], sentence: str
) -> None:
    pod = vc.run_pod(mock_config())
    pod.pause()
    with pytest.raises(StateError) as failure:
        operation(pod)
    assert str(failure.value).startswith(sentence)
    assert pod.status().state == "paused"


@pytest.mark.parametrize("state", ["ready", "running", "stopped"])
def test_only_a_paused_pod_is_resumed(mock_config: MakeConfig, state: str) -> None:
    pod = vc.create_pod(mock_config())
    if state != "ready":
        pod.start()
    if state == "stopped":
        pod.stop()
    with pytest.raises(StateError, match=f"pod 'p1' is {state}; resuming it needs it paused"):
        pod.resume()


def test_a_pod_that_cannot_be_paused_runs_on(mock_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = vc.run_pod(mock_config(fail_pause="stuck"))
    with pytest.raises(vc.HypervisorError, match="stuck"):
        pod.pause()
    monkeypatch.setattr(MockHypervisor, "capabilities", frozenset())
    with pytest.raises(vc.NotSupportedError, match="the hypervisor 'mock' of pod 'p1' cannot pause a VM; stop the pod"):
        pod.pause()
    assert pod.status().state == "running"


def test_a_pod_that_cannot_be_resumed_stays_paused_and_is_stopped(mock_config: MakeConfig) -> None:
    pod = vc.run_pod(mock_config(fail_resume="stuck"))
    pod.pause()
    with pytest.raises(VCError, match="stuck"):
        pod.resume()
    assert pod.status().state == "paused"
    pod.stop()
    assert pod.status().state == "stopped"


@pytest.mark.parametrize("force", [False, True])
def test_a_paused_pod_is_stopped_and_started_again(mock_config: MakeConfig, force: bool) -> None:
    pod = vc.run_pod(mock_config())
    pod.pause()
    pod.stop(force=force)
    pod.start()
    assert pod.status().state == "running"


def test_a_paused_pod_is_deleted_by_force(mock_config: MakeConfig) -> None:
    pod = vc.run_pod(mock_config())
    pod.pause()
    pod.delete(force=True)
    assert vc.list_pods() == []


def test_extensions_are_notified_of_both(mock_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    moves: list[tuple[str, str]] = []
    monkeypatch.setattr(Plugins, "notify_pod_transition", lambda self, pod, old, new: moves.append((old, new)))
    pod = vc.run_pod(mock_config())
    pod.pause()
    pod.resume()
    assert moves[-2:] == [("running", "paused"), ("paused", "running")]
