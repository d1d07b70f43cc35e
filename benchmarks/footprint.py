"""Idle pods, and what the processes of one use of the host."""

from __future__ import annotations

from collections.abc import Callable

import vc_core as vc
from benchmarks.clone import pod_config
from benchmarks.proc import cpu_seconds, descendants, memory
from benchmarks.world import World
from vc_core.host.processes import find_supervisors
from vc_core.store.store import Store
from vc_core.supervisor.wire import LOG_NAME

#: The processes of a pod on the hypervisor qemu, from the client's side to the guest's.
KINDS = (SUPERVISOR, INIT, QEMU) = ("supervisor", "init of the jail", "QEMU")

#: MiB of an idle pod's VM.
IDLE_MEMORY = 256


def idle_pod(world: World) -> vc.PodConfig:
    """Return the configuration of a pod with a container that sleeps."""
    return pod_config(world, "sleep", "100000", memory=IDLE_MEMORY)


def processes(pod_id: str) -> dict[str, list[int]]:
    """Return the pids of a running pod, by kind."""
    store = Store.here()
    record = store.read(pod_id)
    assert record.vm is not None
    vm = int(record.vm["pid"])
    log, lock = store.roots.pod_run_dir(pod_id) / LOG_NAME, store.roots.pod_lock(pod_id)
    below = descendants(vm)
    return {
        SUPERVISOR: [one.pid for one in find_supervisors(pod_id, log, lock)],
        INIT: [vm] if below else [],  # without a jail the recorded process is QEMU
        QEMU: below or [vm],
    }


def pod_memory(pod_id: str) -> dict[str, float]:
    """Return the memory of a running pod's processes in MiB (PSS), by kind."""
    return _sums(memory, pod_id)


def pod_cpu_seconds(pod_id: str) -> dict[str, float]:
    """Return the CPU time of a running pod's processes in seconds, by kind."""
    return _sums(cpu_seconds, pod_id)


def _sums(of: Callable[[int], float], pod_id: str) -> dict[str, float]:
    return {kind: sum(map(of, pids)) for kind, pids in processes(pod_id).items()}
