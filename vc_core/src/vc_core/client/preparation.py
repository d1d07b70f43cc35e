"""Begins to start pods whose configuration is not there yet. It loads little itself: the supervisor loads meanwhile."""

from __future__ import annotations

from vc_core.client.interpreters import InThread, Operation
from vc_core.client.starting import Starting, begin_early
from vc_core.config.ids import check_id, new_id
from vc_core.store.store import Store


def begin(pod_id: str) -> Operation[Starting]:
    """Begin to start a pod; "" is a new id. Return what ``run_pod`` is given. Raises ConfigError, StorageError."""
    if pod_id:
        check_id("pod", pod_id)
    store = Store.here()
    starting: Starting = yield InThread(lambda: begin_early(store, pod_id or new_id()))
    return starting


def give_up(starting: Starting) -> Operation[None]:
    """End what was begun, unless it was used."""
    yield InThread(starting.close)
