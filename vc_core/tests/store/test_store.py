"""Records of pods: a broken one breaks its own pod only, a newer one is left alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import vc_core as vc
from vc_core.config.pod import PodConfig
from vc_core.errors import PodExistsError, PodNotFoundError, StorageError
from vc_core.store import files, locks, status
from vc_core.store.records import PodRecord
from vc_core.store.store import Store


def _record(pod_id: str) -> PodRecord:
    return PodRecord(id=pod_id, hypervisor="mock", agent="noop", supervised=False, created_at=1.0)


@pytest.fixture
def two_pods(store: Store) -> Store:
    for pod_id in ("a", "b"):
        store.create(PodConfig(id=pod_id), _record(pod_id))
    return store


def test_what_is_stored_comes_back_equal(store: Store) -> None:
    config = vc.PodConfig(
        id="a",
        vm_config=vc.Resources(vcpus=2, memory=512),
        hypervisor_config=vc.HypervisorConfig(kernel_params=[vc.Param("a", "b")], options={"accel": "tcg"}),
        agent_config={"sock_ctl_name": "x"},
        volumes=[vc.Volume("t", "/x")],
        containers=[vc.ContainerConfig(id="c", cmd=vc.Cmd(args=["ls", "ä"], envs=[vc.EnvVar("A", "b")]))],
    )
    store.create(config, _record("a"))
    assert store.read_config("a") == config
    assert store.read("a") == _record("a")


def test_an_id_can_be_stored_once(two_pods: Store) -> None:
    with pytest.raises(PodExistsError, match="'a' exists"):
        two_pods.create(PodConfig(id="a"), _record("a"))


def test_a_pod_that_is_not_there_is_named(store: Store) -> None:
    with pytest.raises(PodNotFoundError, match="'nope'"):
        store.read("nope")


@pytest.mark.promise("T14")
def test_a_record_cut_at_any_byte_breaks_its_own_pod_only(two_pods: Store) -> None:
    path = two_pods.roots.pod_state_dir("a") / "state.json"
    whole = path.read_bytes().rstrip()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        found = {pod.id: pod for pod in status.all_pods(two_pods)}
        assert found["a"].state == "failed"
        assert found["b"].state == "ready"


@pytest.mark.promise("T14")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "newer version"),
        ({"surprise": 1}, "surprise"),
        ({"state": "asleep"}, "asleep"),
        ({"id": "b"}, "record of pod 'b'"),
        ({"containers": 3}, "containers"),
    ],
)
def test_a_strange_record_is_refused_and_left_alone(two_pods: Store, change: dict[str, object], message: str) -> None:
    path = two_pods.roots.pod_state_dir("a") / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **change}), encoding="utf-8")
    before = path.read_bytes()
    with pytest.raises(StorageError, match=message):
        two_pods.read("a")
    assert path.read_bytes() == before


def test_a_record_with_text_that_is_not_utf8_breaks_its_own_pod_only(two_pods: Store) -> None:
    path = two_pods.roots.pod_state_dir("a") / "state.json"
    path.write_bytes(path.read_bytes().replace(b'"ready"', b'"\xff"', 1))
    assert [pod.state for pod in vc.list_pods()] == ["failed", "ready"]


def test_a_configuration_from_before_mounts_had_sizes_is_read(store: Store) -> None:
    mounts = [vc.Mount("/x", "/y", False)]
    config = PodConfig(id="a", containers=[vc.ContainerConfig(id="c", mounts=mounts)])
    store.create(config, _record("a"))
    path = store.roots.pod_state_dir("a") / "config.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    assert data["config"]["containers"][0]["mounts"][0].pop("size") == 0
    path.write_text(json.dumps(data), encoding="utf-8")
    assert store.read_config("a") == config


@pytest.mark.parametrize("where", [(), ("vm_config",), ("hypervisor_config",)])
def test_an_unknown_key_of_a_configuration_is_refused(two_pods: Store, where: tuple[str, ...]) -> None:
    path = two_pods.roots.pod_state_dir("a") / "config.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    inner = data["config"]
    for key in where:
        inner = inner[key]
    inner["surprise"] = 1
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(StorageError, match="surprise"):
        two_pods.read_config("a")


@pytest.mark.promise("T14")
def test_a_pod_whose_record_is_missing_can_be_listed_and_deleted(two_pods: Store) -> None:
    (two_pods.roots.pod_state_dir("a") / "state.json").unlink()
    assert [pod.state for pod in vc.list_pods()] == ["failed", "ready"]
    with pytest.raises(StorageError, match="--force"):
        vc.delete_pod("a")
    vc.delete_pod("a", force=True)
    assert two_pods.ids() == ["b"]


def test_an_interrupted_creation_is_no_pod(store: Store) -> None:
    (store.roots.state / "pods/.a.new").mkdir(parents=True)
    assert store.ids() == []
    store.create(PodConfig(id="a"), _record("a"))
    assert store.ids() == ["a"]


def test_deleting_leaves_no_file(two_pods: Store, tmp_path: Path) -> None:
    for pod_id in ("a", "b"):
        vc.delete_pod(pod_id)
    left = [path.name for path in (tmp_path / "root").rglob("*") if not path.is_dir()]
    assert left == ["events"]  # which are of all pods, and bounded
    assert list((two_pods.roots.state / "pods").iterdir()) == []


def test_a_pod_that_cannot_be_stored_is_an_error_with_the_reason_though_what_was_written_cannot_be_removed(
    store: Store, mock_config: Callable[..., vc.PodConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        monkeypatch.setattr(files, "remove_tree", stay)
        raise StorageError("the disk is full")

    def stay(*_: object) -> None:
        raise StorageError("it stays")

    monkeypatch.setattr(files, "write_new", refuse)
    with pytest.raises(StorageError, match="the disk is full"):
        store.create(mock_config(), PodRecord(id="p1", hypervisor="m", agent="n", supervised=False, created_at=0.0))


def test_a_lock_is_released_though_its_file_cannot_be_removed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def stay(_: object) -> None:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(locks.FileLock, "unlink", stay)
        with store.locked("p1"):
            pass
    with store.locked("p1", 0.0):
        pass
