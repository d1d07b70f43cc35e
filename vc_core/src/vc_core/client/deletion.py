"""Deletes pods: those that do not run, and by force those in any state, whose processes are ended first."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress

from vc_core.client import ending, kept_links
from vc_core.client.connect import find_supervisor
from vc_core.client.interpreters import InThread, Operation
from vc_core.client.link import final_reply, result
from vc_core.driver.process import frozen
from vc_core.engine import removal
from vc_core.errors import (
    BusyError,
    StateError,
    StorageError,
    SupervisorLostError,
    VCError,
)
from vc_core.states import STOPPED_STATES, Action, State
from vc_core.store.records import PodRecord
from vc_core.store.status import effective_record, require, vm_identity
from vc_core.store.store import LOCK_TIMEOUT, Store
from vc_core.supervisor.messages import Stop

#: Seconds for a forced delete to be answered, and for the supervisor to end, before it is killed.
_ASK_TIMEOUT = 3.0

#: Seconds for a supervisor that holds the lock to listen, before it is killed: another client may be starting it.
_LISTEN_TIMEOUT = 1.5

#: Seconds for which a forced delete waits for the lock before it looks again for supervisors to kill.
_LOCK_RETRY = 0.2

_log = logging.getLogger(__name__)


def delete(store: Store, pod_id: str, force: bool, still: Callable[[PodRecord], bool] | None = None) -> Operation[None]:
    """Delete a pod that exists; without ``force`` only if its record is ``still`` as the caller wants it.

    Raises as ``removing.delete_pod``, and PodNotFoundError for one that another has deleted.
    """
    kept_links.close(store.roots.pod_run_dir(pod_id))
    if force:
        yield from _delete_by_force(store, pod_id)
        return
    record = effective_record(store.read(pod_id))
    require(record, Action.DELETE_POD)
    identity = vm_identity(record)
    if identity is not None and identity.alive():
        raise StateError(
            f"pod {pod_id!r} is {record.state} but its VM still runs; stop it first, or delete it with --force",
            state=str(record.state),
            wanted=sorted(STOPPED_STATES),
        )

    def work() -> None:
        with store.locked(pod_id):
            state = _not_running(store, pod_id, force=False)
            record = effective_record(store.read(pod_id))
            if still is not None and not still(record):
                raise StateError(f"pod {pod_id!r} has changed meanwhile", state=str(state), wanted=[])
            if record.supervised and record.intent == "start":  # which has left a VM that is on no record
                ending.kill_vms(store, pod_id, record)
            if ending.may_have_left(store, pod_id):  # its VM has ended, which nobody has recorded
                ending.discard_elsewhere(store, pod_id, time.monotonic())
            removal.remove(store, pod_id, force=False)
        _notify_deleted(pod_id, state)

    yield InThread(work)


def _delete_by_force(store: Store, pod_id: str) -> Operation[None]:
    """End all processes of a pod and delete it.

    Its supervisor is asked to stop the pod, which aborts a start, and one that does not answer is killed; one that
    cannot be found, although something holds the pod's lock, is killed too. Raises SupervisorError, BusyError.
    """
    record = _record_if_whole(store, pod_id)
    if record is not None and not record.supervised and record.state in (State.RUNNING, State.PAUSED):
        yield InThread(lambda: ending.stop_elsewhere(store, pod_id))

    def work() -> None:
        with store.locked(pod_id, _LOCK_RETRY):
            ending.kill_vms(store, pod_id, _record_if_whole(store, pod_id))
            if ending.may_have_left(store, pod_id):
                ending.discard_elsewhere(store, pod_id, began)
            try:
                state = _not_running(store, pod_id, force=True)
            except StorageError:
                state = State.FAILED
            removal.remove(store, pod_id, force=True)
        _notify_deleted(pod_id, state)

    began = seen = time.monotonic()
    deadline = began + LOCK_TIMEOUT
    yield InThread(lambda: store.remove_planted_lock(pod_id))
    while True:
        found = yield from _ask_to_stop(store, pod_id, time.monotonic() + _ASK_TIMEOUT)
        if found:
            seen = time.monotonic()
        elif time.monotonic() - seen > _LISTEN_TIMEOUT:
            yield InThread(lambda: ending.kill_supervisors(store, pod_id))
        try:
            yield InThread(work)
            return
        except BusyError:
            if time.monotonic() > deadline:
                raise


def _record_if_whole(store: Store, pod_id: str) -> PodRecord | None:
    """Return the effective record of a pod, None if it is broken. Raises PodNotFoundError."""
    try:
        return effective_record(store.read(pod_id))
    except StorageError:
        if not store.exists(pod_id):
            raise
        return None


def _notify_deleted(pod_id: str, state: State) -> None:
    from vc_core.plugins.registry import Plugins

    Plugins().notify_pod_transition(pod_id, str(state), "")


def _not_running(store: Store, pod_id: str, force: bool) -> State:
    """Return the pod's state, read under its lock; raises StateError when it was started meanwhile."""
    record = effective_record(store.read(pod_id))
    if record.state in (State.RUNNING, State.PAUSED) and (record.supervised or not force):
        raise StateError(f"pod {pod_id!r} was started meanwhile", state=str(record.state), wanted=[])
    return record.state


def _ask_to_stop(store: Store, pod_id: str, deadline: float) -> Operation[bool]:
    """Ask the pod's supervisor, if it has one, to stop and delete it without its guest; return when that has ended.

    A start that is under way is aborted. A supervisor that is frozen, or does not do it until the deadline, is killed.
    Returns whether there was a supervisor. Raises SupervisorError for one that cannot be killed.
    """
    if any(frozen(supervisor.pid) for supervisor in (yield InThread(lambda: ending.supervisors(store, pod_id)))):
        yield InThread(lambda: ending.kill_supervisors(store, pod_id))
        return True
    try:
        link = yield from find_supervisor(store, pod_id, deadline)
        if link is None:
            return False
        try:
            link.send(Stop(timeout=None, force=True, discard=True))
            while (reply := final_reply((yield from link.receive(deadline)), None)) is None:
                pass
            with suppress(StateError):  # it has just stopped
                result(reply)
            if (yield from link.wait_gone(max(0.0, deadline - time.monotonic()))):
                return True
        finally:
            yield from link.close()
    except SupervisorLostError:
        return True
    except VCError as error:
        _log.info("pod %s: its supervisor is killed: %s", pod_id, error)
    yield InThread(lambda: ending.kill_supervisors(store, pod_id))
    return True
