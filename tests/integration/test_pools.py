"""A pool of pods in real virtual machines."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

import vc_core as vc
from vc_core.store.store import Store

from .conftest import container, pod_config, vm_pid, wait_ended

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.hypervisors("qemu")]

#: Seconds in which a virtual machine boots, also on a busy host.
BOOT = 60.0


def test_a_pod_whose_machine_is_killed_while_it_waits_is_replaced(bundle: Path, store: Store) -> None:
    with vc.PodPool(pod_config(containers=[container(bundle)]), size=1, name="web") as pool:
        killed = _waiting(pool)
        machine = vm_pid(store, killed)
        os.kill(machine, signal.SIGKILL)
        assert wait_ended(machine, BOOT)
        pod = pool.take(timeout=BOOT)
        assert pod.id != killed
        assert pod.container("c1").enter(vc.Cmd(args=["echo", "hello"])).stdout == b"hello\n"
        pod.delete(force=True)
    assert vc.list_pods() == []


def _waiting(pool: vc.PodPool) -> str:
    """Return the id of a pod of the pool as soon as one waits."""
    deadline = time.monotonic() + BOOT
    while True:
        assert time.monotonic() < deadline
        for one in vc.list_pods():
            if one.pool == pool.name:
                return one.id
        time.sleep(0.05)
