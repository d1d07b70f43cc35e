"""Operations that only look: they read records and /proc, and import as little as that needs."""

from __future__ import annotations

from vc_core.interpreters import InThread, Operation
from vc_core.results import PodStatus
from vc_core.roots import Roots
from vc_core.status import all_pods, pod_status
from vc_core.store import Store


def list_pods() -> Operation[list[PodStatus]]:
    """Return the status of every pod, sorted by id."""
    pods: list[PodStatus] = yield InThread(lambda: all_pods(Store(Roots.from_environment())))
    return pods


def status_pod(pod_id: str) -> Operation[PodStatus]:
    """Return a pod's status. Raises PodNotFoundError, StorageError."""
    store = Store(Roots.from_environment())
    status: PodStatus = yield InThread(lambda: pod_status(store.roots, store.read(pod_id)))
    return status
