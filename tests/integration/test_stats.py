"""What pods use, measured in the guest and on the host."""

from __future__ import annotations

import itertools
import json
import os
import socket
from pathlib import Path
from typing import Any, TypeVar

import pytest

import vc_core as vc
from vc_core.store.store import Store
from vc_core.testing.slowness import scaled

from .conftest import container, pod_config, supervisors, wait_ended

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.hypervisors("qemu")]


_T = TypeVar("_T")

#: The limit of a control group of memory, in version 1 and 2, and the bytes that it counts.
LIMITS = {"memory.limit_in_bytes": "memory.usage_in_bytes", "memory.max": "memory.current"}


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


@pytest.mark.promise("T26")
def test_who_waits_at_a_connection_is_sent_that_the_container_used_up_its_memory(pod: vc.Pod, bundle: Path) -> None:
    cmd = vc.Cmd(args=["sh", "-c", "read x; exec tail /dev/zero"])
    greedy = pod.create_container(vc.ContainerConfig(id="greedy", root_fs=str(bundle), memory=16, cmd=cmd))
    given, give = os.pipe()
    with greedy.open(stdin=given) as process, socket.socket(fileno=process.hand_over()) as connection:
        connection.setblocking(True)
        connection.settimeout(scaled(60))
        os.close(given)
        os.write(give, b"go\n")
        assert json.loads(connection.recv(10_000)) == {"kind": "Answer", "exit_code": 137, "out_of_memory": True}
    os.close(give)
    greedy.delete()


@pytest.mark.promise("T26")
def test_a_vm_that_the_kernel_killed_for_its_memory_has_that_as_its_reason(bundle: Path, store: Store) -> None:
    pod = vc.run_pod(pod_config(id="grown", containers=[container(bundle)]))
    (supervisor,) = supervisors("grown")
    saved: Any = store.read("grown").saved_hypervisor
    limits = [file for one in saved["cgroups"] for file in map(Path(one).joinpath, LIMITS) if file.exists()]
    if not limits:
        pytest.skip("this process can make no control group of memory")
    (limit,) = limits
    used = int((limit.parent / LIMITS[limit.name]).read_text(encoding="ascii"))
    limit.write_text(str(used + (16 << 20)), encoding="ascii")
    with pytest.raises(vc.VCError):
        pod.enter_container("c1", vc.Cmd(args=["sh", "-c", "tail -c 128m /dev/zero | tail -c 1"]))
    assert wait_ended(supervisor)  # which records the end
    status = pod.status()
    assert (status.state, status.reason) == ("stopped", "QEMU was killed by SIGKILL (out of memory)")
    assert status.changed_at is not None
    assert [one.kind for one in vc.pod_events("grown")][-3:].count(vc.EventKind.OOM) == 1
    pod.delete()
