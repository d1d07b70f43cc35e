"""Runs further commands in containers."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack, closing
from pathlib import Path

import vc_core
from vc_core import CommandError, VCError
from vc_runtime import cgroups, shims, spec, translate
from vc_runtime.calls import Call, attended, console_of, open_namespace, reason, write_pid
from vc_runtime.console import Console
from vc_runtime.faults import RuntimeFault


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
        own = stack.enter_context(Console())
        ours, theirs = (stack.enter_context(closing(one)) for one in socket.socketpair(type=socket.SOCK_SEQPACKET))
        network = open_namespace(f"/proc/{record.pid}/ns/net")
        stack.callback(os.close, network)
        started = shims.spawn(
            sock=theirs,
            listens=False,
            network=network,
            console=console_of(console, process.terminal, stack, None if detach else own),
            root=Path(record.rootfs) if Path(record.rootfs).is_dir() else None,
            args=process.args,
        )
        stack.callback(started.forget)
        own.take()
        cgroups.join(record.cgroup, started.shim.pid)
        theirs.close()
        streams = shims.receive_streams(ours)
        try:
            stdin, stdout, stderr = streams.input(not detach), *streams.fds[1:]
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
            raise RuntimeFault(f'exec: "{process.args[0]}": {reason(code)}')
        if pid_file is not None:
            write_pid(pid_file, started.shim.pid)
        started.confirm()
        return 0 if detach else attended(started.shim, own)


def process_of(call: Call, container_id: str) -> spec.Process:
    """Return the main process of a container, to which a command is similar that no file describes."""
    record = call.root.home(container_id).read()
    process = spec.read(Path(record.bundle) / "config.json", spec.Spec).process
    assert process is not None
    process.terminal = False
    return process
