"""Operations that only read records and /proc; they import as little as that needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vc_core.client.interpreters import InThread, Operation, run_blocking
from vc_core.config.labels import checked_labels, has_labels
from vc_core.config.values import quoted
from vc_core.errors import ConfigError, VCError
from vc_core.results import ContainerStatus, PodStatus
from vc_core.store.status import all_pods, container_status, effective_record, only_container, pod_status
from vc_core.store.status import find_container as find_container_record
from vc_core.store.store import Store

if TYPE_CHECKING:
    from vc_core.config.pod import PodConfig


def find_pod(text: str) -> Operation[str]:
    """Return the id of the pod that ``text`` names. Raises PodNotFoundError, ConfigError, StorageError."""
    store = Store.here()

    def look() -> str:
        pod_id = store.find(text)
        if not store.exists(pod_id):
            raise store.not_found(text)
        return pod_id

    found: str = yield InThread(look)
    return found


def find_container(text: str) -> Operation[tuple[str, str]]:
    """Return the ids of a pod and of its container that ``text`` names: ``POD/CTR``, or ``POD`` of one container.

    Raises PodNotFoundError, ContainerNotFoundError, ConfigError, StorageError.
    """
    pod, separator, container_id = text.partition("/")
    pod_id = yield from find_pod(pod)
    store = Store.here()
    record = yield InThread(lambda: store.read(pod_id))
    if separator:
        find_container_record(record, container_id)
        return pod_id, container_id
    return pod_id, only_container(record)


def list_pods(labels: Mapping[str, str | None] | None = None) -> Operation[list[PodStatus]]:
    """Return the status of every pod, or of those with labels, sorted by id. Raises StorageError, ConfigError."""
    if labels is not None and not isinstance(labels, Mapping):
        raise ConfigError(f"labels is {quoted(labels)}; give a mapping of keys to values")
    wanted = labels or {}
    checked_labels({key: value or "" for key, value in wanted.items()})
    pods: list[PodStatus] = yield InThread(lambda: all_pods(Store.here()))
    return [one for one in pods if has_labels(one.labels, wanted)]


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
        return container_status(store.roots, pod_id, container_id, find_container_record(record, container_id))

    status: ContainerStatus = yield InThread(look)
    return status


def as_html(status: Operation[Any], name: str) -> str:
    """Return how a notebook shows what has the name ``name``: its status, as an operation reads it, or an error."""
    try:
        html: str = run_blocking(status)._repr_html_()
        return html
    except VCError as error:
        from vc_core import notebook

        return notebook.details(name, [("error", error)])
