"""Finds where the records, processes and files of pods disagree, and mends that.

What another process is at work on, whose lock it holds, is left to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from vc_core.client.connect import connect
from vc_core.client.interpreters import InThread, Operation
from vc_core.config.ids import ID_PATTERN, pod_uuid
from vc_core.errors import BusyError, PodNotFoundError, StorageError, SupervisorError, VCError
from vc_core.host import processes
from vc_core.results import Repair
from vc_core.store import files
from vc_core.store.status import at_rest, effective_record
from vc_core.store.store import Store

#: Seconds for a process that is killed to end.
_KILL_TIMEOUT = 10.0


def repair(apply: bool) -> Operation[list[Repair]]:
    """Return what disagrees; with ``apply`` mend it first. Raises StorageError for roots that cannot be read."""
    store = Store.here()
    found: list[Repair] = []
    for pod_id in store.ids():
        one: Repair | None = yield InThread(partial(_examine, store, pod_id))
        if one is not None:
            found.append((yield from _mend(store, one)) if apply and one.remedy else one)
    strays: list[Repair] = yield InThread(lambda: [_examine_stray(store, path, apply) for path in _strays(store)])
    return found + strays


def _examine(store: Store, pod_id: str) -> Repair | None:
    """Return what disagrees about a pod; None if nothing does, or another process is at work on it."""
    try:
        with store.locked(pod_id, 0):
            stored = store.read(pod_id)
            now = effective_record(stored)
            if stored.intent:
                return Repair(pod_id, f"its {stored.intent} was interrupted", "end what is left of it")
            if now.state is not stored.state:
                return Repair(pod_id, f"its record says {stored.state}, but {now.reason}", f"record it as {now.state}")
            run_dir = store.roots.pod_run_dir(pod_id)
            if at_rest(now) and (left := processes.find_vms(run_dir, pod_uuid(run_dir))):
                pids = ", ".join(str(one.pid) for one in left)
                return Repair(pod_id, f"it is {now.state}, but its VM runs (process {pids})", "kill the process")
            if now.supervised and not at_rest(now):
                return Repair(pod_id, "its VM runs without a supervisor", "start a supervisor, which takes it over")
    except (BusyError, PodNotFoundError):
        return None
    except StorageError as error:
        return Repair(
            pod_id, str(error), "", problem=f"if that stays, 'virtc pod delete --force {pod_id}' removes the pod"
        )
    return None


def _mend(store: Store, one: Repair) -> Operation[Repair]:
    """Mend what disagrees about a pod: whatever gets in charge of it makes its record agree with what is there."""
    try:
        yield InThread(lambda: _kill_unrecorded(store, one.pod))
        link = yield from connect(store, effective_record(store.read(one.pod)))
        yield from link.close()
    except VCError as error:
        return one.failed(error)
    return one.done()


def _kill_unrecorded(store: Store, pod_id: str) -> None:
    """Kill the processes of a VM that is not on record. Raises SupervisorError, BusyError, StorageError."""
    with store.locked(pod_id, 0):
        if at_rest(effective_record(store.read(pod_id))):
            _kill_vms(pod_id, store.roots.pod_run_dir(pod_id))


def _kill_vms(pod_id: str, run_dir: Path) -> None:
    for process in processes.find_vms(run_dir, pod_uuid(run_dir)):
        if not process.kill(_KILL_TIMEOUT):
            raise SupervisorError(f"process {process.pid} of pod {pod_id!r} does not end even when killed")


def _strays(store: Store) -> Iterator[Path]:
    """Yield the directories below the run root that belong to no pod and that no process is at work on."""
    with suppress(FileNotFoundError):
        for path in sorted((store.roots.run / "pods").iterdir()):
            if ID_PATTERN.fullmatch(path.name) and not store.exists(path.name):
                yield path


def _examine_stray(store: Store, path: Path, apply: bool) -> Repair:
    one = Repair(path.name, f"{str(path)!r} belongs to no pod", "end its processes and remove it")
    if not apply:
        return one
    try:
        with store.locked(path.name, 0):
            if not store.exists(path.name):
                _kill_vms(path.name, path)
                files.remove_tree(path)
    except VCError as error:
        return one.failed(error)
    return one.done()
