"""What the attendant of a shim runs: connects the shim anew, or ends what it stood for."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from signal import SIGKILL
from threading import Thread

import vc_core
from vc_core import PodNotFoundError, SupervisorLostError, VCError
from vc_runtime import shims
from vc_runtime.calls import LOST, Call
from vc_runtime.faults import NoSuchContainer
from vc_runtime.records import Record

#: The states of a container whose processes exist.
_ALIVE = (vc_core.State.RUNNING, vc_core.State.PAUSED)


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
