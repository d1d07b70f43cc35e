"""A pod's record and configuration in memory and on disk, when the disk refuses to be written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

import vc_core as vc
from vc_core.engine.ledger import Ledger
from vc_core.errors import ContainerNotFoundError, StorageError
from vc_core.states import State
from vc_core.store import files
from vc_core.store.records import ContainerRecord, PodRecord
from vc_core.store.store import Store

FullDisk = Callable[[str], AbstractContextManager[None]]


class Extensions:
    """Notes what extensions would be notified of."""

    def __init__(self) -> None:
        self.transitions: list[tuple[str, str, str]] = []

    def notify_container_transition(self, pod_id: str, container_id: str, old: str, new: str) -> None:
        self.transitions.append((container_id, old, new))

    def notify_pod_transition(self, pod_id: str, old: str, new: str) -> None:
        self.transitions.append((pod_id, old, new))


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> FullDisk:
    """Return a context manager in which files of that name cannot be written."""
    write = files.write_atomic

    @contextmanager
    def full(name: str) -> Iterator[None]:
        def refuse(directory: Path, file_name: str, data: bytes) -> None:
            if file_name == name:
                raise StorageError("No space left on device")
            write(directory, file_name, data)

        with monkeypatch.context() as patch:
            patch.setattr(files, "write_atomic", refuse)
            yield

    return full


@pytest.fixture
def extensions() -> Extensions:
    return Extensions()


@pytest.fixture
def ledger(store: Store, mock_config: Callable[..., vc.PodConfig], extensions: Extensions) -> Ledger:
    """Return the ledger of a running pod with one container."""
    config = mock_config()
    record = PodRecord(
        id="p1",
        state=State.RUNNING,
        hypervisor="mock",
        agent="noop",
        supervised=False,
        created_at=time.time(),
        containers={"c1": ContainerRecord(state=State.RUNNING)},
    )
    store.create(config, record)
    return Ledger(store, "p1", extensions)  # type: ignore[arg-type]


def container(container_id: str) -> vc.ContainerConfig:
    return vc.ContainerConfig(id=container_id, cmd=vc.Cmd(args=["true"]))


def test_a_change_that_the_disk_refuses_is_not_made_in_memory_either(
    ledger: Ledger, full_disk: FullDisk, extensions: Extensions
) -> None:
    with full_disk("state.json"):
        with pytest.raises(StorageError):
            ledger.commit(state=State.FAILED)
        with pytest.raises(StorageError):
            ledger.commit_container("c1", {"intent": "start"}, state=State.FAILED)
    assert ledger.record.state is State.RUNNING
    assert ledger.record.intent == ""
    assert ledger.record.containers["c1"].state is State.RUNNING
    assert extensions.transitions == []


def test_an_end_that_the_disk_refuses_is_in_memory_at_once_and_on_disk_with_the_next_change(
    ledger: Ledger, store: Store, full_disk: FullDisk, extensions: Extensions
) -> None:
    with full_disk("state.json"), pytest.raises(StorageError):
        ledger.note_end("c1", state=State.STOPPED, exit_code=7)
    assert ledger.container("c1").exit_code == 7
    assert store.read("p1").containers["c1"].state is State.RUNNING
    assert extensions.transitions == []
    ledger.commit(intent="stop")
    assert store.read("p1").containers["c1"].exit_code == 7
    assert extensions.transitions == [("c1", "running", "stopped")]


def test_the_end_of_a_vm_that_the_disk_refuses_is_written_before_the_record_is_given_up(
    ledger: Ledger, store: Store, full_disk: FullDisk, extensions: Extensions
) -> None:
    with full_disk("state.json"):
        with pytest.raises(StorageError):
            ledger.commit_ended("it was killed")
        with pytest.raises(StorageError):
            ledger.flush()
    ledger.flush()
    ledger.flush()
    assert store.read("p1").reason == "it was killed"
    assert extensions.transitions == [("c1", "running", "stopped"), ("p1", "running", "stopped")]


@pytest.mark.parametrize("file", ["config.json", "state.json"])
def test_a_container_that_the_disk_refuses_is_not_added_and_can_be_added_later(
    ledger: Ledger, store: Store, full_disk: FullDisk, extensions: Extensions, file: str
) -> None:
    with full_disk(file), pytest.raises(StorageError):
        ledger.add_container(container("c2"))
    for one in (ledger, Ledger(store, "p1", extensions)):  # type: ignore[arg-type]
        assert [each.id for each in one.config.containers] == ["c1"]
        with pytest.raises(ContainerNotFoundError):
            one.container("c2")
    ledger.add_container(container("c2"))
    assert [each.id for each in store.read_config("p1").containers] == ["c1", "c2"]


def test_a_container_whose_removal_the_disk_refuses_is_still_there(
    ledger: Ledger, store: Store, full_disk: FullDisk, extensions: Extensions
) -> None:
    with full_disk("state.json"), pytest.raises(StorageError):
        ledger.remove_container("c1")
    for one in (ledger, Ledger(store, "p1", extensions)):  # type: ignore[arg-type]
        assert one.container_config("c1").id == "c1"
    ledger.remove_container("c1")
    assert store.read("p1").containers == {}


def test_a_container_without_a_record_counts_for_nothing_though_the_configuration_has_it(
    ledger: Ledger, store: Store, full_disk: FullDisk, extensions: Extensions
) -> None:
    with full_disk("config.json"):
        ledger.remove_container("c1")
    assert [each.id for each in store.read_config("p1").containers] == ["c1"]
    for one in (ledger, Ledger(store, "p1", extensions)):  # type: ignore[arg-type]
        assert not one.config.containers
    ledger.add_container(container("c2"))
    assert [each.id for each in store.read_config("p1").containers] == ["c2"]


def test_a_record_has_the_time_at_which_its_state_and_reason_became_so_also_when_the_disk_took_it_later(
    ledger: Ledger, store: Store, full_disk: FullDisk
) -> None:
    before = time.time()
    with full_disk("state.json"), pytest.raises(StorageError):
        ledger.commit_ended("it was killed")
    ended_at = ledger.record.changed_at
    assert ended_at is not None
    assert before <= ended_at <= time.time()
    ledger.flush()
    ledger.commit(warnings=["another change"])
    assert store.read("p1").changed_at == ended_at
    ledger.commit(reason="it was killed twice")
    assert store.read("p1").changed_at != ended_at
