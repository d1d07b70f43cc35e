"""What pods use, measured in the guest and on the host."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TypeVar

import pytest

import vc_core as vc

from .conftest import container, pod_config

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.hypervisors("qemu")]


_T = TypeVar("_T")


def known(value: _T | None) -> _T:
    """Return a figure, which must have been reported."""
    assert value is not None
    return value


def test_a_pod_is_measured_on_the_host_and_its_containers_in_the_guest(bundle: Path) -> None:
    writes = ("sh", "-c", "dd if=/dev/zero of=/file bs=1M count=10; echo done; while :; do :; done")
    config = pod_config(id="used", containers=[container(bundle, *writes), container(bundle, container_id="c2")])
    with vc.run_pod(config) as pod:
        assert any(line.data == b"done\n" for line in itertools.islice(pod.container("c1").logs(follow=True), 4))
        (before,), (after,) = itertools.islice(vc.watch_stats("used", interval=0.5), 2)
    assert after.time - before.time >= 0.5
    work = {
        name: known(after.containers[name].cpu_seconds) - known(before.containers[name].cpu_seconds)
        for name in ("c1", "c2")
    }
    assert work["c1"] > work["c2"]
    now = after.containers["c1"]
    assert known(now.memory) <= known(now.memory_total)
    assert known(now.memory_cache) >= 9 << 20  # pages of the file are in memory
    assert (now.pids, now.oom_kills) == (1, 0)
    vm = known(after.vm)
    assert known(vm.cpu_seconds) > known(known(before.vm).cpu_seconds)
    assert known(vm.memory) > known(now.memory_total)  # the guest's memory is that of the process
    assert known(vm.pids) >= 3  # threads of QEMU and of the supervisor


@pytest.mark.promise("T26")
def test_a_container_whose_memory_is_used_up_has_that_as_its_reason(pod: vc.Pod, bundle: Path) -> None:
    config = vc.ContainerConfig(
        id="greedy", root_fs=str(bundle), memory=16, cmd=vc.Cmd(args=["sh", "-c", "exec tail -c 64m /dev/zero"])
    )
    greedy = pod.create_container(config)
    greedy.start()
    assert greedy.wait() == 137
    assert greedy.status().reason.startswith("out of memory: the guest's kernel killed 1 ")
    greedy.delete()
