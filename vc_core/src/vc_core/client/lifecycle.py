"""Operations that are made of others: on all containers of a pod, on several pods, or one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from vc_core.client.containers import kill_container, start_container, stop_container, wait_container
from vc_core.client.deletion import delete
from vc_core.client.interpreters import InThread, Operation
from vc_core.client.pods import start_pod, stop_pod
from vc_core.client.queries import list_pods
from vc_core.config.signals import number
from vc_core.config.values import check_timeout
from vc_core.errors import BusyError, ContainerNotFoundError, PodNotFoundError, StateError, StorageError
from vc_core.results import PodStatus
from vc_core.states import LIVE_STATES, STOPPABLE_STATES, Action, State
from vc_core.store.records import ContainerRecord, PodRecord
from vc_core.store.status import effective_record, exit_code, find_container, require
from vc_core.store.store import Store

if TYPE_CHECKING:
    from vc_core.driver.guest import Progress


def wait_pod(pod_id: str) -> Operation[dict[str, int | None]]:
    """Return the exit codes of a pod's containers once none of them runs; None for one that has no code.

    Raises PodNotFoundError, StateError for a pod that was never started.
    """
    store = Store.here()
    record = effective_record(store.read(pod_id))
    require(record, Action.WAIT_POD)
    codes: dict[str, int | None] = {}
    ended: dict[str, ContainerRecord] = {}  # as it was on record before: the disk may still refuse the end
    while True:
        now = record.containers
        running = {name: one for name, one in now.items() if one.state in LIVE_STATES and ended.get(name) != one}
        if not running:
            break
        for name, one in running.items():
            codes[name] = None
            with suppress(StateError, ContainerNotFoundError):  # it ended without a code, or was deleted meanwhile
                codes[name] = yield from wait_container(pod_id, name)
            ended[name] = one
        record = effective_record(store.read(pod_id))
    for name in (name for name, one in now.items() if one.state not in LIVE_STATES):
        codes[name] = None
        with suppress(StateError):
            codes[name] = exit_code(record, name)
    return {name: codes[name] for name in now}


def kill_pod(pod_id: str, signal: int | str) -> Operation[None]:
    """Send a signal to the main processes of all containers of a running pod.

    Raises PodNotFoundError, StateError, ConfigError for an unknown signal.
    """
    signum = number(signal)
    record = effective_record(Store.here().read(pod_id))
    require(record, Action.KILL_POD)
    for name, one in record.containers.items():
        if one.state in LIVE_STATES:
            try:
                yield from kill_container(pod_id, name, signum)
            except (StateError, ContainerNotFoundError):
                if effective_record(Store.here().read(pod_id)).state is not State.RUNNING:
                    raise  # else the container has just ended by itself


def restart_pod(
    pod_id: str, timeout: float | None = None, force: bool = False, progress: Progress | None = None
) -> Operation[None]:
    """Stop a pod if it runs, and start it. Raises what both raise."""
    check_timeout(timeout, zero=True)
    if effective_record(Store.here().read(pod_id)).state in STOPPABLE_STATES:
        with suppress(StateError):  # it has just stopped by itself
            yield from stop_pod(pod_id, timeout, force)
    yield from start_pod(pod_id, progress=progress)


def restart_container(
    pod_id: str, container_id: str, timeout: float | None = None, force: bool = False
) -> Operation[None]:
    """Stop a container if it runs, and start it. Raises what both raise."""
    check_timeout(timeout, zero=True)
    record = effective_record(Store.here().read(pod_id))
    if find_container(record, container_id).state in LIVE_STATES and record.state is State.RUNNING:
        with suppress(StateError):  # it has just ended by itself
            yield from stop_container(pod_id, container_id, timeout, force)
    yield from start_container(pod_id, container_id)


def prune_pods(
    labels: Mapping[str, str | None] | None = None, until: float | None = None, dry_run: bool = False
) -> Operation[list[PodStatus]]:
    """Delete the pods that are stopped and return them; see ``prune_pods`` of the API.

    Raises ConfigError, and StorageError when all others are deleted.
    """
    store = Store.here()
    found = [one for one in (yield from list_pods(labels)) if _is_prunable(one, until)]
    if dry_run:
        return found
    yield InThread(store.sweep)
    deleted, failure = [], None
    for one in found:
        try:
            yield from delete(store, one.id, force=False, still=partial(_is_same, one))
            deleted.append(one)
        except (PodNotFoundError, StateError, BusyError):  # deleted by another, or at work again
            continue
        except StorageError as error:
            failure = failure or error
    if failure is not None:
        raise failure
    return deleted


def _is_same(pod: PodStatus, record: PodRecord) -> bool:
    """Return whether a record is that of a pod that was found stopped, and nothing has become of it since."""
    found = (pod.state, pod.created_at, pod.changed_at)
    return found == (record.state, record.created_at, record.changed_at)


def _is_prunable(pod: PodStatus, until: float | None) -> bool:
    stopped_at = pod.changed_at or pod.created_at or 0.0
    return pod.state is State.STOPPED and (until is None or stopped_at <= until)
