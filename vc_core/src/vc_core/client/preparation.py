"""Begins to start pods whose configuration is not there yet. It loads little itself: the supervisor loads meanwhile."""

from __future__ import annotations

import threading
from contextlib import suppress
from importlib import import_module

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
    if starting.waits:
        threading.Thread(target=_load, daemon=True).start()
    return starting


def _load() -> None:
    """Load what the start of a pod needs here, while the caller waits for something else."""
    with suppress(Exception):  # which is raised again where the module is needed
        for name in ("plugins.discovery", "supervisor.early", "client.opening", "engine.assembly", "plugins.registry"):
            import_module(f"vc_core.{name}")


def give_up(starting: Starting) -> Operation[None]:
    """End what was begun, unless it was used."""
    yield InThread(starting.close)
