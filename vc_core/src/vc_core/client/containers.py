"""The operations of the API that act on containers, and commands in pods; each written once, for both interpreters."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from vc_core.client import container_sources, kept_links
from vc_core.client.connect import ask, connect
from vc_core.client.foreground import NO_TERMINAL, Caller, Foreground, attend, on_started, run_with_streams
from vc_core.client.interpreters import Operation, Ready
from vc_core.client.link import Link
from vc_core.client.stdio import Output, Stdin, Stdio
from vc_core.config.container import Cmd, ContainerConfig
from vc_core.config.fields import check_type
from vc_core.config.ids import check_id
from vc_core.config.signals import number
from vc_core.config.values import check_timeout
from vc_core.errors import ConfigError, SupervisorLostError
from vc_core.results import ContainerUsage, ExecResult
from vc_core.states import LIVE_STATES, Action
from vc_core.store import files
from vc_core.store.records import PodRecord
from vc_core.store.status import effective_record, exit_code, find_container, require
from vc_core.store.store import Store
from vc_core.supervisor.messages import (
    CreateContainer,
    DeleteContainer,
    Exec,
    KillContainer,
    PauseContainer,
    ResumeContainer,
    StartContainer,
    Started,
    StatsContainer,
    StopContainer,
    Streams,
    UpdateContainer,
    WaitContainer,
)

if TYPE_CHECKING:
    from vc_core.driver.guest import Progress

#: Seconds that the guest may take to start a container: START_TIMEOUT of the engine, whose modules no client loads.
_START_TIMEOUT = 30.0


def create_container(pod_id: str, config: ContainerConfig, progress: Progress | None = None) -> Operation[str]:
    """Add a container to a pod, whether it runs or not; it is not started. Return its id.

    Raises PodNotFoundError, ContainerExistsError, ConfigError, ImageError, StorageError.
    """
    from vc_core.host import sources
    from vc_core.host.paths import Rules

    check_type("config", config, ContainerConfig)
    store = Store.here()
    record = effective_record(store.read(pod_id))
    with ExitStack() as leases:
        if config.image:
            from vc_core.client.images import with_image

            config = yield from with_image(config, store.roots, leases, progress)
        if record.supervised:
            sources.check_container(config, Rules(store.roots))
        yield from ask(store, record, CreateContainer(config=config))
    return config.id


def start_container(
    pod_id: str,
    container_id: str,
    foreground: Foreground | None = None,
    started: Callable[[Started], None] | None = None,
) -> Operation[int | None]:
    """Start a container of a running pod, for the first time or again.

    With a foreground its exit code is returned when it ended, else None at once; ``started`` is called meanwhile.
    Raises PodNotFoundError, ContainerNotFoundError, StateError, CommandError; StateError in the foreground for a
    container that ended without an exit code.
    """
    store = Store.here()
    record = effective_record(store.read(pod_id))
    _require_ended(record, Action.START_CONTAINER, container_id)
    with container_sources.passed(store, record, container_id) as sources:
        if foreground is None:
            message = StartContainer(container=container_id, sources=len(sources))
            yield from ask(store, record, message, _START_TIMEOUT, sources)
            return None
        link = yield from connect(store, record)
        try:

            def start(streams: Streams) -> StartContainer:
                return StartContainer(container=container_id, streams=streams, sources=len(sources))

            return (yield from attend(link, start, foreground, on_started(started), sources))
        finally:
            yield from link.close()


def _require_ended(record: PodRecord, action: Action, container_id: str) -> None:
    """Refuse an operation on a container that runs, but leave that to the engine if it runs according to its record.

    The disk may have refused the record of its end, which the engine has in memory. Raises StateError,
    ContainerNotFoundError.
    """
    if find_container(record, container_id).state not in LIVE_STATES:
        require(record, action, container_id)


def stop_container(
    pod_id: str, container_id: str, timeout: float | None = None, force: bool = False
) -> Operation[None]:
    """Stop a running container. ``timeout``: seconds until it is killed (default 10); ``force`` kills at once.

    Raises PodNotFoundError, ContainerNotFoundError, StateError.
    """
    store = Store.here()
    record = effective_record(store.read(pod_id))
    require(record, Action.STOP_CONTAINER, container_id)
    check_timeout(timeout, zero=True)
    message = StopContainer(container=container_id, timeout=timeout, force=force)
    yield from ask(store, record, message, timeout or 0.0)


def kill_container(pod_id: str, container_id: str, signal: int | str) -> Operation[None]:
    """Send a signal, by name or number, to the main process of a running container.

    Raises PodNotFoundError, ContainerNotFoundError, StateError, ConfigError for an unknown signal.
    """
    signum = number(signal)
    store = Store.here()
    record = effective_record(store.read(pod_id))
    require(record, Action.KILL_CONTAINER, container_id)
    yield from ask(store, record, KillContainer(container=container_id, signal=signum))


def pause_container(pod_id: str, container_id: str) -> Operation[None]:
    """Suspend all processes of a running container.

    Raises PodNotFoundError, ContainerNotFoundError, StateError, NotSupportedError.
    """
    store = Store.here()
    record = effective_record(store.read(pod_id))
    require(record, Action.PAUSE_CONTAINER, container_id)
    yield from ask(store, record, PauseContainer(container=container_id))


def resume_container(pod_id: str, container_id: str) -> Operation[None]:
    """Let the processes of a paused container go on.

    Raises PodNotFoundError, ContainerNotFoundError, StateError.
    """
    store = Store.here()
    record = effective_record(store.read(pod_id))
    require(record, Action.RESUME_CONTAINER, container_id)
    yield from ask(store, record, ResumeContainer(container=container_id))


def update_container(
    pod_id: str,
    container_id: str,
    memory: int | None = None,
    pids: int | None = None,
    cpus: float | None = None,
) -> Operation[None]:
    """Change the limits of a container, whether it runs or not: MiB, processes, processors.

    None: as it is; 0: no limit. Raises PodNotFoundError, ContainerNotFoundError, ConfigError, NotSupportedError.
    """
    wanted = {name: value for name, value in (("memory", memory), ("pids", pids), ("cpus", cpus)) if value is not None}
    ContainerConfig(id=container_id, **wanted)  # type: ignore[arg-type] # which validates the values
    store = Store.here()
    record = effective_record(store.read(pod_id))
    require(record, Action.UPDATE_CONTAINER, container_id)
    yield from ask(store, record, UpdateContainer(container=container_id, memory=memory, pids=pids, cpus=cpus))


def delete_container(pod_id: str, container_id: str, force: bool = False) -> Operation[None]:
    """Delete a container that does not run; with ``force`` kill it first.

    Raises PodNotFoundError, ContainerNotFoundError, StateError, StorageError.
    """
    store = Store.here()
    record = effective_record(store.read(pod_id))
    find_container(record, container_id)
    if not force:
        _require_ended(record, Action.DELETE_CONTAINER, container_id)
    yield from ask(store, record, DeleteContainer(container=container_id, force=force))


def stats_container(pod_id: str, container_id: str) -> Operation[ContainerUsage]:
    """Return what a running container uses.

    Raises PodNotFoundError, ContainerNotFoundError, StateError, NotSupportedError.
    """
    store = Store.here()
    record = effective_record(store.read(pod_id))
    require(record, Action.STATS_CONTAINER, container_id)
    answer = yield from ask(store, record, StatsContainer(container=container_id))
    assert answer.usage is not None
    return answer.usage


def wait_container(pod_id: str, container_id: str) -> Operation[int]:
    """Return a container's exit code once it ended; a supervisor that is lost meanwhile is replaced.

    Raises PodNotFoundError, ContainerNotFoundError, StateError for one that never ran or ended without an exit code.
    """
    store = Store.here()
    record = effective_record(store.read(pod_id))
    require(record, Action.WAIT_CONTAINER, container_id)
    while find_container(record, container_id).state in LIVE_STATES:
        if record.supervised:
            with suppress(SupervisorLostError):
                answer = yield from ask(store, record, WaitContainer(container=container_id), None)
                return answer.code
        else:
            yield from _watch(store, pod_id, container_id)
        record = effective_record(store.read(pod_id))
    return exit_code(record, container_id)


def _watch(store: Store, pod_id: str, container_id: str) -> Operation[None]:
    """Return when a container of a pod without a supervisor has ended: the process that ends it writes the record."""
    watch = files.watch(store.roots.pod_state_dir(pod_id))
    try:
        while find_container(store.read(pod_id), container_id).state in LIVE_STATES:
            yield Ready(read=[watch])
            os.read(watch, 4096)
    finally:
        os.close(watch)


def enter_container(
    pod_id: str,
    container_id: str,
    cmd: Cmd,
    stdin: Stdin = None,
    stdout: Output = None,
    stderr: Output = None,
    timeout: float | None = None,
    caller: Caller = NO_TERMINAL,
    started: Callable[[Started], None] | None = None,
    max_output: int | None = None,
) -> Operation[ExecResult]:
    """Run a command in a running container and return how it ended. ``started`` is called once it runs.

    Raises what :func:`enter_pod` raises, and ContainerNotFoundError.
    """
    check_command(cmd, timeout)
    stdio = Stdio(stdin, stdout, stderr, caller.detach_keys, max_output)
    return (yield from _execute(pod_id, container_id, cmd, stdio, timeout, caller, started))


def enter_pod(
    pod_id: str,
    cmd: Cmd,
    stdin: Stdin = None,
    stdout: Output = None,
    stderr: Output = None,
    timeout: float | None = None,
    caller: Caller = NO_TERMINAL,
    started: Callable[[Started], None] | None = None,
    max_output: int | None = None,
) -> Operation[ExecResult]:
    """Run a command in a running pod, outside of its containers, and return how it ended.

    ``started`` is called once it runs.
    Raises PodNotFoundError, StateError, ConfigError, CommandError, CommandTimeoutError, SupervisorLostError,
    HypervisorError when the VM ends meanwhile, NotSupportedError.
    """
    check_command(cmd, timeout)
    stdio = Stdio(stdin, stdout, stderr, caller.detach_keys, max_output)
    return (yield from _execute(pod_id, "", cmd, stdio, timeout, caller, started))


def check_command(cmd: Cmd, timeout: float | None) -> None:
    """Raise ConfigError for what is no command, or no timeout."""
    check_type("cmd", cmd, Cmd)
    if not cmd.args:
        raise ConfigError("the command is empty; give cmd.args")
    check_timeout(timeout)


def record_to_enter(store: Store, pod_id: str, container_id: str) -> PodRecord:
    """Return the record of a pod in which a command may run. Raises ConfigError, PodNotFoundError, StateError."""
    record = effective_record(store.read(pod_id))
    require(record, Action.ENTER_CONTAINER if container_id else Action.ENTER_POD, container_id)
    return record


def _execute(
    pod_id: str,
    container_id: str,
    cmd: Cmd,
    stdio: Stdio,
    timeout: float | None,
    caller: Caller,
    started: Callable[[Started], None] | None,
) -> Operation[ExecResult]:
    """Run a command, in the pod itself for an empty ``container_id``, and close ``stdio``."""
    streams = Streams(passed=stdio.passed, terminal=caller.terminal)
    # Who has signals to forward might send one when the process has ended, in the place of the next request.
    request = Exec(container=container_id, cmd=cmd, streams=streams, more=caller is NO_TERMINAL)

    def send(link: Link) -> None:
        link.send(request, stdio.fds)

    where = f"container {container_id!r}" if container_id else f"pod {pod_id!r}"
    what, begun, kept = f"command {cmd.args[0]!r} in {where}", on_started(started), False
    try:
        store = Store.here()
        run_dir = store.roots.pod_run_dir(check_id("pod", pod_id))
        link = yield from kept_links.resume(run_dir, send)
        if link is None:
            record = record_to_enter(store, pod_id, container_id)
            link = yield from connect(store, record, send=send)
        try:
            answer = yield from run_with_streams(link, stdio, what, timeout, caller.signals, begun)
            kept = request.more and link.to_supervisor
        finally:
            if kept:
                kept_links.keep(run_dir, link)
            else:
                yield from link.close()
    finally:
        stdio.close()
    return ExecResult(answer.code, stdio.stdout, stdio.stderr, stdio.truncated)
