"""Derives the state of a pod from its record and /proc, and checks what an operation requires of it.

Nothing here connects to a guest or writes.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from vc_core.config.values import quoted
from vc_core.driver.process import ProcessIdentity, boot_id
from vc_core.errors import ContainerNotFoundError, StateError, StorageError
from vc_core.results import ContainerStatus, PodStatus
from vc_core.states import LIVE_STATES, Action, State, require_state
from vc_core.store import pools
from vc_core.store.records import ContainerRecord, PodRecord
from vc_core.store.roots import Roots
from vc_core.store.store import Store

#: The reason of a pod that is found stopped although its end was not recorded.
UNWATCHED = "the VM ended while nothing watched it"
REBOOTED = "the host was rebooted while it ran"


def vm_identity(record: PodRecord) -> ProcessIdentity | None:
    """Return the recorded identity of the pod's VM, None if there is none. Raises StorageError for a broken one."""
    if record.vm is None:
        return None
    try:
        return ProcessIdentity.from_mapping(record.vm)
    except (KeyError, ValueError) as error:
        raise StorageError(f"the record of pod {record.id!r} is broken: its VM identity is {record.vm!r}") from error


def effective_record(record: PodRecord) -> PodRecord:
    """Return the record as it should read now: a pod whose VM has ended is stopped, and so are its containers.

    Raises StorageError for a broken record.
    """
    if not record.supervised or record.state not in LIVE_STATES:
        return record
    identity = vm_identity(record)
    if identity is not None and identity.alive():
        return record
    return msgspec.structs.replace(ended(record, unwatched_end(identity)), changed_at=None)


def unwatched_end(identity: ProcessIdentity | None) -> str:
    """Return the reason of a pod whose VM has ended although its end was not recorded."""
    return REBOOTED if identity is not None and identity.boot_id != boot_id() else UNWATCHED


def at_rest(record: PodRecord) -> bool:
    """Return whether a pod has no VM and no operation on it was interrupted. ``record`` is the effective one.

    Called by clients: such a pod needs no supervisor, and leaves nothing on the host when it is deleted.
    """
    return record.state in (State.READY, State.STOPPED) and not record.intent and record.vm is None


def find_container(record: PodRecord, container_id: str) -> ContainerRecord:
    """Return the record of one container. Raises ContainerNotFoundError."""
    if not isinstance(container_id, str) or container_id not in record.containers:
        names = ", ".join(map(repr, record.containers)) or "none"
        raise ContainerNotFoundError(f"pod {record.id!r} has no container {quoted(container_id)}; it has {names}")
    return record.containers[container_id]


def only_container(record: PodRecord) -> str:
    """Return the id of the container of a pod that has one. Raises ContainerNotFoundError for more or none."""
    if len(record.containers) != 1:
        choice = "none"
        if names := ", ".join(map(repr, record.containers)):
            choice = f"the containers {names}; name one, as {record.id}/{next(iter(record.containers))}"
        raise ContainerNotFoundError(f"no container is named, and pod {record.id!r} has {choice}")
    return next(iter(record.containers))


def require(record: PodRecord, action: Action, container_id: str = "") -> None:
    """Refuse an operation that the states of a pod, and of its container ``container_id`` if given, do not allow.

    Called by the client with the effective record, and by the engine again, with the pod's lock held.
    Raises StateError, ContainerNotFoundError.
    """
    needed, pod, name = action.value, f"pod {record.id!r}", f"container {container_id!r}"
    container = find_container(record, container_id) if container_id else None
    if needed.pod is not None:
        require_state(pod, record.state, needed.pod, needed.wording.format(name if container else "it"))
    if container is not None and needed.container is not None:
        require_state(f"{name} of {pod}", container.state, needed.container, needed.wording.format("it"))


def exit_code(record: PodRecord, container_id: str) -> int:
    """Return the exit code of a container that ended. Raises StateError if it has none, ContainerNotFoundError."""
    container = find_container(record, container_id)
    if container.exit_code is None:
        reason = container.reason or "its pod was stopped"
        raise StateError(
            f"container {container_id!r} of pod {record.id!r} ended without an exit code: {reason}",
            state=str(container.state),
            wanted=[],
        )
    return container.exit_code


def ended(record: PodRecord, reason: str, ended_at: float | None = None) -> PodRecord:
    """Return the record of a pod whose VM has ended. ``ended_at`` is in seconds since the epoch, None if unknown."""
    containers = {}
    for name, container in record.containers.items():
        changes: dict[str, object] = {"process": ""}
        if container.state in LIVE_STATES:
            changes |= {"state": State.STOPPED, "reason": container.reason or reason, "ended_at": ended_at}
        containers[name] = msgspec.structs.replace(container, **changes)
    return msgspec.structs.replace(
        record,
        state=State.STOPPED,
        reason=reason,
        intent="",
        vm=None,
        containers=containers,
        saved_hypervisor=None,
        saved_agent=None,
        forwards=[],
        warnings=[],
    )


def pod_status(roots: Roots, record: PodRecord) -> PodStatus:
    """Return the PodStatus of a record. Raises StorageError for a broken one."""
    now = effective_record(record)
    console = f"{roots.run}/pods/{record.id}/console.log"  # as text, for long lists
    return PodStatus(
        id=now.id,
        state=now.state,
        reason=now.reason,
        changed_at=now.changed_at,
        hypervisor=now.hypervisor,
        agent=now.agent,
        acceleration=now.acceleration,
        isolation=now.isolation,
        jail=now.jail,
        jail_missing=tuple(now.jail_missing),
        strict=now.strict,
        template=now.template,
        created_at=now.created_at,
        console_path=console if os.access(console, os.F_OK) else "",  # as exists, which catches an error for each pod
        forwards=tuple(now.forwards),
        warnings=tuple(now.warnings),
        pool=_pool(roots, now),
        labels=dict(now.labels),
        containers=tuple(container_status(roots, now.id, name, one) for name, one in now.containers.items()),
    )


def _pool(roots: Roots, record: PodRecord) -> str:
    mark = pools.find_mark(roots, record.id) if record.state is State.RUNNING else None
    return mark.pool if mark is not None else ""


def container_status(roots: Roots, pod_id: str, container_id: str, record: ContainerRecord) -> ContainerStatus:
    """Return the ContainerStatus of a record."""
    log = container_log(roots, pod_id, container_id)
    return ContainerStatus(
        id=container_id,
        state=record.state,
        reason=record.reason,
        exit_code=record.exit_code,
        started_at=record.started_at,
        ended_at=record.ended_at,
        log_path=str(log) if log.exists() else "",
    )


def container_log(roots: Roots, pod_id: str, container_id: str) -> Path:
    """Return the path of a container's log."""
    return roots.pod_state_dir(pod_id) / "containers" / container_id / "output.log"


def all_pods(store: Store) -> list[PodStatus]:
    """Return the status of every pod; one with a broken record is ``failed``, with the reason. Raises StorageError."""
    found = []
    for pod_id in store.ids():
        try:
            found.append(pod_status(store.roots, store.read(pod_id)))
        except StorageError as error:
            found.append(PodStatus(id=pod_id, state=State.FAILED, reason=str(error)))
        except LookupError:
            continue  # it was deleted meanwhile
    return found
