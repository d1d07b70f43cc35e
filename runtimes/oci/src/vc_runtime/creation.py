"""Creates and starts containers."""

from __future__ import annotations

import os
import socket
import time
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path

import vc_core
from vc_core import CommandError, ContainerNotFoundError, PodNotFoundError, VCError
from vc_runtime import cgroups, hooks, program, shims, spec, translate
from vc_runtime.calls import Call, console_of, exit_code_of, open_namespace, reason, state_of, write_pid
from vc_runtime.deletion import delete, remove
from vc_runtime.faults import RuntimeFault
from vc_runtime.namespaces import enter_network
from vc_runtime.records import Home, Record


def create(call: Call, container_id: str, bundle: Path, pid_file: Path | None, console: str) -> Record:
    """Make a container of a bundle: its shim runs, its VM does not yet. Raises RuntimeFault."""
    bundle = bundle.absolute()
    config = spec.read(bundle / "config.json", spec.Spec)
    translate.check(config)
    process = config.process
    assert process is not None
    sandbox = translate.sandbox(config, container_id)
    home = call.root.home(container_id)
    rootfs = translate.root_path(config, bundle)
    translated = translate.translate(config, call.root.vc_id(container_id), bundle)
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
    home.create()
    try:
        with home.locked():
            home.write(record)
            _create(call, home, record, config, console, pid_file)
    except BaseException:
        with suppress(RuntimeFault, VCError):
            remove(call, home, record)
        raise
    return record


def _create(call: Call, home: Home, record: Record, config: spec.Spec, console: str, pid_file: Path | None) -> None:
    process = config.process
    assert process is not None
    with ExitStack() as stack:
        namespace = config.namespace("network")
        network = None
        if namespace is not None and namespace.path:
            network = open_namespace(namespace.path)
            stack.callback(os.close, network)
        listener = stack.enter_context(closing(home.listen()))
        started = shims.spawn(
            sock=listener,
            listens=True,
            network=network,
            console=console_of(console, process.terminal, stack),
            root=Path(record.rootfs) if Path(record.rootfs).is_dir() else None,
            home=home.path.absolute(),
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


def start(call: Call, container_id: str) -> None:
    """Start a created container: its VM first, unless it shares that of another. Raises RuntimeFault."""
    home = call.root.home(container_id)
    with home.locked():
        record = home.read()
        if record.status != "created":
            raise RuntimeFault(f"cannot start container {container_id}: it is {record.status}")
        bundle = Path(record.bundle)
        config = spec.read(bundle / "config.json", spec.Spec)
        translated = translate.translate(config, record.container, bundle)
        enter_network(f"/proc/{record.pid}/ns/net")
        cgroups.join(record.cgroup, os.getpid())
        with closing(home.connect()) as shim:
            try:
                _start_pod(call, record, translated)
                _start_container(record, translated, shim)
            except CommandError as error:
                raise RuntimeFault(_of_command(config, error)) from error
        record.started = True
        home.write(record)
    hooks.run_all("poststart", config.hooks.poststart, state_of(record, "running"), call.log)


def _start_pod(call: Call, record: Record, translated: translate.Translated) -> None:
    """Start the VM of a container, if it is not there."""
    try:
        if vc_core.status_pod(record.pod).state is vc_core.State.RUNNING:
            if record.sandbox:
                return
        elif record.sandbox and call.root.home(record.sandbox).path.exists():
            raise RuntimeFault(f"container {record.id} cannot start: the VM of its sandbox {record.sandbox} has ended")
        vc_core.delete_pod(record.pod, force=True)  # of a start that was killed
    except PodNotFoundError:
        pass
    from vc_runtime import network

    connected = network.connect(call.log)
    labels = {"io.virtcontainers.oci.id": record.id, "io.virtcontainers.oci.root": str(call.root.path.absolute())}
    vc_core.run_pod(replace(translated.pod, id=record.pod, network=connected, labels=labels))


def _start_container(record: Record, translated: translate.Translated, shim: socket.socket) -> None:
    """Start the container with the streams of its shim, and give the shim the connection to it."""
    with suppress(ContainerNotFoundError):
        vc_core.delete_container(record.pod, record.container, force=True)  # of a start that was killed
    vc_core.create_container(record.pod, translated.container)
    streams = shims.receive_streams(shim)
    try:
        stdin, stdout, stderr = streams.fds
        process = vc_core.open_container(
            record.pod, record.container, stdin=stdin, stdout=stdout, stderr=stderr, terminal=streams.terminal
        )
    finally:
        streams.close()
    shims.give(shim, process)


def _of_command(config: spec.Spec, error: CommandError) -> str:
    """Return the error of a program that the guest could not start, in the words that engines expect."""
    assert config.process is not None
    return f'exec: "{config.process.args[0]}": {reason(error.exit_code)} ({error})'


def run(call: Call, container_id: str, bundle: Path, pid_file: Path | None, console: str, detach: bool) -> int:
    """Create and start a container; unless ``detach``, wait for its end, delete it, and return its exit code."""
    create(call, container_id, bundle, pid_file, console)
    home = call.root.home(container_id)
    try:
        start(call, container_id)
        return 0 if detach else exit_code_of(home.read().pid)
    except BaseException:
        detach = False
        raise
    finally:
        if not detach:
            delete(call, container_id, force=True)
