"""The operations of the API that act on pods, each written once, for both interpreters; ``queries`` has the others."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from vc_core.client.connect import connect, find_supervisor
from vc_core.client.foreground import Foreground, attend
from vc_core.client.interpreters import InThread, Operation
from vc_core.client.link import Link, request
from vc_core.config.ids import new_id, pod_uuid
from vc_core.config.pod import PodConfig
from vc_core.config.values import check_timeout
from vc_core.driver.guest import Progress
from vc_core.errors import StateError, StorageError, SupervisorError, VCError
from vc_core.host import processes
from vc_core.states import STOPPED_STATES, Action, State
from vc_core.store.records import ContainerRecord, PodRecord
from vc_core.store.status import effective_record, require, vm_identity
from vc_core.store.store import Store
from vc_core.supervisor.messages import Event, Start, Started, Stop, Streams
from vc_core.supervisor.messages import Progress as ProgressEvent
from vc_core.supervisor.wire import LOG_NAME

#: Seconds to wait for a supervisor to be gone after its pod stopped.
_GONE_TIMEOUT = 10.0

#: Seconds for a forced delete to be answered before the supervisor itself is killed.
_FORCE_TIMEOUT = 10.0


def create_pod(config: PodConfig) -> Operation[str]:
    """Create a pod and its containers; nothing is started. Return its id.

    Raises ConfigError, PodExistsError, DriverError, PrivilegeError, StorageError; nothing is left behind then.
    """
    config = config if config.id else config.with_id(new_id())
    store = Store.here()
    made: list[str] = []

    def work() -> str:
        from vc_core.engine import assembly
        from vc_core.plugins.registry import Plugins

        supervised = assembly.check(Plugins(), config, store.roots)
        record = PodRecord(
            id=config.id,
            hypervisor=config.hypervisor_type,
            agent=config.agent_type,
            supervised=supervised,
            created_at=time.time(),
            containers={container.id: ContainerRecord() for container in config.containers},
        )
        with store.locked(config.id):
            store.create(config, record)
        made.append(config.id)
        _notify(config.id, "", State.READY)
        return config.id

    try:
        pod_id: str = yield InThread(work)
    except BaseException:
        if made:  # cancelled while it was being made
            with suppress(VCError):
                yield InThread(lambda: _remove(store, config.id))
        raise
    return pod_id


def _remove(store: Store, pod_id: str) -> None:
    with store.locked(pod_id):
        store.remove(pod_id)


def start_pod(
    pod_id: str,
    timeout: float | None = None,
    foreground: Foreground | None = None,
    progress: Progress | None = None,
    started: Callable[[Started], None] | None = None,
) -> Operation[int | None]:
    """Start a pod and its containers.

    ``timeout``: seconds that the guest has to get ready. ``progress`` and ``started`` are called with the supervisor's
    events. With a foreground the exit code of its container is returned when it ended, else None at once.
    Raises PodNotFoundError, StateError, and what keeps the pod from starting; StateError in the foreground for a
    container that ended without an exit code.
    """
    store = Store.here()
    record = effective_record(store.read(pod_id))
    require(record, Action.START_POD)
    check_timeout(timeout)

    def on_event(event: Event) -> None:
        if isinstance(event, ProgressEvent):
            if progress is not None:
                progress(event.phrase, event.fraction)
        elif started is not None:
            started(event)

    link = yield from connect(store, record, to_start=True)
    try:
        if foreground is None:
            # No end of its own: building a guest may take minutes, in which the supervisor sends progress.
            yield from request(link, Start(ready_timeout=timeout), _progress_timeout(timeout), on_event)
            return None
        container_id = foreground.container_id

        def start(streams: Streams) -> Start:
            return Start(ready_timeout=timeout, container=container_id, streams=streams)

        return (yield from attend(link, start, foreground, on_event))
    finally:
        yield from link.close()


def _progress_timeout(timeout: float | None) -> float:
    """Return how long a start may be silent: the guest's own timeout (60 s by default), and building a guest."""
    return 600.0 + (timeout or 0.0)


def stop_pod(pod_id: str, timeout: float | None = None, force: bool = False) -> Operation[None]:
    """Stop a pod. ``timeout``: seconds until it is killed (default 10). With ``force`` the guest is not asked.

    Raises PodNotFoundError, StateError, HypervisorError, SupervisorError.
    """
    store = Store.here()
    record = effective_record(store.read(pod_id))
    require(record, Action.STOP_POD)
    check_timeout(timeout, zero=True)
    link = yield from connect(store, record)
    yield from _stop(link, timeout, force, timeout if timeout is not None else 10.0)


def _stop(link: Link, timeout: float | None, force: bool, answer_timeout: float) -> Operation[None]:
    try:
        yield from request(link, Stop(timeout=timeout, force=force), answer_timeout)
        if not (yield from link.wait_gone(_GONE_TIMEOUT)):
            raise SupervisorError("the pod stopped but its supervisor did not end; 'virtc pod delete --force' ends it")
    finally:
        yield from link.close()


def delete_pod(pod_id: str, force: bool = False) -> Operation[None]:
    """Delete a pod that does not run; with ``force`` a pod in any state, after it was stopped or killed.

    Raises PodNotFoundError, StateError, StorageError, and SupervisorError for a process that cannot be killed.
    """
    store = Store.here()
    if force:
        yield from _end_by_force(store, pod_id)
    else:
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
            try:
                state = str(_not_running(store, pod_id, force))
            except StorageError:
                if not force:
                    raise
                state = str(State.FAILED)
            store.remove(pod_id)
        _notify(pod_id, state, "")

    yield InThread(work)


def _not_running(store: Store, pod_id: str, force: bool) -> State:
    """Return the pod's state, read under its lock; raises StateError when it was started meanwhile."""
    record = effective_record(store.read(pod_id))
    if record.state in (State.RUNNING, State.PAUSED) and (record.supervised or not force):
        raise StateError(f"pod {pod_id!r} was started meanwhile", state=str(record.state), wanted=[])
    return record.state


def _end_by_force(store: Store, pod_id: str) -> Operation[None]:
    """End all processes of a pod: ask its supervisor to stop it, then kill what still runs. Raises SupervisorError."""
    record: PodRecord | None = None
    try:
        record = effective_record(store.read(pod_id))
    except StorageError:
        if not store.exists(pod_id):
            raise
    deadline = time.monotonic() + _FORCE_TIMEOUT
    if record is None or record.supervised:
        with suppress(VCError):
            link = yield from find_supervisor(store, pod_id, deadline)
            if link is not None:
                yield from _stop(link, None, True, 0.0)
    elif record.state in (State.RUNNING, State.PAUSED):
        yield InThread(lambda: _stop_elsewhere(pod_id))
    yield InThread(lambda: _kill_all(store, pod_id, record))


def _stop_elsewhere(pod_id: str) -> None:
    """Stop a pod that has no supervisor in a process of its own, because its driver may hang."""
    command = [sys.executable, "-P", "-c", "import sys, vc_core; vc_core.stop_pod(sys.argv[1], force=True)", pod_id]
    null = subprocess.DEVNULL
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(command, timeout=_FORCE_TIMEOUT, stdin=null, stdout=null, stderr=null)


def _kill_all(store: Store, pod_id: str, record: PodRecord | None) -> None:
    run_dir = store.roots.pod_run_dir(pod_id)
    doomed = {*processes.find_supervisors(pod_id, run_dir / LOG_NAME), *processes.find_vms(run_dir, pod_uuid(pod_id))}
    if record is not None and (identity := vm_identity(record)) is not None:
        doomed.add(identity)
    for identity in doomed:
        if not identity.kill(_FORCE_TIMEOUT):
            raise SupervisorError(f"process {identity.pid} of pod {pod_id!r} does not end even when killed")


def run_pod(
    config: PodConfig,
    timeout: float | None = None,
    foreground: Foreground | None = None,
    progress: Progress | None = None,
    created: Callable[[str], None] | None = None,
    started: Callable[[Started], None] | None = None,
) -> Operation[tuple[str, int | None]]:
    """Create a pod and start it; if that fails, delete it. Return its id, and the exit code of a foreground.

    ``created`` is called with the pod's id, ``started`` with the supervisor's event. Raises what :func:`create_pod` and
    :func:`start_pod` raise.
    """
    check_timeout(timeout)
    pod_id = yield from create_pod(config)
    running = False

    def on_started(event: Started) -> None:
        nonlocal running
        running = True
        if started is not None:
            started(event)

    try:
        if created is not None:
            created(pod_id)
        code = yield from start_pod(pod_id, timeout, foreground, progress, on_started)
    except BaseException:
        if foreground is None or not running:
            with suppress(VCError):
                yield from delete_pod(pod_id, force=True)
        raise
    return pod_id, code


def _notify(pod_id: str, old: str, new: str) -> None:
    """Notify extensions that a pod was created or deleted, and wait until they are: the process may end after this."""
    from vc_core.plugins.registry import Plugins

    plugins = Plugins()
    plugins.notify_pod_transition(pod_id, str(old), str(new))
    plugins.drain()
