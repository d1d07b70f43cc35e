"""What the attendant of a shim runs: attaches to the container in the shim's place, or ends what it stood for."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from functools import partial
from signal import SIGKILL
from typing import TYPE_CHECKING, Literal

import msgspec

import vc_core
from vc_core import PodNotFoundError, StateError, SupervisorLostError, VCError
from vc_runtime import shims
from vc_runtime.calls import LOST, Call
from vc_runtime.deletion import is_forgotten, remove
from vc_runtime.faults import NoSuchContainer
from vc_runtime.records import Record

if TYPE_CHECKING:
    from collections.abc import Callable

#: The states of a container whose processes exist.
_ALIVE = (vc_core.State.RUNNING, vc_core.State.PAUSED)

#: Bytes of input, and of a packet of the shim, that are read at once.
_CHUNK = 64 * 1024


class _Size(msgspec.Struct):
    rows: int
    columns: int


class _Packet(msgspec.Struct):
    """What a shim sends (docs/reference/process-connection.md)."""

    kind: Literal["Signal", "Resize"]
    number: int = 0
    size: _Size = msgspec.field(default_factory=lambda: _Size(0, 0))


def attend(call: Call, container_id: str, sock: socket.socket) -> None:
    """Stand for the connection that a shim has lost, and send it the container's exit code. Called by the attendant."""
    record = call.root.home(container_id).read()
    streams = shims.receive_streams(sock)
    try:
        code = _Attachment(record, streams, sock).run()
    except VCError as error:
        call.log.error(str(error))
        code = LOST
    finally:
        streams.close()
    sock.send(f"exit {code}".encode())


class _Attachment:
    """The streams of a shim, connected with its container again and again, while supervisors are lost."""

    def __init__(self, record: Record, streams: shims.Streams, sock: socket.socket) -> None:
        self._record, self._streams, self._sock = record, streams, sock
        self._process: vc_core.Process | None = None
        self._changed = threading.Condition()

    def run(self) -> int:
        """Return the exit code of the container once it ended, and all that it wrote is passed on. Raises VCError."""
        pod, container = self._record.pod, self._record.container
        for work in (self._pass_input, self._pass_signals):
            threading.Thread(target=work, daemon=True).start()
        while self._is_alive():
            try:
                self._attach(pod, container)
            except SupervisorLostError:
                continue
            except StateError:
                if self._is_alive():
                    raise
        return vc_core.wait_container(pod, container)

    def _is_alive(self) -> bool:
        return vc_core.status_container(self._record.pod, self._record.container).state in _ALIVE

    def _attach(self, pod: str, container: str) -> None:
        """Pass on what goes in and out of a container until it ends. Raises StateError if it has, and VCError."""
        try:
            with vc_core.attach_container(pod, container, ends_input=True) as process:
                if (size := self._streams.terminal) is not None:
                    process.resize(*size)
                self._use(process)
                copying = self._pass_output(process)
                process.wait()
                for one in copying:
                    one.join()
        finally:
            self._use(None)

    def _use(self, process: vc_core.Process | None) -> None:
        with self._changed:
            self._process = process
            self._changed.notify_all()

    def _with_process(self, action: Callable[[vc_core.Process], object]) -> None:
        """Call with the process once there is one, and again with the next one if that is lost meanwhile."""
        used: vc_core.Process | None = None
        while True:
            with self._changed:
                while self._process in (None, used):
                    self._changed.wait()
                used = self._process
            assert used is not None
            with suppress(VCError, OSError, ValueError):
                action(used)
                return

    def _pass_output(self, process: vc_core.Process) -> list[threading.Thread]:
        pairs = [(process.stdout, self._streams.fds[1]), (process.stderr, self._streams.fds[2])]
        copying = [threading.Thread(target=_copy, args=pair, daemon=True) for pair in pairs if None not in pair]
        for one in copying:
            one.start()
        return copying

    def _pass_input(self) -> None:
        fd = self._streams.fds[0]
        while fd is not None and (data := _read(fd)):
            self._with_process(partial(_give, data))
        self._with_process(partial(_give, b""))

    def _pass_signals(self) -> None:
        while packet := self._sock.recv(_CHUNK):
            with suppress(msgspec.MsgspecError):
                given = msgspec.json.decode(packet, type=_Packet)
                self._with_process(partial(_forward, given))


def _give(data: bytes, process: vc_core.Process) -> None:
    """Give input to a process, or end its input."""
    assert process.stdin is not None
    if data:
        process.stdin.write(data)
    else:
        process.stdin.close()


def _forward(packet: _Packet, process: vc_core.Process) -> None:
    if packet.kind == "Signal":
        process.kill(packet.number)
    else:
        process.resize(packet.size.rows, packet.size.columns)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, _CHUNK)
    except OSError:  # a terminal that has gone
        return b""


def _copy(reader: vc_core.ProcessReader, fd: int) -> None:
    """Copy until the end, or until the engine does not read any more."""
    with suppress(OSError, ValueError):  # or until the process is closed
        while data := reader.read(_CHUNK):
            while data:
                data = data[os.write(fd, data) :]


def ended(call: Call, container_id: str) -> None:
    """End the VM of a container whose shim has ended and that nobody deletes, or what runs of it beside others."""
    home = call.root.home(container_id)
    with suppress(NoSuchContainer, PodNotFoundError), home.locked():
        record = home.read()
        if record.status != "stopped":
            return
        if is_forgotten(record):
            remove(call, home, record)
            return
        containers = vc_core.status_pod(record.pod).containers
        running = {one.id for one in containers if one.state in _ALIVE}
        if not running - {record.container}:
            vc_core.delete_pod(record.pod, force=True)
        elif record.container in running:
            vc_core.kill_container(record.pod, record.container, SIGKILL)
