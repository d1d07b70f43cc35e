"""The operations of the API that act on pods, each written once, for both interpreters; ``queries`` has the others."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from vc_core import trace
from vc_core.client.connect import connect, find_supervisor
from vc_core.client.foreground import Foreground, attend
from vc_core.client.interpreters import InThread, Operation
from vc_core.client.link import final_reply, request, result
from vc_core.client.starting import Starting
from vc_core.config.fields import check_type
from vc_core.config.ids import check_id, new_id, pod_uuid
from vc_core.config.pod import PodConfig
from vc_core.config.values import check_timeout
from vc_core.driver.process import ProcessIdentity
from vc_core.errors import BusyError, PodNotFoundError, StateError, StorageError, SupervisorError, VCError
from vc_core.host import processes
from vc_core.states import STOPPED_STATES, Action, State
from vc_core.store.records import ContainerRecord, PodRecord
from vc_core.store.status import at_rest, effective_record, require, vm_identity
from vc_core.store.store import LOCK_TIMEOUT, Store
from vc_core.supervisor.messages import Event, Start, Started, Stop, Streams
from vc_core.supervisor.messages import Progress as ProgressEvent
from vc_core.supervisor.wire import LOG_NAME

if TYPE_CHECKING:
    from vc_core.driver.guest import Progress

    pass

#: Seconds to wait for a supervisor to be gone after its pod stopped.
_GONE_TIMEOUT = 10.0

#: Seconds for a forced delete to be answered, and for the supervisor to end, before it is killed.
_ASK_TIMEOUT = 3.0

#: Seconds for a process that is killed to end.
_KILL_TIMEOUT = 10.0

#: Seconds for a driver to discard a VM that the core cannot find, the start of Python included.
_DISCARD_TIMEOUT = 20.0

#: Seconds for which a forced delete waits for the lock before it looks again for supervisors to kill.
_LOCK_RETRY = 0.2

_log = logging.getLogger(__name__)


def create_pod(config: PodConfig, progress: Progress | None = None) -> Operation[str]:
    """Create a pod and its containers; nothing is started. Return its id.

    Raises ConfigError, PodExistsError, DriverError, PrivilegeError, StorageError; nothing is left behind then.
    """
    return (yield from _create(Store.here(), config, progress))


def _create(store: Store, config: PodConfig, progress: Progress | None = None) -> Operation[str]:
    """Pull the images that are missing, and create a pod."""
    check_type("config", config, PodConfig)
    config = config if config.id else config.with_id(new_id())
    if not any(container.image for container in config.containers):
        return (yield from _store(store, config))
    from vc_core.client.images import with_images

    store.require_absent(config.id)  # before anything is pulled
    with ExitStack() as leases:
        return (yield from _store(store, (yield from with_images(config, store.roots, leases, progress))))


def _store(store: Store, config: PodConfig) -> Operation[str]:
    """Check a pod, whose images are on this host, and write it."""
    made: list[str] = []

    def work() -> str:
        from vc_core.engine import assembly
        from vc_core.plugins.registry import Plugins
        from vc_core.store.settings import read_settings

        store.require_absent(config.id)  # before any plug-in is loaded; the lock of a pod that runs is held
        defaults = read_settings(store.roots.environment).pod
        completed = defaults.complete(config)
        plugins = Plugins()
        with trace.span("check the configuration"):
            supervised = assembly.check(plugins, completed, store.roots)
        record = PodRecord(
            id=config.id,
            hypervisor=completed.hypervisor_type,
            agent=completed.agent_type,
            supervised=supervised,
            created_at=time.time(),
            strict=defaults.strict if config.strict is None else config.strict,
            containers={container.id: ContainerRecord() for container in config.containers},
        )
        with trace.span("write the pod"), store.locked(config.id):
            store.create(completed, record)
        made.append(config.id)
        plugins.notify_pod_transition(config.id, "", str(State.READY))
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
    strict: bool = False,
) -> Operation[int | None]:
    """Start a pod and its containers.

    ``timeout``: seconds that the guest has to get ready. ``strict``: from now on it runs in a full jail only.
    ``progress`` and ``started`` are called with the supervisor's events. With a foreground the exit code of its
    container is returned when it ended, else None at once.
    Raises PodNotFoundError, StateError, and what keeps the pod from starting; StateError in the foreground for a
    container that ended without an exit code.
    """
    return (yield from _start(Store.here(), pod_id, timeout, foreground, progress, started, strict))


def _start(
    store: Store,
    pod_id: str,
    timeout: float | None,
    foreground: Foreground | None,
    progress: Progress | None,
    started: Callable[[Started], None] | None,
    strict: bool = False,
    early: Starting | None = None,
) -> Operation[int | None]:
    record = effective_record(store.read(pod_id))
    require(record, Action.START_POD)
    check_timeout(timeout)

    def on_event(event: Event) -> None:
        if isinstance(event, ProgressEvent):
            if progress is not None:
                progress(event.phrase, event.fraction)
        elif started is not None:
            started(event)

    link = yield from connect(store, record, to_start=True, early=early)
    try:
        if foreground is None:
            # No end of its own: building a guest may take minutes, in which the supervisor sends progress.
            yield from request(link, Start(ready_timeout=timeout, strict=strict), _progress_timeout(timeout), on_event)
            return None
        container_id = foreground.container_id

        def start(streams: Streams) -> Start:
            return Start(ready_timeout=timeout, strict=strict, container=container_id, streams=streams)

        return (yield from attend(link, start, foreground, on_event))
    finally:
        yield from link.close()


def _progress_timeout(timeout: float | None) -> float:
    """Return how long a start may be silent: the guest's own timeout (60 s by default), and building a guest."""
    return 600.0 + (timeout or 0.0)


def stop_pod(pod_id: str, timeout: float | None = None, force: bool = False) -> Operation[None]:
    """Stop a pod, also one that is being started: its start is then undone.

    ``timeout``: seconds until it is killed (default 10). With ``force`` the guest is not asked.
    Raises PodNotFoundError, StateError, HypervisorError, SupervisorError.
    """
    store = Store.here()
    record = effective_record(store.read(pod_id))
    if record.intent != "start":
        require(record, Action.STOP_POD)
    check_timeout(timeout, zero=True)
    link = yield from connect(store, record)
    try:
        yield from request(link, Stop(timeout=timeout, force=force), timeout if timeout is not None else 10.0)
        if not (yield from link.wait_gone(_GONE_TIMEOUT)):
            raise SupervisorError("the pod stopped but its supervisor did not end; 'virtc pod delete --force' ends it")
    finally:
        yield from link.close()


def delete_pod(pod_id: str, force: bool = False) -> Operation[None]:
    """Delete a pod that does not run; with ``force`` a pod in any state, after it was stopped or killed.

    Raises PodNotFoundError, StateError, StorageError, and SupervisorError for a process that cannot be killed.
    """
    store = Store.here()
    found = store.exists(check_id("pod", pod_id))
    try:
        yield from _delete(store, pod_id, force)
    except PodNotFoundError:
        if not found or not force:
            raise
        # The client of a start that was aborted for this has deleted it.


def end_pod(pod_id: str) -> Operation[None]:
    """Stop a pod, so that its guest is done with the disks that it writes to, and delete it. No error if there is none.

    Called where a pod ends with something else. One that cannot be stopped or deleted is deleted by force, which looks
    for its processes. Raises StorageError, SupervisorError for a process that cannot be killed.
    """
    with suppress(PodNotFoundError):
        try:
            with suppress(StateError):  # it does not run
                yield from stop_pod(pod_id)
            yield from delete_pod(pod_id)
        except PodNotFoundError:
            raise
        except VCError:
            yield from delete_pod(pod_id, force=True)


def _delete(store: Store, pod_id: str, force: bool) -> Operation[None]:
    record = None if force else effective_record(store.read(pod_id))
    if record is None:
        yield from _end_by_force(store, pod_id)
    else:
        require(record, Action.DELETE_POD)
        identity = vm_identity(record)
        if identity is not None and identity.alive():
            raise StateError(
                f"pod {pod_id!r} is {record.state} but its VM still runs; stop it first, or delete it with --force",
                state=str(record.state),
                wanted=sorted(STOPPED_STATES),
            )

    def work() -> None:
        from vc_core.plugins.registry import Plugins

        with _locked_by_force(store, pod_id) if force else store.locked(pod_id):
            try:
                state = str(_not_running(store, pod_id, force))
            except StorageError:
                if not force:
                    raise
                state = str(State.FAILED)
            _lift_limits(store, pod_id, force)
            store.remove(pod_id)
        Plugins().notify_pod_transition(pod_id, state, "")

    yield InThread(work)


def _lift_limits(store: Store, pod_id: str, force: bool) -> None:
    """Take the size limits from the mounts of all containers. Raises StorageError; with ``force`` that is logged."""
    from vc_core.host import quota

    try:
        for container in store.read_config(pod_id).containers:
            quota.lift(container, pod_uuid(store.roots.pod_run_dir(pod_id)))
    except VCError as error:
        if not force:
            raise
        _log.warning("pod %s is deleted, but a size limit may be left: %s", pod_id, error)


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
    if record is None or record.supervised:
        with suppress(VCError):
            yield from _ask_to_stop(store, pod_id, time.monotonic() + _ASK_TIMEOUT)
    elif record.state in (State.RUNNING, State.PAUSED):
        yield InThread(lambda: _stop_elsewhere(store, pod_id))
    yield InThread(lambda: _kill_all(store, pod_id, record))
    if _may_have_left(store, pod_id):
        yield InThread(lambda: _discard_elsewhere(store, pod_id))


def _ask_to_stop(store: Store, pod_id: str, deadline: float) -> Operation[None]:
    """Ask the pod's supervisor, if it has one, to stop it without its guest, and return when the supervisor has ended.

    A start that is under way is aborted. Raises SupervisorError at the deadline, and what keeps the pod from stopping.
    """
    link = yield from find_supervisor(store, pod_id, deadline)
    if link is None:
        return
    try:
        link.send(Stop(timeout=None, force=True))
        while (reply := final_reply((yield from link.receive(deadline)), None)) is None:
            pass
        result(reply)
        yield from link.wait_gone(max(0.0, deadline - time.monotonic()))
    finally:
        yield from link.close()


def _stop_elsewhere(store: Store, pod_id: str) -> None:
    """Stop a pod that has no supervisor in a process of its own, because its driver may hang."""
    command = [sys.executable, "-P", "-c", "import sys, vc_core; vc_core.stop_pod(sys.argv[1], force=True)", pod_id]
    null, environment = subprocess.DEVNULL, store.roots.environment
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(command, timeout=_ASK_TIMEOUT, stdin=null, stdout=null, stderr=null, env=environment)


def _may_have_left(store: Store, pod_id: str) -> bool:
    """Return whether a pod that is being deleted did not stop, and its driver has to find its VM."""
    try:
        record = store.read(pod_id)
    except StorageError:
        return True
    return record.discards and not at_rest(record)


def _discard_elsewhere(store: Store, pod_id: str) -> None:
    """Let the pod's driver discard its VM in a process of its own, because it may hang; log why it does not."""
    command = [sys.executable, "-P", "-m", "vc_core.engine.leftovers", pod_id]
    null, environment = subprocess.DEVNULL, store.roots.environment
    try:
        done = subprocess.run(
            command, timeout=_DISCARD_TIMEOUT, stdin=null, stdout=subprocess.PIPE, stderr=null, env=environment
        )
        problem = done.stdout.decode(errors="replace").strip()
        if not problem and done.returncode:
            problem = f"its hypervisor driver ended the process with status {done.returncode}"
    except subprocess.TimeoutExpired:
        problem = f"its hypervisor driver did not discard it within {_DISCARD_TIMEOUT:g} s"
    if problem:
        _log.warning("pod %s is deleted, but its VM may be left: %s", pod_id, problem)


def _kill_all(store: Store, pod_id: str, record: PodRecord | None) -> None:
    run_dir = store.roots.pod_run_dir(pod_id)
    doomed = {*_supervisors(store, pod_id), *processes.find_vms(run_dir, pod_uuid(run_dir))}
    if record is not None and (identity := vm_identity(record)) is not None:
        doomed.add(identity)
    for identity in doomed:
        _kill(pod_id, identity)


def _supervisors(store: Store, pod_id: str) -> list[ProcessIdentity]:
    log = store.roots.pod_run_dir(pod_id) / LOG_NAME
    return processes.find_supervisors(pod_id, log, store.roots.pod_lock(pod_id))


def _kill(pod_id: str, process: ProcessIdentity) -> None:
    if not process.kill(_KILL_TIMEOUT):
        raise SupervisorError(f"process {process.pid} of pod {pod_id!r} does not end even when killed")


@contextmanager
def _locked_by_force(store: Store, pod_id: str) -> Iterator[None]:
    """Hold a pod's lock; kill supervisors that other clients start meanwhile. Raises BusyError, SupervisorError."""
    deadline = time.monotonic() + LOCK_TIMEOUT
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(store.locked(pod_id, _LOCK_RETRY))
                break
            except BusyError:
                if time.monotonic() > deadline:
                    raise
            for supervisor in _supervisors(store, pod_id):
                _kill(pod_id, supervisor)
        yield


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
    check_type("config", config, PodConfig)
    store = Store.here()
    config = config if config.id else config.with_id(new_id())
    supervisor = Starting(store, config.id)
    try:
        yield InThread(lambda: supervisor.spawn_early(config))
        return (yield from _run(store, config, supervisor, timeout, foreground, progress, created, started))
    finally:
        yield InThread(supervisor.close)


def _run(
    store: Store,
    config: PodConfig,
    supervisor: Starting,
    timeout: float | None,
    foreground: Foreground | None,
    progress: Progress | None,
    created: Callable[[str], None] | None,
    started: Callable[[Started], None] | None,
) -> Operation[tuple[str, int | None]]:
    pod_id = yield from _create(store, config, progress)
    running = False

    def on_started(event: Started) -> None:
        nonlocal running
        running = True
        if started is not None:
            started(event)

    try:
        if created is not None:
            created(pod_id)
        code = yield from _start(store, pod_id, timeout, foreground, progress, on_started, early=supervisor)
    except BaseException:
        if foreground is None or not running:
            with suppress(VCError):
                yield from _delete(store, pod_id, force=True)
        raise
    return pod_id, code
