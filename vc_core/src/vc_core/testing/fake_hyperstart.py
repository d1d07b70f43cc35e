"""A guest without a VM: the other end of the hyperstart protocol, good or misbehaving.

Written from ``guest-protocol.md`` and the protocol it extends, apart from any host's code, so that both must agree on
the wire. Commands are small coroutines (:data:`PROGRAMS`), not processes. Give :meth:`FakeHyperstart.open_channel` to
an agent; afterwards ``violations`` tells what the host did that the protocol does not allow.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import Any, Self

CONTROL = "sh.hyper.channel.0"
STREAM = "sh.hyper.channel.1"

#: Control frame codes.
GETVERSION, STARTPOD, GETPOD, DESTROYPOD, EXECCMD = 0, 1, 2, 4, 6
READY, ACK, ERROR, WINSIZE, PING, PODFINISHED, NEXT = 8, 9, 10, 11, 12, 13, 14
NEWCONTAINER, KILLCONTAINER, REMOVECONTAINER, PROCESSASYNCEVENT, SIGNALPROCESS = 17, 18, 22, 23, 24
HELLO, SIGNAL = 4096, 4097

#: Stream control frame types.
CREDIT, RELEASE, RESUME = 1, 2, 3

WINDOW = 65536
PAYLOAD_MAX = 32768
CREDIT_STEP = 16384
MAGIC = b"\xffVCSYNC\x00\xff"

#: An original keeps this much input of a process, drops the rest, and dies of frames above the second figure.
ORIGINAL_INPUT_MAX = 512
ORIGINAL_FRAME_MAX = 4096
#: Most payload in an original's output frames.
ORIGINAL_PAYLOAD_MAX = 10228

FEATURES = (
    "no-next", "reasons", "exec-ack", "signal", "status128", "drain", "credit", "sync", "pod-stays", "overlay",
)  # fmt: skip

_PROCESS_KEYS = {"terminal", "stdio", "stderr", "args", "envs", "workdir", "user", "group", "additionalGroups"}
_CONTAINER_KEYS = {"id", "image", "rootfs", "process", "initialize", "overlay", "overlaySize"}


class Misbehaviour(StrEnum):
    """How the guest goes wrong, from the first command of code ``at`` on (the first two: at once)."""

    NEVER_READY = "never-ready"
    EOF_AFTER_READY = "eof-after-ready"
    SILENT = "silent"  #: answers nothing
    LATE = "late"  #: does nothing until :meth:`FakeHyperstart.catch_up`
    EOF = "eof"  #: closes both channels instead of an answer
    EOF_MID_FRAME = "eof-mid-frame"
    BAD_CONTROL_LENGTH = "bad-control-length"  #: a control frame whose length is ``length``
    BAD_STREAM_LENGTH = "bad-stream-length"
    ERROR = "error"  #: ERROR to everything
    HOSTILE_REASON = "hostile-reason"  #: ERROR with a long reason full of control characters
    BAD_NEXT = "bad-next"  #: NEXT frames that do not add up to what was sent
    WRONG_CODE = "wrong-code"  #: an answer that is neither ACK nor ERROR
    DOUBLE_REPLY = "double-reply"
    JSON_BOMB = "json-bomb"  #: an answer of deeply nested JSON
    READY_AGAIN = "ready-again"  #: not an offence: READY once more before the answer
    UNKNOWN_SEQUENCES = "unknown-sequences"  #: frames of streams that nobody asked for, then as it should be
    OUTPUT_FLOOD = "output-flood"  #: output beyond any window, without end
    BAD_CREDIT = "bad-credit"  #: credit for input that was never sent
    DATA_AFTER_END = "data-after-end"


class FakeProcess:
    """A command in the fake guest, as its program sees it."""

    def __init__(self, guest: FakeHyperstart, container: str, spec: Mapping[str, Any], *, init: bool) -> None:
        self.container = container
        self.init = init
        self.args: list[str] = spec["args"]
        self.env = {item["env"]: item["value"] for item in spec.get("envs", ())}
        self.terminal: bool = spec["terminal"]
        self.stdio: int = spec["stdio"]
        self.size: tuple[int, int] | None = None
        self.status: int | None = None
        self.killed_by = 0
        self.received = self.consumed = self.credited = 0
        self.closed = False
        self.task: asyncio.Task[None]
        self.stdout = _Output(guest, self, self.stdio)
        self.stderr = _Output(guest, self, spec["stderr"]) if spec["stderr"] else self.stdout
        self._guest = guest
        self._input = bytearray()
        self._changed = asyncio.Event()

    async def read(self, limit: int = PAYLOAD_MAX) -> bytes:
        """Return the next input, empty at its end."""
        while not self._input and not self.closed:
            self._changed.clear()
            await self._changed.wait()
        data = bytes(self._input[:limit])
        del self._input[:limit]
        self.consumed += len(data)
        if self._guest.extended and self.consumed - self.credited >= CREDIT_STEP:
            self.credited = self.consumed
            self._guest.stream_control(CREDIT, self.stdio, self.consumed)
        return data

    async def write(self, data: bytes) -> None:
        """Write output; waits while the host does not take it."""
        await self.stdout.write(data)

    async def write_error(self, data: bytes) -> None:
        """Write error output."""
        await self.stderr.write(data)

    def take_input(self, payload: bytes) -> None:
        """Take a stream frame from the host."""
        guest = self._guest
        if self.status is not None:
            return
        if not payload:
            self.closed = self.closed or not self.terminal
        elif guest.extended:
            self.received += len(payload)
            if self.closed:
                guest.violations.append(f"input after the end of input of {self.args}")
            if len(payload) > PAYLOAD_MAX or self.received - self.consumed > WINDOW:
                guest.violations.append(f"input beyond the window of {self.args}")
            self._input += payload
        else:
            if len(payload) > ORIGINAL_INPUT_MAX:
                guest.violations.append(f"{len(payload)} bytes of input in one frame to an original")
            self._input += payload[: ORIGINAL_INPUT_MAX - len(self._input)]
        self._changed.set()

    def kill(self, signum: int) -> None:
        """Take a signal; each but 0 ends the program."""
        if signum and self.status is None:
            self.killed_by = signum
            self.task.cancel()

    def report(self) -> dict[str, object]:
        """Return what HELLO's reply says of this process."""
        return {
            "container": self.container,
            "init": self.init,
            "stdio": self.stdio,
            "stderr": 0 if self.stderr is self.stdout else self.stderr.sequence,
            "terminal": self.terminal,
            "ended": self.status is not None,
            "status": self.status or 0,
            "received": self.received,
            "consumed": self.consumed,
            "closed": self.closed,
            "stdout_from": self.stdout.base,
            "stderr_from": 0 if self.stderr is self.stdout else self.stderr.base,
        }


class _Output:
    """What a program wrote on one stream and the host has not acknowledged."""

    def __init__(self, guest: FakeHyperstart, process: FakeProcess, sequence: int) -> None:
        self.sequence = sequence
        self.base = 0  #: bytes that the host consumed
        self.sent = 0
        self.waits = False  #: for RESUME
        self._guest = guest
        self._process = process
        self._kept = bytearray()
        self._changed = asyncio.Event()

    @property
    def drained(self) -> bool:
        return not self.waits and self.sent == self.base + len(self._kept)

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if not self._guest.extended:
                await self._guest.stream.drained()
                self._guest.stream.send(self.sequence, bytes(view[:ORIGINAL_PAYLOAD_MAX]))
                view = view[ORIGINAL_PAYLOAD_MAX:]
            elif room := WINDOW - len(self._kept):
                self._kept += view[:room]
                view = view[room:]
                self.push()
            else:
                self._changed.clear()
                await self._changed.wait()

    def push(self) -> None:
        """Send what the window allows."""
        while not self.waits and (part := bytes(self._kept[self.sent - self.base :][:PAYLOAD_MAX])):
            self.sent += len(part)
            self._guest.stream.send(self.sequence, part)

    def credit(self, consumed: int) -> None:
        """Forget what the host has consumed."""
        if consumed > self.sent:
            self._guest.violations.append(f"credit for {consumed} bytes of which {self.sent} were sent")
        elif consumed > self.base:
            del self._kept[: consumed - self.base]
            self.base = consumed
            self._changed.set()
            self.push()

    def discard(self) -> None:
        """Count everything as consumed: the host resumed the process without this stream."""
        self.base = self.sent = self.base + len(self._kept)
        self._kept.clear()
        self.waits = False

    def resume(self, offset: int) -> None:
        """Go on from byte ``offset``."""
        if not self.base <= offset <= self.base + len(self._kept):
            self._guest.violations.append(f"resume of {self.sequence} from {offset}, kept from {self.base}")
        self.sent = offset
        self.waits = False
        self.push()


#: What a command does: returns its exit status.
Program = Callable[[FakeProcess], Awaitable[int]]


async def _true(process: FakeProcess) -> int:
    return 0


async def _exit(process: FakeProcess) -> int:
    """``exit STATUS``."""
    return int(process.args[1])


async def _echo(process: FakeProcess) -> int:
    """``echo WORDS...``, on both outputs where there are two."""
    line = " ".join(process.args[1:]).encode() + b"\n"
    await process.write(line)
    return 0


async def _warn(process: FakeProcess) -> int:
    """``warn WORDS...``: echo on error output."""
    await process.write_error(" ".join(process.args[1:]).encode() + b"\n")
    return 0


async def _cat(process: FakeProcess) -> int:
    while data := await process.read():
        ends = process.terminal and b"\x04" in data
        await process.write(data.partition(b"\x04")[0] if ends else data)
        if ends:
            break
    return 0


async def _count(process: FakeProcess) -> int:
    """``count``: the number of bytes of input."""
    total = 0
    while data := await process.read():
        total += len(data)
    await process.write(str(total).encode())
    return 0


async def _pattern(process: FakeProcess) -> int:
    """``pattern SIZE``: that many bytes of output, see :func:`pattern`."""
    size, block = int(process.args[1]), pattern(1 << 16)
    while size:
        part = block[:size]
        await process.write(part)
        size -= len(part)
    return 0


async def _sleep(process: FakeProcess) -> int:
    """``sleep``: until killed."""
    await asyncio.Event().wait()
    return 0


def pattern(size: int) -> bytes:
    """Return what the program ``pattern`` writes."""
    block = struct.pack(">32768H", *range(32768))
    return (block * (size // len(block) + 1))[:size]


PROGRAMS: Mapping[str, Program] = {
    "true": _true,
    "exit": _exit,
    "echo": _echo,
    "warn": _warn,
    "cat": _cat,
    "count": _count,
    "pattern": _pattern,
    "sleep": _sleep,
}


class _Port(asyncio.Protocol):
    """The guest's end of one channel; hosts come and go."""

    def __init__(self, guest: FakeHyperstart, header: struct.Struct, on_frame: Callable[[int, bytes], None]) -> None:
        self._guest = guest
        self._header = header
        self._on_frame = on_frame
        self._transport: asyncio.Transport | None = None
        self._queue = bytearray()
        self._raw = b""
        self._frame = bytearray()
        self._lost = False
        self._writable = asyncio.Event()
        self._stalled = asyncio.Event()
        self._gone = asyncio.Event()
        self._gone.set()

    async def connect(self) -> socket.socket:
        """Return the host's end of a new connection. Like QEMU, serves one host at a time."""
        if self._transport is not None:
            await self._gone.wait()
        host, guest = socket.socketpair()
        host.setblocking(False)
        self._gone.clear()
        await asyncio.get_running_loop().create_connection(lambda: self, sock=guest)
        return host

    def send(self, key: int, payload: bytes = b"") -> None:
        self.send_raw(self._header.pack(key, self._header.size + len(payload)) + payload)

    def send_raw(self, data: bytes) -> None:
        if self._transport is None:
            self._queue += data
        else:
            self._transport.write(data)

    async def drained(self) -> None:
        """Return once the host takes what is sent."""
        await self._writable.wait()

    async def stalled(self) -> None:
        """Return once the host no longer takes what is sent."""
        await self._stalled.wait()

    def close(self) -> None:
        """Close after what was written has left."""
        if self._transport is not None:
            self._transport.close()

    async def closed(self) -> None:
        await self._gone.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._writable.set()
        if self._queue:
            transport.write(bytes(self._queue))
            self._queue.clear()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._writable.clear()
        self._gone.set()

    def pause_writing(self) -> None:
        self._writable.clear()
        self._stalled.set()

    def resume_writing(self) -> None:
        self._writable.set()
        self._stalled.clear()

    def data_received(self, data: bytes) -> None:
        if self._guest.marker is not None:
            self._raw += data
            found = self._raw.find(self._guest.marker)
            end = found + len(self._guest.marker) + 8
            if found >= 0 and len(self._raw) >= end:
                marker, data = self._raw[found:end], self._raw[end:]
                self._raw, self._lost = data, False
                self._frame.clear()
                self._queue.clear()
                if self is self._guest.stream:
                    self._guest.hold_all()
                self.send_raw(marker)
            elif found < 0:
                self._raw = self._raw[-(len(self._guest.marker) - 1) :]
        if self is self._guest.control and not self._guest.extended:
            self._guest.next(len(data))
        self._frame += data
        while len(self._frame) >= self._header.size and not self._lost:
            key, length = self._header.unpack_from(self._frame)
            if not self._header.size <= length <= 1 << 20:
                self._lost = True
                if self._guest.marker is None:
                    self._guest.violations.append(f"a frame of length {length}")
            elif len(self._frame) < length:
                break
            else:
                payload = bytes(self._frame[self._header.size : length])
                del self._frame[:length]
                self._on_frame(key, payload)


class FakeHyperstart:
    """A guest that has booted.

    ``ours``: it answers HELLO; otherwise it is an original of version ``api``. ``misbehaviour``: how it
    goes wrong from the first command of code ``at`` on. ``length``: for BAD_*_LENGTH. Use as an async context manager.
    """

    def __init__(
        self,
        *,
        ours: bool = True,
        api: int = 4242,
        misbehaviour: Misbehaviour | None = None,
        at: int = GETVERSION,
        length: int = 0,
        programs: Mapping[str, Program] = PROGRAMS,
    ) -> None:
        self.extended = False  #: after HELLO
        self.marker: bytes | None = None
        self.commands: list[tuple[int, bytes]] = []  #: every control frame of the host
        self.violations: list[str] = []
        self.processes: dict[int, FakeProcess] = {}
        self.powered_off = False
        self._ours = ours
        self._api = api
        self._misbehaviour = misbehaviour
        self._at = at
        self._misbehaving = False
        self._length = length
        self._programs = programs
        self._token: str | None = None
        self._pod = False
        self._containers: dict[str, FakeProcess] = {}
        self._late: list[tuple[int, bytes]] = []
        self._flood: asyncio.Task[None] | None = None
        self.control = _Port(self, struct.Struct(">II"), self._on_command)
        self.stream = _Port(self, struct.Struct(">QI"), self._on_stream)
        if misbehaviour is not Misbehaviour.NEVER_READY:
            self.control.send(READY)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        tasks = [process.task for process in self.processes.values()]
        if self._flood is not None:
            tasks.append(self._flood)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.power_off()
        await self.control.closed()
        await self.stream.closed()

    async def open_channel(self, name: str) -> socket.socket:
        """Return a connected socket to a channel; waits until an earlier host has gone. An agent's ``open_channel``."""
        sock = await {CONTROL: self.control, STREAM: self.stream}[name].connect()
        if self._misbehaviour is Misbehaviour.EOF_AFTER_READY:
            self.power_off()
        return sock

    def power_off(self) -> None:
        """Close both channels, as the end of the VM does."""
        self.powered_off = True
        self.control.close()
        self.stream.close()

    # Commands.

    def next(self, size: int) -> None:
        """Acknowledge bytes, a header's at a time, as an original does."""
        while size:
            part = min(size, 8)
            size -= part
            wrong = self._misbehaving and self._misbehaviour is Misbehaviour.BAD_NEXT
            self.control.send(NEXT, struct.pack(">I", part + wrong))

    def _on_command(self, code: int, payload: bytes) -> None:
        self.commands.append((code, payload))
        self._misbehaving = self._misbehaving or (self._misbehaviour is not None and code == self._at)
        if self._misbehaving and self._misbehaviour is Misbehaviour.LATE:
            self._late.append((code, payload))
        elif not (self._misbehaving and self._misbehave()):
            self._obey(code, payload)

    def catch_up(self) -> None:
        """Do what came since the guest became LATE, and be punctual from now on."""
        self._misbehaviour = None
        for code, payload in self._late:
            self._obey(code, payload)

    def _obey(self, code: int, payload: bytes) -> None:
        handler = {
            GETVERSION: self._get_version,
            STARTPOD: self._start_pod,
            DESTROYPOD: self._destroy_pod,
            EXECCMD: self._exec,
            WINSIZE: self._winsize,
            PING: self._ping,
            NEWCONTAINER: self._new_container,
            KILLCONTAINER: self._kill_container,
            REMOVECONTAINER: self._remove_container,
            SIGNALPROCESS: self._signal_process,
            HELLO: self._hello,
            SIGNAL: self._signal,
        }.get(code)
        if handler is None:
            self._refuse(f"no command has the code {code}")
            return
        try:
            handler(payload)
        except (KeyError, ValueError, TypeError) as error:
            self.violations.append(f"command {code} with {payload[:200]!r}: {error!r}")
            self._refuse("the command cannot be read")
        if self._misbehaving and self._misbehaviour is Misbehaviour.DOUBLE_REPLY:
            self._answer()

    def _misbehave(self) -> bool:
        """Go wrong in an answer's place; return False to answer all the same."""
        match self._misbehaviour:
            case Misbehaviour.SILENT:
                pass
            case Misbehaviour.EOF:
                self.power_off()
            case Misbehaviour.EOF_MID_FRAME:
                self.control.send_raw(struct.pack(">II", ACK, 100) + b"half")
                self.power_off()
            case Misbehaviour.BAD_CONTROL_LENGTH:
                self.control.send_raw(struct.pack(">II", ACK, self._length) + bytes(64))
            case Misbehaviour.BAD_STREAM_LENGTH:
                self.stream.send_raw(struct.pack(">QI", 1, self._length) + bytes(64))
            case Misbehaviour.ERROR:
                self.control.send(ERROR)
            case Misbehaviour.HOSTILE_REASON:
                reason = "\x1b]0;owned\x07\n\u202e" + "x" * 100_000
                self.control.send(ERROR, json.dumps({"reason": reason, "exit_code": 127}).encode())
            case Misbehaviour.WRONG_CODE:
                self.control.send(PING)
            case Misbehaviour.JSON_BOMB:
                self.control.send(ACK, b'{"version": 1, "bomb": ' + b"[" * 500_000)
            case Misbehaviour.READY_AGAIN:
                self.control.send(READY)
                return False
            case Misbehaviour.UNKNOWN_SEQUENCES:
                for number in range(20_000):
                    self.stream.send(2**60 + number, b"?" * 100)
                return False
            case Misbehaviour.OUTPUT_FLOOD:
                self._flood = self._flood or asyncio.get_running_loop().create_task(self._flood_forever())
                return False
            case _:
                return False
        return True

    async def _flood_forever(self) -> None:
        while True:
            await self.stream.drained()
            for sequence in self.processes:
                self.stream.send(sequence, bytes(PAYLOAD_MAX))
            await asyncio.sleep(0)

    def _answer(self, payload: bytes = b"") -> None:
        self.control.send(ACK, payload)

    def _refuse(self, reason: str, exit_code: int = 0) -> None:
        if self.extended:
            refusal = {"reason": reason} | ({"exit_code": exit_code} if exit_code else {})
            self.control.send(ERROR, json.dumps(refusal).encode())
        else:
            self.control.send(ERROR)

    def _get_version(self, payload: bytes) -> None:
        self._answer(struct.pack(">I", self._api))

    def _ping(self, payload: bytes) -> None:
        self._answer()

    def _hello(self, payload: bytes) -> None:
        hello = json.loads(payload)
        if not self._ours or self._token not in (None, hello["token"]) or len(hello["token"]) != 32:
            self._refuse("the token is not the boot's")
            return
        self._token = hello["token"]
        self.marker = MAGIC + bytes.fromhex(hello["token"])
        self.extended = True
        reply = {
            "version": 1,
            "features": FEATURES,
            "processes": [process.report() for process in self.processes.values()],
        }
        self._answer(json.dumps(reply).encode())

    def _start_pod(self, payload: bytes) -> None:
        pod = json.loads(payload)
        if unknown := set(pod) - {"hostname", "containers", "shareDir"}:
            raise ValueError(f"unknown keys {unknown}")
        if not pod["hostname"] or pod["containers"]:
            raise ValueError("hostname must be there, and containers empty")
        if self._pod:
            self._refuse("the pod has started")
            return
        self._pod = True
        self._answer()

    def _destroy_pod(self, payload: bytes) -> None:
        for process in self.processes.values():
            process.kill(signal.SIGTERM)
        self._answer()
        self.power_off()

    def _new_container(self, payload: bytes) -> None:
        container = json.loads(payload)
        allowed = _CONTAINER_KEYS if self.extended else _CONTAINER_KEYS - {"overlay", "overlaySize"}
        if unknown := set(container) - allowed:
            raise ValueError(f"unknown keys {unknown}")
        if container["initialize"] is not False or not container["image"]:
            raise ValueError("initialize must be false, and image not empty")
        if not self._pod or container["id"] in self._containers:
            self._refuse("there is no pod, or the container exists")
            return
        self._run(container["id"], container["process"], init=True)

    def _exec(self, payload: bytes) -> None:
        command = json.loads(payload)
        self._run(command["container"], command["process"], init=False)

    def _run(self, container: str, spec: dict[str, Any], *, init: bool) -> None:
        late = self._api > 4242 and not self.extended
        if unknown := set(spec) - _PROCESS_KEYS - ({"id"} if late else set()):
            raise ValueError(f"unknown keys {unknown}")
        if late and spec["id"] != str(spec["stdio"]):
            raise ValueError("this guest's processes are found by id")
        numbers = [number for number in (spec["stdio"], spec["stderr"]) if number]
        used = {number for process in self.processes.values() for number in (process.stdio, process.stderr.sequence)}
        if len(set(numbers)) < 1 + (not spec["terminal"]) or used & set(numbers) or max(numbers) >= 2**53:
            raise ValueError("stream numbers must be unique, below 2^53, and stderr not 0 without a terminal")
        program = self._programs.get(spec["args"][0])
        problem = 0 if program else 127
        if not init and container not in self._containers:
            problem = 125
        if problem and self.extended:
            self._refuse(f"{spec['args'][0]} cannot be run", problem)
            return
        process = FakeProcess(self, container, spec, init=init)
        self.processes[process.stdio] = process
        if init:
            self._containers[container] = process
        self._answer()
        process.task = asyncio.get_running_loop().create_task(self._live(process, program, problem))

    async def _live(self, process: FakeProcess, program: Program | None, problem: int) -> None:
        status = problem
        try:
            if program is None:
                await process.write_error(b"exec failed: No such file or directory\n")
            elif not problem:
                status = await program(process)
        except asyncio.CancelledError:
            if not process.killed_by:
                raise
            status = 128 + process.killed_by if self.extended else 0
        process.status = status
        self._finish(process)

    def _finish(self, process: FakeProcess) -> None:
        """Report a process' end if it has ended and its output was sent."""
        if process.status is None or not (process.stdout.drained and process.stderr.drained):
            return
        self.stream.send(process.stdio)
        if self._misbehaving and self._misbehaviour is Misbehaviour.DATA_AFTER_END:
            self.stream.send(process.stdio, b"more")
        if self.extended:
            self.stream.send(process.stdio, bytes([process.status]))
            return
        del self.processes[process.stdio]
        if self._api > 4242:
            if process.init:
                del self._containers[process.container]
            event = {"container": process.container, "process": str(process.stdio), "event": "finished"}
            self.control.send(PROCESSASYNCEVENT, json.dumps(event | {"status": process.status}).encode())
            return
        self.stream.send(process.stdio, bytes([process.status]))
        if process.init and all(other.status is not None for other in self._containers.values()):
            statuses = [other.status or 0 for other in self._containers.values()]
            self.control.send(PODFINISHED, struct.pack(f">{len(statuses)}I", *statuses))
            self._pod = False
            self._containers.clear()

    def _winsize(self, payload: bytes) -> None:
        size = json.loads(payload)
        late = self._api > 4242 and not self.extended
        process = self.processes.get(int(size["process"]) if late else size["seq"])
        if process is not None:
            process.size = (size["row"], size["column"])
        self._answer()

    def _kill_container(self, payload: bytes) -> None:
        request = json.loads(payload)
        if not isinstance(request["signal"], int):
            raise ValueError("the signal must be a number")
        process = self._containers.get(request["container"])
        if process is None:
            self._refuse(f"there is no container {request['container']}")
            return
        process.kill(request["signal"])
        self._answer()

    def _signal_process(self, payload: bytes) -> None:
        request = json.loads(payload)
        process = self.processes.get(int(request["process"]))
        if self._api == 4242 or self.extended or process is None:
            self._refuse("there is no such process")
            return
        process.kill(request["signal"])
        self._answer()

    def _signal(self, payload: bytes) -> None:
        request = json.loads(payload)
        process = self.processes.get(request["stdio"])
        if not self.extended or process is None:
            self._refuse("there is no such process")
            return
        process.kill(request["signal"])
        self._answer()

    def _remove_container(self, payload: bytes) -> None:
        container = json.loads(payload)["container"]
        process = self._containers.get(container)
        if process is None or process.status is None:
            self._refuse("the container runs, or there is none")
            return
        del self._containers[container]
        self.processes.pop(process.stdio, None)
        self._answer()

    # Streams.

    def stream_control(self, kind: int, stream: int, value: int) -> None:
        """Send a stream control frame."""
        if self._misbehaving and self._misbehaviour is Misbehaviour.BAD_CREDIT:
            value += 1 << 40
        self.stream.send(0, struct.pack(">BQQ", kind, stream, value))

    def hold_all(self) -> None:
        """Let every stream wait for RESUME, after a sync."""
        for process in self.processes.values():
            process.stdout.waits = process.stderr.waits = True

    def _on_stream(self, sequence: int, payload: bytes) -> None:
        if sequence == 0 and self.extended:
            self._on_stream_control(*struct.unpack(">BQQ", payload))
        elif (process := self.processes.get(sequence)) is not None:
            process.take_input(payload)
        elif not self.extended:
            self.stream.send(sequence)
        if not self.extended and len(payload) + 12 > ORIGINAL_FRAME_MAX:
            self.power_off()

    def _on_stream_control(self, kind: int, stream: int, value: int) -> None:
        for process in list(self.processes.values()):
            output = {process.stderr.sequence: process.stderr, process.stdio: process.stdout}.get(stream)
            if output is None:
                continue
            match kind:
                case 1:
                    output.credit(value)
                case 2:
                    if process.status is not None:
                        del self.processes[stream]
                case 3:
                    if output is process.stdout and process.stderr.waits:
                        process.stderr.discard()
                    output.resume(value)
                    if output is process.stdout:
                        self._finish(process)
