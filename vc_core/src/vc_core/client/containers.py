"""The operations of the API that act on containers, and on what runs in pods; each written once, as all are."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

import msgspec

from vc_core.client.connect import connect
from vc_core.client.foreground import Foreground, Signals, attend, converse, exit_code
from vc_core.client.interpreters import Operation, Ready
from vc_core.client.link import request
from vc_core.client.stdio import Output, Stdin, Stdio
from vc_core.config.container import Cmd, ContainerConfig
from vc_core.config.signals import number
from vc_core.errors import CommandTimeoutError, ConfigError, StateError, SupervisorLostError
from vc_core.host import paths
from vc_core.results import ContainerUsage, ExecResult
from vc_core.states import Action, State
from vc_core.store import files
from vc_core.store.records import PodRecord
from vc_core.store.status import effective_record, find_container, require
from vc_core.store.store import Store


def create_container(pod_id: str, config: ContainerConfig) -> Operation[str]:
    """Add a container to a pod, whether it runs or not; it is not started. Return its id."""
    store = Store.here()
    record = effective_record(store.read(pod_id))
    if record.supervised:
        paths.check_container(config, store.roots)
    yield from _ask(record, {"op": "create_container", "config": msgspec.to_builtins(config)})
    return config.id


def start_container(pod_id: str, container_id: str, foreground: Foreground | None = None) -> Operation[int | None]:
    """Start a container of a running pod, for the first time or again.

    With a foreground its exit code is returned when it ended, else None at once.
    """
    record = effective_record(Store.here().read(pod_id))
    require(record, Action.START_CONTAINER, container_id)
    message = {"op": "start_container", "container": container_id}
    if foreground is None:
        yield from _ask(record, message)
        return None
    link = yield from connect(Store.here(), record)
    try:
        return (yield from attend(link, message, foreground))
    finally:
        yield from link.close()


def stop_container(
    pod_id: str, container_id: str, timeout: float | None = None, force: bool = False
) -> Operation[None]:
    """Stop a running container. ``timeout``: seconds until it is killed (default 10); ``force`` kills at once."""
    record = effective_record(Store.here().read(pod_id))
    require(record, Action.STOP_CONTAINER, container_id)
    message = {"op": "stop_container", "container": container_id, "timeout": timeout, "force": force}
    yield from _ask(record, message, timeout or 0.0)


def kill_container(pod_id: str, container_id: str, signal: int | str) -> Operation[None]:
    """Send a signal, by name or number, to the main process of a running container."""
    signum = number(signal)
    record = effective_record(Store.here().read(pod_id))
    require(record, Action.KILL_CONTAINER, container_id)
    yield from _ask(record, {"op": "kill_container", "container": container_id, "signal": signum})


def delete_container(pod_id: str, container_id: str, force: bool = False) -> Operation[None]:
    """Delete a container that does not run; with ``force`` kill it first."""
    record = effective_record(Store.here().read(pod_id))
    find_container(record, container_id)
    if not force:
        require(record, Action.DELETE_CONTAINER, container_id)
    yield from _ask(record, {"op": "delete_container", "container": container_id, "force": force})


def stats_container(pod_id: str, container_id: str) -> Operation[ContainerUsage]:
    """Return what a running container uses."""
    record = effective_record(Store.here().read(pod_id))
    require(record, Action.STATS_CONTAINER, container_id)
    answer = yield from _ask(record, {"op": "stats", "container": container_id})
    return msgspec.convert(answer, ContainerUsage)


def wait_container(pod_id: str, container_id: str) -> Operation[int]:
    """Return a container's exit code once it ended; a supervisor that is lost meanwhile is replaced."""
    record = effective_record(Store.here().read(pod_id))
    require(record, Action.WAIT_CONTAINER, container_id)
    while find_container(record, container_id).state is State.RUNNING:
        answered = False
        if record.supervised:
            with suppress(SupervisorLostError):
                code = yield from _ask(record, {"op": "wait", "container": container_id}, None)
                if code is not None:
                    return int(code)
                answered = True
        else:
            yield from _watch(pod_id, container_id)
        record = effective_record(Store.here().read(pod_id))
        if answered:  # the record may say so later, when the disk takes it
            break
    ended = find_container(record, container_id)
    if ended.exit_code is None:
        raise StateError(
            f"container {container_id!r} of pod {pod_id!r} ended without an exit code: "
            f"{ended.reason or 'its pod was stopped'}",
            state=str(ended.state), wanted=[],
        )  # fmt: skip
    return ended.exit_code


def _watch(pod_id: str, container_id: str) -> Operation[None]:
    """Return when a container of a pod without a supervisor has ended: whoever ends it writes so."""
    store = Store.here()
    watch = files.watch(store.roots.pod_state_dir(pod_id))
    try:
        while find_container(store.read(pod_id), container_id).state is State.RUNNING:
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
    terminal: dict[str, int] | None = None,
    signals: Signals | None = None,
) -> Operation[ExecResult]:
    """Run a command in a running container and return how it ended."""
    record = _to_enter(pod_id, cmd, timeout, container_id)
    where = f"container {container_id!r}"
    return (
        yield from _execute(record, container_id, where, cmd, Stdio(stdin, stdout, stderr), timeout, terminal, signals)
    )


def enter_pod(
    pod_id: str,
    cmd: Cmd,
    stdin: Stdin = None,
    stdout: Output = None,
    stderr: Output = None,
    timeout: float | None = None,
    terminal: dict[str, int] | None = None,
    signals: Signals | None = None,
) -> Operation[ExecResult]:
    """Run a command in a running pod, outside of its containers, and return how it ended."""
    record = _to_enter(pod_id, cmd, timeout)
    where = f"pod {pod_id!r}"
    return (yield from _execute(record, "", where, cmd, Stdio(stdin, stdout, stderr), timeout, terminal, signals))


def _to_enter(pod_id: str, cmd: Cmd, timeout: float | None, container_id: str = "") -> PodRecord:
    if not cmd.args:
        raise ConfigError("the command is empty; give cmd.args")
    if timeout is not None and timeout <= 0:
        raise ConfigError(f"timeout is {timeout!r}; give a positive number of seconds")
    record = effective_record(Store.here().read(pod_id))
    require(record, Action.ENTER_CONTAINER if container_id else Action.ENTER_POD, container_id)
    return record


def _execute(
    record: PodRecord,
    container_id: str,
    where: str,
    cmd: Cmd,
    stdio: Stdio,
    timeout: float | None,
    terminal: dict[str, int] | None,
    signals: Signals | None,
) -> Operation[ExecResult]:
    message = {"op": "exec", "container": container_id, "cmd": msgspec.to_builtins(cmd), "terminal": terminal}
    try:
        link = yield from connect(Store.here(), record)
        try:
            code, timed_out = yield from converse(link, message, stdio, timeout, signals)
        finally:
            yield from link.close()
    finally:
        stdio.close()
    if timed_out:
        error = CommandTimeoutError(f"command {cmd.args[0]!r} in {where} did not end in {timeout} s and was killed")
        error.stdout, error.stderr = stdio.stdout, stdio.stderr
        raise error
    return ExecResult(exit_code(code, f"command {cmd.args[0]!r}"), stdio.stdout, stdio.stderr)


def _ask(record: PodRecord, message: dict[str, Any], timeout: float | None = 0.0) -> Operation[Any]:
    """Send one request without streams and return its result; ``timeout`` None waits for ever."""
    link = yield from connect(Store.here(), record)
    try:
        return (yield from request(link, message, timeout))
    finally:
        yield from link.close()
