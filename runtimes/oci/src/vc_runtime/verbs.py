"""The verbs that ask of running containers, or change them."""

from __future__ import annotations

from signal import SIGKILL
from typing import Any

import vc_core
from vc_core import ContainerNotFoundError, PodNotFoundError, StateError, VCError
from vc_runtime import spec, translate
from vc_runtime.calls import Call, described
from vc_runtime.faults import Refused, RuntimeFault


def state(call: Call, container_id: str) -> dict[str, Any]:
    """Return the state of a container, as the specification has it. Raises NoSuchContainer."""
    record = call.root.home(container_id).read()
    return described(record, record.status)


def list_(call: Call) -> list[dict[str, Any]]:
    """Return the states of all containers."""
    return [described(one, one.status) for one in call.root.records()]


def kill(call: Call, container_id: str, signum: int, every: bool = False) -> None:
    """Send a signal to the container's process. Raises RuntimeFault for one that does not run.

    ``every``: the others of the container are meant too, which end with it: after its end nothing is left to do.
    """
    record = call.root.home(container_id).read()
    status = record.status
    if every and status == "stopped":
        return
    if status == "stopped" or record.shim is None:
        raise RuntimeFault("container not running")
    if status == "created":
        record.shim.process.send(signum)
        return
    try:
        vc_core.kill_container(record.pod, record.container, signum)
    except (StateError, PodNotFoundError, ContainerNotFoundError):
        if signum != SIGKILL:
            raise RuntimeFault("container not running") from None
        record.shim.process.send(signum)  # the VM has ended, and nothing else ends it
    except VCError:
        if signum != SIGKILL:
            raise
        record.shim.process.send(signum)


def ps(call: Call, container_id: str) -> list[int]:
    """Return the processes of the host that stand for those of a container."""
    record = call.root.home(container_id).read()
    return [record.pid] if record.pid else []


def stats(call: Call, container_id: str) -> dict[str, Any]:
    """Return what a container uses, as ``events --stats`` prints it."""
    record = call.root.home(container_id).read()
    usage = vc_core.stats_container(record.pod, record.container)
    return {"type": "stats", "id": container_id, "data": _usage(usage)}


def _usage(usage: vc_core.ContainerUsage) -> dict[str, Any]:
    """Return what the guest reports, with 0 for what it does not."""
    memory = {"usage": usage.memory_total or usage.memory or 0, "limit": usage.memory_limit or 0}
    return {
        "cpu": {"usage": {"total": int((usage.cpu_seconds or 0.0) * 1e9)}},
        "memory": {"usage": memory, "cache": usage.memory_cache or 0},
        "pids": {"current": usage.pids or 0},
    }


def pause(call: Call, container_id: str) -> None:
    """Suspend the processes of a running container."""
    _set_paused(call, container_id, paused=True)


def resume(call: Call, container_id: str) -> None:
    """Let the processes of a paused container go on."""
    _set_paused(call, container_id, paused=False)


def _set_paused(call: Call, container_id: str, *, paused: bool) -> None:
    home = call.root.home(container_id)
    with home.locked():
        record = home.read()
        if record.status != ("running" if paused else "paused"):
            raise RuntimeFault(
                f"cannot {'pause' if paused else 'resume'} container {container_id}: it is {record.status}"
            )
        change = vc_core.pause_container if paused else vc_core.resume_container
        change(record.pod, record.container)
        record.paused = paused
        home.write(record)


def update(call: Call, container_id: str, resources: spec.Resources) -> None:
    """Change the limits of a container; those that are not given stay. Its VM keeps its size."""
    record = call.root.home(container_id).read()
    memory, pids, cpus = translate.limits(resources)
    vc_core.update_container(record.pod, record.container, memory=memory, pids=pids, cpus=cpus)


def refuse(verb: str) -> None:
    """Raise Refused for a verb that no VM of this project can perform."""
    raise Refused(f"{verb} is not possible: the state of a container is that of its virtual machine")
