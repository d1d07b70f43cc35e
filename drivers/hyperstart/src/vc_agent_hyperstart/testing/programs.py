"""Commands of :mod:`vc_agent_hyperstart.testing.fake_guest`: small coroutines with input and output, no processes."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from vc_agent_hyperstart.codec import StreamControlType
from vc_agent_hyperstart.testing.containers import FakeContainer, Identity, capability_mask
from vc_agent_hyperstart.testing.wire import CREDIT_STEP, PAYLOAD_MAX, WINDOW, Port
from vc_core.driver import CAPABILITIES

#: An original keeps this much input of a process, drops the rest, and dies of frames above the second figure.
ORIGINAL_INPUT_MAX = 512
ORIGINAL_FRAME_MAX = 4096
#: Most payload in an original's output frames.
ORIGINAL_PAYLOAD_MAX = 10228


class Guest(Protocol):
    """What a command needs of the guest that it runs in."""

    extended: bool
    hostname: str
    violations: list[str]
    stream: Port

    def stream_control(self, kind: int, stream: int, value: int) -> None:
        """Send a stream control frame."""


class FakeProcess:
    """A command in the fake guest, as its program sees it. ``inside``: what it is in, the pod or a container."""

    def __init__(
        self, guest: Guest, container: str, inside: FakeContainer, spec: Mapping[str, Any], *, init: bool
    ) -> None:
        self.container = container
        self.inside = inside
        self.hostname = guest.hostname
        self.init = init
        self.args: list[str] = spec["args"]
        self.env = {item["env"]: item["value"] for item in spec.get("envs", ())}
        self.directory: str = spec.get("workdir") or "/"
        self.terminal: bool = spec["terminal"]
        self.stdio: int = spec["stdio"]
        self.size: tuple[int, int] | None = (spec["rows"], spec["columns"]) if "rows" in spec else None
        self.resized = asyncio.Event()
        self.status: int | None = None
        self.killed_by = 0
        self.handled: dict[int, int] = {}  #: signals that the program ends on by itself, with these exit codes
        self.received = self.consumed = self.credited = 0
        self.closed: bool = spec.get("noInput", False)
        self.task: asyncio.Task[None]
        self.stdout = Output(guest, self.stdio)
        self.stderr = Output(guest, spec["stderr"]) if spec["stderr"] else self.stdout
        self._guest = guest
        self._spec = spec
        self._input = bytearray()
        self._changed = asyncio.Event()

    @property
    def identity(self) -> Identity:
        """Who the process is. Raises LookupError for a user or group that the containers do not have."""
        return Identity.of(self._spec)

    @property
    def limits(self) -> list[str]:
        """What limits the process, as its umask and files below /proc show it if it is not root."""
        spec, inside = self._spec, self.inside
        sets = spec.get("capabilities") or dict.fromkeys(("inheritable", "ambient"), ()) | {"bounding": CAPABILITIES}
        shown = [sets[name] for name in ("inheritable", "ambient", "ambient", "bounding", "ambient")]
        files = {limit["name"]: limit["soft"] for limit in spec.get("rlimits", ())}.get("nofile", inside.open_files)
        return [
            f"{spec.get('umask', 0o022):04o}",
            str(spec.get("oomScoreAdj", 0)),
            str(files),
            *(f"{capability_mask(names):016x}" for names in shown),
            str(int(spec.get("noNewPrivs", inside.no_new_privs))),
        ]

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
            self._guest.stream_control(StreamControlType.CREDIT, self.stdio, self.consumed)
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
        """Take a signal; each but 0 ends the program, with 128 and its number unless the program handles it."""
        if signum and self.status is None:
            self.killed_by = signum
            self.task.cancel()

    def report(self) -> dict[str, object]:
        """Return this process' report in HELLO's reply."""
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


class Output:
    """What a program wrote on one stream and the host has not acknowledged."""

    def __init__(self, guest: Guest, sequence: int) -> None:
        self.sequence = sequence
        self.base = 0  #: bytes that the host consumed
        self.sent = 0
        self.waits = False  #: for RESUME
        self.closed = False  #: by the host: further writes fail
        self._guest = guest
        self._kept = bytearray()
        self._changed = asyncio.Event()

    @property
    def drained(self) -> bool:
        """Whether all of it was sent."""
        return not self.waits and self.sent == self.base + len(self._kept)

    def close(self) -> None:
        """Drop what is there, and let further writes fail."""
        self.discard()
        self.closed = True
        self._changed.set()

    async def write(self, data: bytes) -> None:
        """Add output; waits while the window is closed. Raises BrokenPipeError once the host has closed the output."""
        view = memoryview(data)
        while view:
            if self.closed:
                raise BrokenPipeError
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
        elif consumed > self.base and not self.closed:
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
