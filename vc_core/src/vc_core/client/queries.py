"""Operations that only read records and /proc; they import as little as that needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vc_core.client.interpreters import InThread, Operation
from vc_core.results import ContainerStatus, PodStatus
from vc_core.store.status import all_pods, container_status, effective_record, find_container, pod_status
from vc_core.store.store import Store

if TYPE_CHECKING:
    from vc_core.config.pod import PodConfig


def list_pods() -> Operation[list[PodStatus]]:
    """Return the status of every pod, sorted by id. Raises StorageError."""
    pods: list[PodStatus] = yield InThread(lambda: all_pods(Store.here()))
    return pods


def status_pod(pod_id: str) -> Operation[PodStatus]:
    """Return a pod's status. Raises PodNotFoundError, StorageError."""
    store = Store.here()
    status: PodStatus = yield InThread(lambda: pod_status(store.roots, store.read(pod_id)))
    return status


def inspect_pod(pod_id: str) -> Operation[PodConfig]:
    """Return a pod's configuration, with the containers that it has now. Raises PodNotFoundError, StorageError."""
    store = Store.here()
    config: PodConfig = yield InThread(lambda: store.current_config(store.read(pod_id)))
    return config


def status_container(pod_id: str, container_id: str) -> Operation[ContainerStatus]:
    """Return a container's status. Raises PodNotFoundError, ContainerNotFoundError, StorageError."""
    store = Store.here()

    def look() -> ContainerStatus:
        record = effective_record(store.read(pod_id))
        return container_status(store.roots, pod_id, container_id, find_container(record, container_id))

    status: ContainerStatus = yield InThread(look)
    return status
