"""Deletes pods by their ids.

A container engine deletes what has ended by itself, and waits for that: for a pod that is gone nothing is loaded here
but the store.
"""

from __future__ import annotations

from vc_core.client.interpreters import InThread, Operation
from vc_core.config.ids import check_id
from vc_core.errors import PodNotFoundError
from vc_core.store.store import Store


def delete_pod(pod_id: str, force: bool = False) -> Operation[None]:
    """Delete a pod that does not run; with ``force`` a pod in any state, after it was stopped or killed.

    Raises PodNotFoundError, StateError, StorageError, and SupervisorError for a process that cannot be killed.
    """
    store = Store.here()
    found = store.exists(check_id("pod", pod_id))
    yield InThread(store.sweep)
    if not found and not store.exists(pod_id):
        raise store.not_found(pod_id)
    from vc_core.client.deletion import delete

    try:
        yield from delete(store, pod_id, force)
    except PodNotFoundError:
        if not found or not force:
            raise
        # Its supervisor has deleted it, or the client of a start that was aborted for this; which may have been killed.
        yield InThread(store.sweep)
