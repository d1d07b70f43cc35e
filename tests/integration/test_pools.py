"""A pool of pods in real virtual machines."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

import vc_core as vc
from vc_core.store.store import Store
from waiting import PATIENCE

from .conftest import container, pod_config, vm_pid, wait_ended

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.hypervisors("qemu")]


def test_a_pod_whose_machine_is_killed_while_it_waits_is_replaced(bundle: Path, store: Store) -> None:
    with vc.PodPool(pod_config(containers=[container(bundle)]), size=1, name="web") as pool:
        killed = _waiting(pool)
        machine = vm_pid(store, killed)
        os.kill(machine, signal.SIGKILL)
        assert wait_ended(machine, PATIENCE)
        pod = pool.take(timeout=PATIENCE)
        assert pod.id != killed
        assert pod.container("c1").enter(vc.Cmd(args=["echo", "hello"])).stdout == b"hello\n"
        pod.delete(force=True)
    assert vc.list_pods() == []


def _waiting(pool: vc.PodPool) -> str:
    """Return the id of a pod of the pool as soon as one waits."""
    deadline = time.monotonic() + PATIENCE
    while True:
        assert time.monotonic() < deadline
        for one in vc.list_pods():
            if one.pool == pool.name:
                return one.id
        time.sleep(0.05)
