"""The operations of the API that act on pods, each written once, for both interpreters; ``queries`` has the others."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, TypeVar

from vc_core import trace
from vc_core.client import ending
from vc_core.client.connect import connect, find_supervisor, until_served
from vc_core.client.deletion import delete
from vc_core.client.foreground import Foreground, attend
from vc_core.client.interpreters import InThread, Operation, Ready, of_the_caller
from vc_core.client.link import Link, request
from vc_core.client.removing import delete_pod
from vc_core.client.starting import Starting
from vc_core.config.fields import check_type
from vc_core.config.ids import new_id
from vc_core.config.pod import PodConfig
from vc_core.config.values import check_timeout
from vc_core.errors import (
    PodNotFoundError,
    StateError,
    StorageError,
    SupervisorError,
    SupervisorLeavingError,
    SupervisorLostError,
    VCError,
)
from vc_core.states import Action, State
from vc_core.store.records import ContainerRecord, PodRecord
from vc_core.store.status import at_rest, effective_record, require
from vc_core.store.store import Store
from vc_core.supervisor.messages import Event, Pause, Request, Resume, Start, Started, Stop, Streams
from vc_core.supervisor.messages import Progress as ProgressEvent

if TYPE_CHECKING:
    from vc_core.driver.guest import Progress

_T = TypeVar("_T")

#: Seconds for a supervisor to greet, before it is looked at whether it is frozen.
_GREETING_TIMEOUT = 0.5

#: Seconds for a pod to be deleted whose supervisor was lost, and seconds between two looks at that.
_DELETION_TIMEOUT, _DELETION_INTERVAL = 1.0, 0.05

#: Seconds to wait for a supervisor to be gone after its pod stopped.
_GONE_TIMEOUT = 10.0

#: Seconds between two looks at whether somebody has started the pod again meanwhile.
_GONE_INTERVAL = 0.2


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
            labels=dict(completed.labels),
            containers={container.id: ContainerRecord() for container in config.containers},
        )
        store.sweep()
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
    store = Store.here()

    def start() -> Operation[int | None]:
        return _start(store, pod_id, timeout, foreground, progress, started, strict)

    return (yield from until_served(start))


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
                with of_the_caller():
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
    except SupervisorLeavingError:
        raise
    except SupervisorLostError as error:
        if (yield from _is_deleted(store, pod_id)):
            message = f"the start of pod {pod_id!r} was aborted: the pod was deleted meanwhile"
            raise StateError(message, state="", wanted=[]) from error
        raise
    finally:
        yield from link.close()


def _is_deleted(store: Store, pod_id: str) -> Operation[bool]:
    """Return whether a pod whose supervisor was lost is deleted: who deletes it by force kills the supervisor first."""
    deadline = time.monotonic() + _DELETION_TIMEOUT
    while store.exists(pod_id):
        if time.monotonic() > deadline:
            return False
        yield Ready(deadline=time.monotonic() + _DELETION_INTERVAL)
    return True


def _progress_timeout(timeout: float | None) -> float:
    """Return how long a start may be silent: the guest's own timeout (60 s by default), and building a guest."""
    return 600.0 + (timeout or 0.0)


def stop_pod(pod_id: str, timeout: float | None = None, force: bool = False) -> Operation[None]:
    """Stop a pod, also one that is being started: its start is then undone.

    ``timeout``: seconds until it is killed (default 10; 4 with ``force``). With ``force`` the guest is not asked.
    Raises PodNotFoundError, StateError, HypervisorError, SupervisorError.
    """
    store = Store.here()
    check_timeout(timeout, zero=True)
    yield from until_served(lambda: _stop(store, pod_id, timeout, force))


def _stop(store: Store, pod_id: str, timeout: float | None, force: bool) -> Operation[None]:
    record = effective_record(store.read(pod_id))
    if record.intent != "start":
        require(record, Action.STOP_POD)
    link = yield from _connect_to_stop(store, record, force)
    if link is None:
        return
    try:
        yield from request(link, Stop(timeout=timeout, force=force), timeout if timeout is not None else 10.0)
        yield from _wait_released(store, link, pod_id)
    finally:
        yield from link.close()


def _connect_to_stop(store: Store, record: PodRecord, force: bool) -> Operation[Link | None]:
    """Return a connection to the pod's supervisor, a new one if that is frozen; None if the pod has stopped with it."""
    try:
        link = yield from find_supervisor(store, record.id, time.monotonic() + _GREETING_TIMEOUT)
        if link is not None:
            return link
    except SupervisorError:
        if (yield InThread(lambda: ending.end_frozen(store, record.id, force))):
            return None
    return (yield from connect(store, record))


def _wait_released(store: Store, link: Link, pod_id: str) -> Operation[None]:
    """Wait until the supervisor of a pod that was stopped has ended, or the pod is started again or deleted.

    Raises SupervisorError.
    """
    deadline = time.monotonic() + _GONE_TIMEOUT
    while not (yield from link.wait_gone(_GONE_INTERVAL)):
        try:
            if not at_rest(effective_record(store.read(pod_id))):
                return
        except (PodNotFoundError, StorageError):
            return
        if time.monotonic() > deadline:
            raise SupervisorError("the pod stopped but its supervisor did not end; 'virtc pod delete --force' ends it")


def pause_pod(pod_id: str) -> Operation[None]:
    """Stop the CPUs of a running pod. Raises PodNotFoundError, StateError, NotSupportedError, HypervisorError."""
    yield from _ask(pod_id, Action.PAUSE_POD, Pause())


def resume_pod(pod_id: str) -> Operation[None]:
    """Let a paused pod go on. Raises PodNotFoundError, StateError, HypervisorError, AgentError."""
    yield from _ask(pod_id, Action.RESUME_POD, Resume())


def _ask(pod_id: str, action: Action, message: Request) -> Operation[None]:
    """Send a request about a pod whose state allows it, and wait for its answer."""
    store = Store.here()

    def ask() -> Operation[None]:
        record = effective_record(store.read(pod_id))
        require(record, action)
        link = yield from connect(store, record)
        try:
            yield from request(link, message, 0.0)
        finally:
            yield from link.close()

    yield from until_served(ask)


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


def run_pod(
    config: PodConfig,
    timeout: float | None = None,
    foreground: Foreground | None = None,
    progress: Progress | None = None,
    created: Callable[[str], None] | None = None,
    started: Callable[[Started], None] | None = None,
    supervisor: Starting | None = None,
) -> Operation[tuple[str, int | None]]:
    """Create a pod and start it; if that fails, delete it. Return its id, and the exit code of a foreground.

    ``created`` is called with the pod's id, ``started`` with the supervisor's event. ``supervisor``: one that was
    spawned for a pod with a new id, which this closes. Raises what :func:`create_pod` and :func:`start_pod` raise.
    """
    store = Store.here()
    running = False

    def on_started(event: Started) -> None:
        nonlocal running
        running = True
        if started is not None:
            started(event)

    def start(pod_id: str, early: Starting) -> Operation[int | None]:
        if created is not None:
            created(pod_id)
        return _start(store, pod_id, timeout, foreground, progress, on_started, early=early)

    supervisor = supervisor or Starting(store, new_id())

    def kept() -> bool:
        return foreground is not None and running

    return (yield from create_and_start(store, config, supervisor, start, timeout, progress, kept))


def create_and_start(
    store: Store,
    config: PodConfig,
    supervisor: Starting,
    start: Callable[[str, Starting], Operation[_T]],
    timeout: float | None = None,
    progress: Progress | None = None,
    kept: Callable[[], bool] = lambda: False,
) -> Operation[tuple[str, _T]]:
    """Create a pod, start it by ``start``, and return its id and the result; if that fails, delete it.

    ``start`` is given the pod's id, and its supervisor, which may wait for it. ``supervisor``: as for :func:`run_pod`.
    ``timeout``: that of the start, which is checked before. ``kept``: whether a pod whose ``start`` fails is kept, as
    one that ran. Raises what creation and start raise.
    """
    try:
        check_timeout(timeout)
        check_type("config", config, PodConfig)
        if config.id and config.id != supervisor.pod_id:
            yield InThread(supervisor.close)
            supervisor = Starting(store, config.id)
        config = config.with_id(supervisor.pod_id)
        early = supervisor
        yield InThread(lambda: early.spawn_early(config))
        pod_id = yield from _create(store, config, progress)
        try:
            result = yield from start(pod_id, supervisor)
            yield from _close(supervisor)
        except BaseException:
            if not kept():
                with suppress(VCError):
                    yield from delete(store, pod_id, force=True)
            raise
    except BaseException:
        yield from _close(supervisor)
        raise
    # No step follows: a caller that is cancelled at one would have no pod, and one would run.
    return pod_id, result


def _close(supervisor: Starting) -> Operation[None]:
    if supervisor.waits:
        yield InThread(supervisor.close)
