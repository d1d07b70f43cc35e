"""The last record of a pod, which its disk refused while the supervisor ended: another process writes it later."""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Callable

import msgspec
import pytest

import vc_core as vc
from vc_core.engine import unwritten
from vc_core.states import State
from vc_core.store.records import PodRecord
from vc_core.store.store import Store
from waiting import PATIENCE


@pytest.fixture
def before(store: Store, mock_config: Callable[..., vc.PodConfig]) -> PodRecord:
    """Return the record on disk of a pod that runs."""
    record = PodRecord(
        id="p1", state=State.RUNNING, hypervisor="mock", agent="noop", supervised=False, created_at=time.time()
    )
    store.create(mock_config(containers=0), record)
    return store.read("p1")


@pytest.fixture
def after(before: PodRecord, monkeypatch: pytest.MonkeyPatch) -> PodRecord:
    """Return the record that its supervisor could not write, and give both to the process that writes it."""
    refused = msgspec.structs.replace(before, state=State.STOPPED, reason="it was killed")
    lines = msgspec.json.encode(before) + b"\n" + msgspec.json.encode(refused)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines), encoding="utf-8"))
    return refused


def test_the_last_record_is_written_once_the_disk_takes_it(store: Store, after: PodRecord) -> None:
    unwritten.main("p1")
    assert store.read("p1").reason == after.reason


def test_the_last_record_is_not_written_over_that_of_another_process(
    store: Store, before: PodRecord, after: PodRecord
) -> None:
    changed = msgspec.structs.replace(before, state=State.FAILED)
    with store.locked("p1"):
        store.write(changed)
    unwritten.main("p1")
    assert store.read("p1") == changed


def test_nothing_is_written_for_a_pod_that_was_deleted(store: Store, after: PodRecord) -> None:
    vc.delete_pod("p1", force=True)
    unwritten.main("p1")
    assert not store.exists("p1")


def test_the_last_record_waits_for_a_process_that_has_the_pod(store: Store, after: PodRecord) -> None:
    writing = threading.Thread(target=unwritten.main, args=["p1"])
    with store.locked("p1"):
        writing.start()
        writing.join(timeout=0.3)
        assert writing.is_alive()
        assert store.read("p1").reason == ""
    writing.join(timeout=PATIENCE)
    assert store.read("p1").reason == after.reason
