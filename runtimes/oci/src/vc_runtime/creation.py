"""Creates and starts containers."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import vc_core
from vc_core import CommandError, ContainerNotFoundError, PodNotFoundError, VCError
from vc_runtime import cgroups, hooks, spec
from vc_runtime.calls import ENDING, Call, attended, console_of, open_namespace, reason, state_of, write_pid
from vc_runtime.deletion import delete, end_shim, remove, remove_forgotten
from vc_runtime.faults import NoSuchContainer, RuntimeFault
from vc_runtime.namespaces import enter_network, sharer
from vc_runtime.records import Home, Record

if TYPE_CHECKING:
    from vc_runtime.console import Console
    from vc_runtime.shims import Streams
    from vc_runtime.translate import Translated


def create(
    call: Call, container_id: str, bundle: Path, pid_file: Path | None, console: str, own: Console | None = None
) -> Record:
    """Make a container of a bundle: its shim runs, its VM does not yet. Raises RuntimeFault.

    ``console``: the socket that gets the terminal of a process on one; without it ``own`` gets it.
    """
    from vc_runtime import program, roots, translate

    bundle = bundle.absolute()
    config = spec.read(bundle / "config.json", spec.Spec)
    sandbox = translate.sandbox(config, container_id) or _sharer(call, config)
    must_write = translate.is_of_a_build(container_id) or roots.WRITABLE_ROOT in config.annotations
    why_lost = roots.why_overlay(config, bundle / config.root.path) if must_write and config.root else ""
    translate.check(config, container_id, sandbox, why_lost)
    process = config.process
    assert process is not None
    home = call.root.home(container_id)
    rootfs = translate.root_path(config, bundle)
    translated = translate.translate(config, call.root.vc_id(container_id), bundle, _compiled(call))
    if rootfs.is_dir():
        mounted = ["/" + one.destination.strip("/") for one in config.mounts]
        program.check(rootfs, process.args, process.env, process.cwd, mounted)
    for note in translated.notes:
        call.log.warning(note)
    record = Record(
        id=container_id,
        bundle=str(bundle),
        pod=call.root.vc_id(sandbox or container_id),
        container=translated.container.id,
        sandbox=sandbox,
        cgroup=cgroups.directory(config.linux.cgroups_path),
        rootfs=str(rootfs),
        oci_version=config.oci_version,
        annotations=config.annotations,
        created_at=time.time(),
    )
    remove_forgotten(call)
    home.create()
    try:
        with home.locked():
            home.write(record)
            _create(call, home, record, config, (console, own), pid_file)
    except BaseException:
        with suppress(RuntimeFault, VCError):
            remove(call, home, record)
        raise
    return record


def _sharer(call: Call, config: spec.Spec) -> str:
    """Return the id of the container whose network, and so whose VM, a container shares, "" for none."""
    namespace = config.namespace("network")
    if namespace is None or not namespace.path:
        return ""
    return sharer(namespace.path, call.root.records())


def _create(
    call: Call,
    home: Home,
    record: Record,
    config: spec.Spec,
    console: tuple[str, Console | None],
    pid_file: Path | None,
) -> None:
    from vc_runtime import shims

    process = config.process
    assert process is not None
    with ExitStack() as stack:
        namespace = config.namespace("network")
        network = None
        if namespace is not None and namespace.path:
            network = open_namespace(namespace.path)
            stack.callback(os.close, network)
        memory = None
        if record.sandbox and call.root.home(record.sandbox).path.exists():  # so no VM is in its control group
            cgroups.make(record.cgroup)
            memory = cgroups.memory_limit(record.cgroup)
        if memory is not None:
            stack.callback(os.close, memory)
        listener = stack.enter_context(closing(home.listen()))
        started = shims.spawn(
            sock=listener,
            listens=True,
            network=network,
            console=console_of(console[0], process.terminal, stack, console[1]),
            memory=memory,
            root=Path(record.rootfs) if Path(record.rootfs).is_dir() else None,
            args=process.args,
            home=home.path.absolute(),
            bundle=Path(record.bundle),
            again=shims.command_line(*call.options, "attend", record.id),
        )
        stack.callback(started.forget)
        record.shim = started.shim
        home.write(record)
        cgroups.join(record.cgroup, record.pid)
        state = state_of(record, "creating")
        hooks.run("prestart", config.hooks.prestart, state)
        hooks.run("createRuntime", config.hooks.create_runtime, state)
        if pid_file is not None:
            write_pid(pid_file, record.pid)
        started.confirm()


def start(call: Call, container_id: str, foreground: bool = False) -> None:
    """Start a created container: its VM first, unless it shares that of another. Raises RuntimeFault.

    ``foreground``: this command waits for its end, and what is typed meanwhile is meant for it.
    """
    home = call.root.home(container_id)
    with home.locked():
        record = home.read()
        if record.status != "created":
            raise RuntimeFault(f"cannot start container {container_id}: it is {record.status}")
        try:
            config = _start(call, home, record, foreground)
        except (RuntimeFault, VCError, OSError):
            end_shim(record)  # engines wait for the end of what could not be started, before they delete it
            raise
        record.started = True
        home.write(record)
    hooks.run_all("poststart", config.hooks.poststart, state_of(record, "running"), call.log)


def _start(call: Call, home: Home, record: Record, foreground: bool) -> spec.Spec:
    """Start a container, and return its configuration, which is read while the supervisor begins."""
    enter_network(f"/proc/{record.pid}/ns/net")
    with ExitStack() as stack:
        prepared = None
        if not _runs(call, record):
            cgroups.join(record.cgroup, os.getpid())  # in which supervisor and VM are then too
            prepared = stack.enter_context(vc_core.PodPreparation(record.pod))
        from vc_runtime import roots, shims, translate  # loaded here, because the supervisor begins meanwhile

        config = spec.read(Path(record.bundle) / "config.json", spec.Spec)
        translated = translate.translate(config, record.container, Path(record.bundle), _compiled(call))
        translated = roots.choose(translated, config, record)
        shim = stack.enter_context(closing(home.connect()))
        streams = shims.receive_streams(shim)
        stack.callback(streams.close)
        try:
            if prepared is not None:
                process = _start_pod(call, record, translated, streams, foreground, prepared)
            else:
                process = _start_container(record, translated, streams, foreground)
        except CommandError as error:
            raise RuntimeFault(_of_command(config, error)) from error
        shims.give(shim, process)
    return config


def _compiled(call: Call) -> Callable[[spec.Seccomp | None, list[str]], bytes]:
    """Return what makes programs of seccomp profiles."""
    from vc_runtime import programs

    return partial(programs.program, call.root.path)


def _runs(call: Call, record: Record) -> bool:
    """Return whether the VM of a container is there, which it shares; remove that of a start that was killed."""
    if record.sandbox:
        try:
            state = vc_core.status_pod(record.pod).state
        except PodNotFoundError:
            state = None
        if state is vc_core.State.RUNNING:
            return True
        with suppress(NoSuchContainer):
            if call.root.home(record.sandbox).read().started or state is not None:
                raise RuntimeFault(
                    f"container {record.id} cannot start: the VM of its sandbox {record.sandbox} has ended"
                )
    with suppress(PodNotFoundError):
        vc_core.delete_pod(record.pod, force=True)
    return False


def _start_pod(
    call: Call,
    record: Record,
    translated: Translated,
    streams: Streams,
    foreground: bool,
    prepared: vc_core.PodPreparation,
) -> vc_core.Process:
    """Start the VM of a container, and the container in it, with which it ends unless it is shared."""
    from vc_runtime import network

    connected, sysctls = network.connect(call.log)
    labels = {"io.virtcontainers.oci.id": record.id, "io.virtcontainers.oci.root": str(call.root.path.absolute())}
    sysctls |= translated.pod.sysctls
    containers = [translated.container]
    pod = replace(translated.pod, network=connected, labels=labels, sysctls=sysctls, containers=containers)
    stdin, stdout, stderr = streams.input(foreground), *streams.fds[1:]
    return prepared.open(
        pod, stdin=stdin, stdout=stdout, stderr=stderr, terminal=streams.terminal, discard=not record.sandbox
    )


def _start_container(record: Record, translated: Translated, streams: Streams, foreground: bool) -> vc_core.Process:
    """Start the container in a VM that runs."""
    with suppress(ContainerNotFoundError):
        vc_core.delete_container(record.pod, record.container, force=True)  # of a start that was killed
    vc_core.create_container(record.pod, translated.container)
    stdin, stdout, stderr = streams.input(foreground), *streams.fds[1:]
    return vc_core.open_container(
        record.pod, record.container, stdin=stdin, stdout=stdout, stderr=stderr, terminal=streams.terminal
    )


def _of_command(config: spec.Spec, error: CommandError) -> str:
    """Return the error of a program that the guest could not start, in the words that engines expect."""
    assert config.process is not None
    return f'exec: "{config.process.args[0]}": {reason(error.exit_code)} ({error})'


def run(call: Call, container_id: str, bundle: Path, pid_file: Path | None, console: str, detach: bool) -> int:
    """Create and start a container; unless ``detach``, wait for its end, delete it, and return its exit code."""
    from vc_runtime.console import Console

    _handle(_stop)
    with Console() as own:
        create(call, container_id, bundle, pid_file, console, None if detach else own)
        home = call.root.home(container_id)
        try:
            own.take()
            start(call, container_id, foreground=not detach)
            shim = home.read().shim
            return 0 if detach or shim is None else attended(shim, own)
        except BaseException:
            detach = False
            raise
        finally:
            _handle(signal.SIG_IGN)
            if not detach:
                delete(call, container_id, force=True)


def _handle(handler: Callable[[int, object], None] | signal.Handlers) -> None:
    for number in ENDING:
        signal.signal(number, handler)


def _stop(number: int, frame: object) -> None:
    """End this process by way of what it has to undo. Called for a signal."""
    sys.exit(128 + number)
