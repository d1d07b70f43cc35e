"""What a record says of a pod whose VM has ended."""

from __future__ import annotations

import os

import pytest

from vc_core.driver.process import ProcessIdentity
from vc_core.states import State
from vc_core.store.records import PodRecord
from vc_core.store.status import effective_record


@pytest.mark.promise("T09")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"start_time": 1}, "the VM ended while nothing watched it"),
        ({"boot_id": "another"}, "the host was rebooted while it ran"),
    ],
)
def test_a_pod_whose_vm_has_ended_is_stopped_with_the_reason(changes: dict[str, object], reason: str) -> None:
    own = ProcessIdentity.of(os.getpid())
    assert own is not None
    vm = own.to_mapping() | changes
    record = PodRecord(
        id="p1", hypervisor="qemu", agent="noop", supervised=True, created_at=0.0, state=State.RUNNING, vm=vm
    )
    found = effective_record(record)
    assert (found.state, found.reason, found.changed_at) == (State.STOPPED, reason, None)
