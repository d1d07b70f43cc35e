"""Fuzzes a supervisor's socket: a client that sends what it likes, with any descriptors.

Each line of an input is one packet; its first byte is the number of descriptors that go with it. The engine performs
nothing, because requests name paths and processes of this host.
"""

from __future__ import annotations

import array
import asyncio
import logging
import os
import socket
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import msgspec
from fuzzing import fuzz

from vc_core.driver.agent import GuestProcessId
from vc_core.engine.containers import Attachment
from vc_core.engine.logs import ContainerLog
from vc_core.engine.streams import AttachedIO
from vc_core.errors import StateError
from vc_core.results import ContainerUsage
from vc_core.supervisor import wire
from vc_core.supervisor.messages import Answer, Failure, Greeting, Reply
from vc_core.supervisor.service import serve

WORDS = [
    *(b'0{"kind":"%s","container":"c"}\n' % name for name in (b"WaitContainer", b"StopContainer", b"StatsContainer")),
    b'0{"kind":"UpdateContainer","container":"c","memory":9,"pids":9,"cpus":0.5}\n',
    *(
        b'3{"kind":"%s","container":"c","streams":{"passed":[true,true,true]}}\n' % name
        for name in (b"Start", b"StartContainer")
    ),
    *(b'0{"kind":"Signal","number":15}\n', b'1{"kind":"Resize","size":{"rows":1,"columns":2}}\n', b"\n", b"9", b"253"),
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b",",
        b":",
        b"null",
        b"true",
        b"-1",
        b"1e999",
        b"18446744073709551616",
        b"\xff",
        b"\xed\xa0\x80",
    ),
    *(
        b"\\u0000",
        b"\\ud800",
        b'"timeout":',
        b'"streams":',
        b'"passed":',
        b'"config":{"id":"c"}',
        b'"kind":',
        b"[[[[[[[[",
    ),
]

#: Most descriptors that a test sends with one packet; the supervisor takes wire.FDS_MAX.
FDS_MAX = 9

#: Seconds for one connection.
TIMEOUT = 10.0


class Engine:
    """Has the operations of an engine, none of which does anything to the host."""

    loses_streams = ""
    discarded = False
    record = SimpleNamespace(acceleration="kvm", containers=defaultdict(lambda: SimpleNamespace(reason="")))

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def open_log(self, container_id: str) -> ContainerLog:
        return ContainerLog(self._directory / "output.log")

    async def start(
        self, progress: Callable[[str, float], None], attached: Mapping[str, Attachment], *how: object
    ) -> None:
        progress("a phrase", 0.5)
        for attachment in attached.values():
            await self._use(attachment.io)

    async def start_container(self, container_id: str, attachment: Attachment | None, sources: list[int]) -> None:
        for fd in sources:
            os.close(fd)
        if attachment is not None:
            await self._use(attachment.io)

    async def _use(self, io: AttachedIO) -> None:
        await io.write_stdout(b"output")
        await io.write_stderr(b"errors")
        io.close()

    async def exec(
        self,
        container: str,
        cmd: object,
        io: AttachedIO,
        terminal: object,
        on_started: Callable[[GuestProcessId], None],
    ) -> int:
        on_started(GuestProcessId(container, "1"))
        await io.read_stdin()
        await io.write_stdout(b"output")
        return 0

    async def copy(
        self, container: str, copy: object, io: AttachedIO, on_started: Callable[[GuestProcessId], None]
    ) -> int:
        return await self.exec(container, copy, io, None, on_started)

    def attach(self, container_id: str) -> None:
        """Return no input that clients share."""

    async def write_console(self, io: AttachedIO) -> None:
        await io.read_stdin()

    async def wait_container(self, container_id: str) -> int:
        await asyncio.sleep(0)
        return 0

    async def stats_container(self, container_id: str) -> ContainerUsage:
        return ContainerUsage()

    async def create_container(self, config: object) -> None:
        raise StateError("there is a container of this name")

    async def nothing(self, *arguments: object) -> None:
        await asyncio.sleep(0)

    stop = discard = pause = resume = stats = nothing
    stop_container = pause_container = resume_container = update_container = delete_container = nothing
    signal = resize = close_output = signal_container = resize_container = close_container_output = nothing


class Findings(logging.Handler):
    """Keeps the errors that are logged: an exception that the service did not expect is one."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(self.format(record))


def send(client: socket.socket, packet: bytes) -> None:
    count = int(packet[:1]) if packet[:1].isdigit() else 0
    ends: list[int] = []
    for _ in range(min(count, FDS_MAX)):
        ends += os.pipe()
    numbers = array.array("i", ends[:count])
    try:
        client.sendmsg([packet[1:]], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)] if count else [])
    except OSError:
        pass  # the supervisor has closed the connection, or the packet is too long for a socket
    finally:
        for end in ends:
            os.close(end)


async def connection(engine: Engine, data: bytes) -> list[Reply]:
    """Send the packets of an input and leave; return what the supervisor answered."""
    client, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.setblocking(False)
    serving = asyncio.create_task(serve(engine, theirs))  # type: ignore[arg-type] # what serve uses of one
    for packet in data.split(b"\n")[:50]:
        send(client, packet)
        await asyncio.sleep(0)
    client.shutdown(socket.SHUT_WR)
    async with asyncio.timeout(TIMEOUT):
        await serving
    replies: list[Reply] = []
    while True:
        try:
            message, _ = wire.receive(client, msgspec.json.Decoder(Reply).decode)
        except OSError:
            break
        if message is None:
            break
        replies.append(message)
    client.close()
    return replies


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def checker(directory: Path) -> Callable[[bytes], None]:
    engine, findings = Engine(directory), Findings()
    logging.getLogger().addHandler(findings)

    def check(data: bytes) -> None:
        before = descriptors()
        replies = asyncio.run(connection(engine, data))
        assert not findings.messages, findings.messages[0]
        assert not replies or isinstance(replies[0], Greeting), replies
        assert sum(isinstance(one, Answer | Failure) for one in replies) <= 1, replies
        assert descriptors() == before, "a descriptor is left open"

    return check


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        fuzz(WORDS, checker(Path(directory)))
