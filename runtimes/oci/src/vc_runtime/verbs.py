"""The verbs of an OCI runtime, each a function that one short-lived process calls once."""

from __future__ import annotations

import json
import os
import select
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from signal import SIGKILL
from threading import Thread
from typing import Any

import vc_core
from vc_core import (
    CommandError,
    ContainerNotFoundError,
    PodNotFoundError,
    StateError,
    SupervisorLostError,
    VCError,
)
from vc_runtime import cgroups, hooks, program, shims, spec, translate
from vc_runtime.faults import Log, NoSuchContainer, Refused, RuntimeFault
from vc_runtime.namespaces import enter_network
from vc_runtime.records import Home, Record, Root

#: Seconds for a shim that is killed to end.
_KILL_TIMEOUT = 10.0

#: The states of a container whose processes exist.
_ALIVE = (vc_core.State.RUNNING, vc_core.State.PAUSED)

#: Exit code of a process whose own is not available.
LOST = 255


@dataclass(frozen=True, slots=True)
class Call:
    """What all verbs have: the directory of containers, the log, and the global options, to run this program again."""

    root: Root
    log: Log
    options: tuple[str, ...] = ()


# -- create and start --------------------------------------------------------------------------------------------------


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
            _delete(call, home, record)
        raise
    return record


def _create(call: Call, home: Home, record: Record, config: spec.Spec, console: str, pid_file: Path | None) -> None:
    process = config.process
    assert process is not None
    with ExitStack() as stack:
        namespace = config.namespace("network")
        network = None
        if namespace is not None and namespace.path:
            network = _open_namespace(namespace.path)
            stack.callback(os.close, network)
        listener = stack.enter_context(closing(home.listen()))
        started = shims.spawn(
            sock=listener,
            listens=True,
            network=network,
            console=_console(console, process.terminal, stack),
            root=Path(record.rootfs) if Path(record.rootfs).is_dir() else None,
            home=home.path.absolute(),
            again=shims.command_line(*call.options, "attend", record.id),
        )
        stack.callback(started.forget)
        record.shim = started.shim
        home.write(record)
        cgroups.join(record.cgroup, record.pid)
        state = _state(record, "creating")
        hooks.run("prestart", config.hooks.prestart, state)
        hooks.run("createRuntime", config.hooks.create_runtime, state)
        if pid_file is not None:
            _write_pid(pid_file, record.pid)
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
    hooks.run_all("poststart", config.hooks.poststart, _state(record, "running"), call.log)


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
    return f'exec: "{config.process.args[0]}": {_reason(error.exit_code)} ({error})'


def run(call: Call, container_id: str, bundle: Path, pid_file: Path | None, console: str, detach: bool) -> int:
    """Create and start a container; unless ``detach``, wait for its end, delete it, and return its exit code."""
    create(call, container_id, bundle, pid_file, console)
    home = call.root.home(container_id)
    try:
        start(call, container_id)
        return 0 if detach else _wait(home.read().pid)
    except BaseException:
        detach = False
        raise
    finally:
        if not detach:
            delete(call, container_id, force=True)


def attend(call: Call, container_id: str, sock: socket.socket) -> None:
    """Give a shim that lost its connection another one, or the exit code of its container. Called by the attendant."""
    record = call.root.home(container_id).read()
    streams = shims.receive_streams(sock)
    try:
        code = _attached(record, streams)
    except VCError as error:
        call.log.error(str(error))
        code = LOST
    finally:
        streams.close()
    sock.send(f"exit {code}".encode())


def _attached(record: Record, streams: shims.Streams) -> int:
    """Copy what a container writes from now on to a shim's streams, and return its exit code once it ended.

    A supervisor that is lost meanwhile is replaced again.
    """
    while vc_core.status_container(record.pod, record.container).state in _ALIVE:
        with suppress(SupervisorLostError), vc_core.attach_container(record.pod, record.container) as process:
            pairs = [(process.stdout, streams.fds[1]), (process.stderr, streams.fds[2])]
            copying = [Thread(target=_copy, args=pair, daemon=True) for pair in pairs if None not in pair]
            for one in copying:
                one.start()
            process.wait()
            for one in copying:
                one.join()
    return vc_core.wait_container(record.pod, record.container)


def _copy(reader: vc_core.ProcessReader, fd: int) -> None:
    """Copy until the end, or until the engine does not read any more."""
    with suppress(OSError):
        for line in reader:
            while line:
                line = line[os.write(fd, line) :]


def ended(call: Call, container_id: str) -> None:
    """End the VM of a container whose shim has ended and that nobody deletes, or what runs of it beside others."""
    home = call.root.home(container_id)
    with suppress(NoSuchContainer, PodNotFoundError), home.locked():
        record = home.read()
        if record.status != "stopped":
            return
        containers = vc_core.status_pod(record.pod).containers
        running = {one.id for one in containers if one.state in _ALIVE}
        if not running - {record.container}:
            vc_core.delete_pod(record.pod, force=True)
        elif record.container in running:
            vc_core.kill_container(record.pod, record.container, SIGKILL)


# -- commands in containers --------------------------------------------------------------------------------------------


def exec_(
    call: Call, container_id: str, process: spec.Process, pid_file: Path | None, console: str, detach: bool
) -> int:
    """Run a command in a running container; unless ``detach``, wait for its end. Return its exit code."""
    record = call.root.home(container_id).read()
    if record.status != "running":
        raise RuntimeFault(f"cannot exec in container {container_id}: it is {record.status}")
    try:
        command = translate.command(process)
    except VCError as error:
        raise RuntimeFault(str(error)) from error
    with ExitStack() as stack:
        ours, theirs = (stack.enter_context(closing(one)) for one in socket.socketpair(type=socket.SOCK_SEQPACKET))
        network = _open_namespace(f"/proc/{record.pid}/ns/net")
        stack.callback(os.close, network)
        started = shims.spawn(
            sock=theirs,
            listens=False,
            network=network,
            console=_console(console, process.terminal, stack),
            root=Path(record.rootfs) if Path(record.rootfs).is_dir() else None,
        )
        stack.callback(started.forget)
        cgroups.join(record.cgroup, started.shim.pid)
        theirs.close()
        streams = shims.receive_streams(ours)
        try:
            stdin, stdout, stderr = streams.fds
            running = vc_core.open_process(
                record.pod,
                command,
                container_id=record.container,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                terminal=streams.terminal,
            )
        except CommandError as error:
            raise RuntimeFault(f'exec: "{process.args[0]}": {error}') from error
        finally:
            streams.close()
        if (code := shims.give(ours, running)) is not None:
            raise RuntimeFault(f'exec: "{process.args[0]}": {_reason(code)}')
        if pid_file is not None:
            _write_pid(pid_file, started.shim.pid)
        started.confirm()
    return 0 if detach else _wait(started.shim.pid)


def process_of(call: Call, container_id: str) -> spec.Process:
    """Return the main process of a container, to which a command is similar that no file describes."""
    record = call.root.home(container_id).read()
    process = spec.read(Path(record.bundle) / "config.json", spec.Spec).process
    assert process is not None
    process.terminal = False
    return process


def _reason(code: int | None) -> str:
    """Return why a program could not be started, in the words that engines expect, by a shell's exit code."""
    known = {127: "executable file not found in $PATH", 126: "permission denied"}
    return known.get(code or 0, f"it cannot be set up in the guest (exit code {code})")


# -- what is asked of containers ---------------------------------------------------------------------------------------


def state(call: Call, container_id: str) -> dict[str, Any]:
    """Return the state of a container, as the specification has it. Raises NoSuchContainer."""
    record = call.root.home(container_id).read()
    return _described(record, record.status)


def list_(call: Call) -> list[dict[str, Any]]:
    """Return the states of all containers."""
    return [_described(one, one.status) for one in call.root.records()]


def kill(call: Call, container_id: str, signum: int) -> None:
    """Send a signal to the container's process. Raises RuntimeFault for one that does not run."""
    record = call.root.home(container_id).read()
    status = record.status
    if status == "stopped" or record.shim is None:
        raise RuntimeFault("container not running")
    if status == "created":
        record.shim.process.send(signum)
        return
    try:
        vc_core.kill_container(record.pod, record.container, signum)
    except (StateError, PodNotFoundError, ContainerNotFoundError):
        if signum != SIGKILL:
            raise RuntimeFault("container not running") from None
        record.shim.process.send(signum)  # the VM has ended, and nothing else ends it
    except VCError:
        if signum != SIGKILL:
            raise
        record.shim.process.send(signum)


def ps(call: Call, container_id: str) -> list[int]:
    """Return the processes of the host that stand for those of a container."""
    record = call.root.home(container_id).read()
    return [record.pid] if record.pid else []


def stats(call: Call, container_id: str) -> dict[str, Any]:
    """Return what a container uses, as ``events --stats`` prints it."""
    record = call.root.home(container_id).read()
    usage = vc_core.stats_container(record.pod, record.container)
    return {"type": "stats", "id": container_id, "data": _usage(usage)}


def _usage(usage: vc_core.ContainerUsage) -> dict[str, Any]:
    """Return what the guest reports, with 0 for what it does not."""
    memory = {"usage": usage.memory_total or usage.memory or 0, "limit": usage.memory_limit or 0}
    return {
        "cpu": {"usage": {"total": int((usage.cpu_seconds or 0.0) * 1e9)}},
        "memory": {"usage": memory, "cache": usage.memory_cache or 0},
        "pids": {"current": usage.pids or 0},
    }


# -- what changes containers ------------------------------------------------------------------------------------------


def pause(call: Call, container_id: str) -> None:
    """Suspend the processes of a running container."""
    _set_paused(call, container_id, paused=True)


def resume(call: Call, container_id: str) -> None:
    """Let the processes of a paused container go on."""
    _set_paused(call, container_id, paused=False)


def _set_paused(call: Call, container_id: str, *, paused: bool) -> None:
    home = call.root.home(container_id)
    with home.locked():
        record = home.read()
        if record.status != ("running" if paused else "paused"):
            raise RuntimeFault(
                f"cannot {'pause' if paused else 'resume'} container {container_id}: it is {record.status}"
            )
        change = vc_core.pause_container if paused else vc_core.resume_container
        change(record.pod, record.container)
        record.paused = paused
        home.write(record)


def update(call: Call, container_id: str, resources: spec.Resources) -> None:
    """Change the limits of a container; those that are not given stay. Its VM keeps its size."""
    record = call.root.home(container_id).read()
    memory, pids, cpus = translate.limits(resources)
    vc_core.update_container(record.pod, record.container, memory=memory, pids=pids, cpus=cpus)


# -- delete ------------------------------------------------------------------------------------------------------------


def delete(call: Call, container_id: str, force: bool) -> None:
    """Delete a container with all that was made for it; with ``force`` in any state, and one that does not exist."""
    home = call.root.home(container_id)
    try:
        with home.locked():
            try:
                record = home.read()
            except (NoSuchContainer, RuntimeFault):
                if not force:
                    raise
                name = call.root.vc_id(container_id)
                record = Record(id=container_id, bundle="", pod=name, container=name)
            if not force and record.status not in ("stopped", "created"):
                raise RuntimeFault(f"cannot delete container {container_id} that is {record.status}; use --force")
            _delete(call, home, record)
    except NoSuchContainer:
        if not force:
            raise


def _delete(call: Call, home: Home, record: Record) -> None:
    """End what a record names, and remove it at last. Whatever is gone already is no error."""
    _end_shim(record)
    members = [one for one in call.root.records() if one.pod == record.pod and one.id != record.id]
    shared = record.sandbox and (members or call.root.home(record.sandbox).path.exists())
    try:
        if shared:
            vc_core.delete_container(record.pod, record.container, force=True)
        else:
            vc_core.delete_pod(record.pod, force=True)
    except (PodNotFoundError, ContainerNotFoundError):
        pass
    with suppress(RuntimeFault):
        if record.bundle:
            config = spec.read(Path(record.bundle) / "config.json", spec.Spec)
            hooks.run_all("poststop", config.hooks.poststop, _state(record, "stopped"), call.log)
    cgroups.remove(record.cgroup)
    home.remove()


def _end_shim(record: Record) -> None:
    if record.shim is None or (pidfd := record.shim.process.open_pidfd()) is None:
        return
    try:
        record.shim.process.send(SIGKILL)
        select.select([pidfd], [], [], _KILL_TIMEOUT)
    finally:
        os.close(pidfd)


# -- small parts -------------------------------------------------------------------------------------------------------


def _described(record: Record, status: str) -> dict[str, Any]:
    return {
        "ociVersion": record.oci_version or spec.VERSION,
        "id": record.id,
        "status": status,
        "pid": 0 if status == "stopped" else record.pid,
        "bundle": record.bundle,
        "rootfs": record.rootfs,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created_at)),
        "annotations": record.annotations,
        "owner": "",
    }


def _state(record: Record, status: str) -> bytes:
    return json.dumps(_described(record, status)).encode()


def _write_pid(path: Path, pid: int) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(str(pid), encoding="ascii")
    fresh.replace(path)


def _open_namespace(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise RuntimeFault(f"namespace {path} cannot be opened: {error.strerror}") from error


def _console(path: str, terminal: bool, stack: ExitStack) -> socket.socket | None:
    """Return a connection to the engine's console socket, for a process on a terminal."""
    if not terminal:
        if path:
            raise RuntimeFault("--console-socket is given, but the process has no terminal; leave it out")
        return None
    if not path:
        raise RuntimeFault("the process has a terminal; give the --console-socket that gets it")
    console = stack.enter_context(closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)))
    try:
        console.connect(path)
    except OSError as error:
        raise RuntimeFault(f"console socket {path} cannot be connected: {error.strerror}") from error
    return console


def _wait(pid: int) -> int:
    """Return the exit code of a shim that is this process' child."""
    with suppress(ChildProcessError):
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return LOST


def refuse(verb: str) -> None:
    """Raise Refused for a verb that no VM of this project can perform."""
    raise Refused(f"{verb} is not possible: the state of a container is that of its virtual machine")


def names(records: Sequence[dict[str, Any]]) -> list[str]:
    """Return the ids of described containers."""
    return [str(one["id"]) for one in records]
