"""Answers clients' requests about one pod; the same in a supervisor and, for pods without one, in the client."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any

import msgspec

from vc_core.config.container import Cmd, ContainerConfig
from vc_core.driver.agent import Process, TerminalSize
from vc_core.engine.containers import Attachment
from vc_core.engine.engine import Engine
from vc_core.engine.logs import ContainerLog
from vc_core.engine.streams import AttachedIO, FdReader, FdWriter, ready
from vc_core.errors import ConfigError, SupervisorError, VCError
from vc_core.supervisor import wire

_log = logging.getLogger(__name__)

#: Names the kinds of stream in a request's ``stdio``.
_NONE, _DESCRIPTOR = "none", "fd"

#: What a client can send for a process: the numbers of signal(7), real-time ones too; 0 stands for its terminal's size.
_Signal = Annotated[int, msgspec.Meta(ge=1, le=64)]
_RESIZE = 0

#: Seconds that a client has to take its answer, should it be behind.
_ANSWERED = 10.0

#: Seconds between the end of a killed client's pipes and the end of its connection, at most.
_LEAVING = 0.2


class Connection:
    """One client's request: its streams, what is told to it meanwhile, and what it says meanwhile."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        sock.setblocking(False)
        self._fds: list[int] = []
        #: Signals and the terminal's last size, for a process that has not got them yet, and whether there are any.
        self._pending: dict[int, TerminalSize | None] = {}
        self._heard = asyncio.Event()
        self._left = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def greet(self) -> None:
        """Tell the client that it is served."""
        wire.send(self._sock, {"supervisor": os.getpid()})

    async def request(self) -> dict[str, Any] | None:
        """Return the client's request, None when it left."""
        message, self._fds = await self._receive()
        return message

    async def _receive(self) -> tuple[dict[str, Any] | None, list[int]]:
        while True:
            try:
                return wire.receive(self._sock)
            except BlockingIOError:
                await ready(self._sock.fileno(), writing=False)
            except OSError:
                return None, []

    def streams(self, kinds: list[str], log: ContainerLog | None = None) -> AttachedIO:
        """Return the request's streams as a process' stdin, stdout and stderr, with ``log`` closed as they are.

        Raises ConfigError: then all are closed.
        """
        fds = [self._fds.pop(0) if kind == _DESCRIPTOR and self._fds else None for kind in kinds]
        ends: list[Any] = []
        try:
            for fd, end in zip(fds, (FdReader, FdWriter, FdWriter), strict=True):
                ends.append(None if fd is None else end(fd))
        except ConfigError:
            for opened in (*ends, log):
                if opened is not None:
                    opened.close()
            for fd in fds[len(ends) + 1 :]:
                if fd is not None:
                    os.close(fd)
            raise
        stdin, stdout, stderr = ends
        return AttachedIO(stdin, stdout, stderr, log)

    def tell(self, event: str, **what: Any) -> None:
        """Send an event; one that a slow or gone client does not take is dropped."""
        with suppress(OSError):
            wire.send(self._sock, {"event": event, **what})

    async def answer(self, message: dict[str, Any]) -> None:
        """Send the result or error, once a client that is behind takes it; one that has gone gets none."""
        with suppress(OSError):  # of which TimeoutError is one
            async with asyncio.timeout(_ANSWERED):
                while True:
                    try:
                        return wire.send(self._sock, message)
                    except BlockingIOError:
                        await ready(self._sock.fileno(), writing=True)

    async def listen(self) -> None:
        """Take what the client says while its request is worked on; return when it leaves.

        Waits for nothing but the client, so that its leaving is seen whatever its process does.
        """
        while True:
            message, fds = await self._receive()
            for fd in fds:
                os.close(fd)
            if message is None:
                self._left.set()
                return
            self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        """Keep a signal or a size until the process gets it.

        Of sizes the last one counts, and a signal that is pending already is merged with it, as in a kernel: so what is
        kept has a bound, however fast the client and however slow the guest.
        """
        with suppress(msgspec.ValidationError):
            if "resize" in message:
                self._pending[_RESIZE] = msgspec.convert(message["resize"], TerminalSize)
            else:
                self._pending[msgspec.convert(message.get("signal"), _Signal)] = None
            self._heard.set()

    def wire_process(
        self,
        io: AttachedIO,
        send: Callable[[int], Awaitable[None]],
        resize: Callable[[TerminalSize], Awaitable[None]],
    ) -> None:
        """Let the client's signals and sizes reach the process that uses ``io``, and SIGPIPE when nobody reads it.

        What the client said before there was a process comes first. A client that was killed leaves no reader either,
        but that is for whoever serves it to judge.
        """

        async def pass_on() -> None:
            while await self._heard.wait():
                self._heard.clear()
                while self._pending:
                    signum = next(iter(self._pending))
                    size = self._pending.pop(signum)
                    with suppress(VCError):
                        await (send(signum) if size is None else resize(size))

        async def sigpipe() -> None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._left.wait(), _LEAVING)
            if not self._left.is_set():
                with suppress(VCError):
                    await send(signal.SIGPIPE)

        self._begin(pass_on())
        io.on_broken = lambda: self._begin(sigpipe())

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(task := asyncio.create_task(work))
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Close the connection and descriptors that nobody took."""
        for task in self._tasks:
            task.cancel()
        self._sock.close()
        for fd in self._fds:
            os.close(fd)
        self._fds = []


async def serve(engine: Engine, sock: socket.socket) -> None:
    """Serve one connection: one request, its answer. Takes over the socket."""
    connection = Connection(sock)
    try:
        await connection.greet()
        request = await connection.request()
        if request is None:
            return
        await connection.answer(await _answer(engine, connection, request))
    except (OSError, VCError) as error:
        _log.info("a client was not served: %s", error)
    finally:
        connection.close()


async def _answer(engine: Engine, connection: Connection, request: dict[str, Any]) -> dict[str, Any]:
    """Return the message that answers a request; a client that leaves withdraws it."""
    work = asyncio.ensure_future(_perform(engine, connection, request))
    talk = asyncio.ensure_future(connection.listen())
    try:
        await asyncio.wait({work, talk}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
        return {"result": await work}
    except asyncio.CancelledError:
        return {"error": SupervisorError("the request was withdrawn").to_wire()}
    except VCError as error:
        return {"error": error.to_wire()}
    except Exception as error:
        _log.exception("request %r failed", request.get("op"))
        return {"error": SupervisorError(f"{request.get('op')} failed unexpectedly: {error!r}").to_wire()}
    finally:
        talk.cancel()
        await asyncio.gather(talk, return_exceptions=True)


async def _perform(engine: Engine, connection: Connection, request: dict[str, Any]) -> Any:
    operation = _OPERATIONS.get(str(request.get("op")))
    if operation is None:
        raise SupervisorError(f"unknown request {request.get('op')!r}; the client may be of another version")
    return await operation(engine, connection, request)


@contextmanager
def _attachment(engine: Engine, connection: Connection, request: dict[str, Any]) -> Iterator[Attachment | None]:
    """Give the streams of a container that starts in the client's foreground; closed again if it does not start."""
    if "stdio" not in request:
        yield None
        return
    io = connection.streams(request["stdio"], engine.open_log(request["container"]))
    try:
        yield Attachment(io, _size(request.get("terminal")))
    except BaseException:
        io.close()
        raise


async def _foreground(engine: Engine, connection: Connection, container_id: str, attachment: Attachment) -> int | None:
    """Tell the client that its container runs; return its exit code."""

    async def signalled(signum: int) -> None:
        await engine.signal_container(container_id, signum)

    async def resized(size: TerminalSize) -> None:
        await engine.resize_container(container_id, size)

    connection.wire_process(attachment.io, signalled, resized)
    connection.tell("started", acceleration=engine.record.acceleration)
    return await engine.wait_container(container_id)


async def _start(engine: Engine, connection: Connection, request: dict[str, Any]) -> Any:
    def progress(phrase: str, fraction: float | None) -> None:
        connection.tell("progress", phrase=phrase, fraction=fraction)

    with _attachment(engine, connection, request) as attachment:
        attached = {} if attachment is None else {request["container"]: attachment}
        await engine.start(progress, attached, request.get("ready_timeout"))
    if attachment is not None:
        return await _foreground(engine, connection, request["container"], attachment)
    connection.tell("started", acceleration=engine.record.acceleration)
    return None


async def _stop(engine: Engine, connection: Connection, request: dict[str, Any]) -> Any:
    # Once begun, a stop is finished even if the caller has lost interest.
    await asyncio.shield(engine.stop(request.get("timeout"), bool(request.get("force"))))


async def _exec(engine: Engine, connection: Connection, request: dict[str, Any]) -> Any:
    io = connection.streams(request["stdio"])

    def control(process: Process) -> None:
        async def signalled(signum: int) -> None:
            await engine.signal(process, signum)

        async def resized(size: TerminalSize) -> None:
            await engine.resize(process, size)

        connection.wire_process(io, signalled, resized)
        connection.tell("started")

    try:
        cmd = msgspec.convert(request["cmd"], Cmd)
        return await engine.exec(request["container"], cmd, io, _size(request.get("terminal")), control)
    finally:
        io.close()


async def _create_container(engine: Engine, connection: Connection, request: dict[str, Any]) -> Any:
    await engine.create_container(msgspec.convert(request["config"], ContainerConfig))


async def _start_container(engine: Engine, connection: Connection, request: dict[str, Any]) -> Any:
    with _attachment(engine, connection, request) as attachment:
        await engine.start_container(request["container"], attachment)
    if attachment is None:
        return None
    return await _foreground(engine, connection, request["container"], attachment)


async def _stop_container(engine: Engine, connection: Connection, request: dict[str, Any]) -> Any:
    force = bool(request.get("force"))
    await asyncio.shield(engine.stop_container(request["container"], request.get("timeout"), force))


async def _kill_container(engine: Engine, connection: Connection, request: dict[str, Any]) -> Any:
    await engine.signal_container(request["container"], msgspec.convert(request["signal"], int))


async def _delete_container(engine: Engine, connection: Connection, request: dict[str, Any]) -> Any:
    await asyncio.shield(engine.delete_container(request["container"], bool(request.get("force"))))


async def _stats(engine: Engine, connection: Connection, request: dict[str, Any]) -> Any:
    return msgspec.to_builtins(await engine.stats_container(request["container"]))


async def _wait(engine: Engine, connection: Connection, request: dict[str, Any]) -> Any:
    return await engine.wait_container(request["container"])


def _size(terminal: dict[str, int] | None) -> TerminalSize | None:
    return None if terminal is None else msgspec.convert(terminal, TerminalSize)


_OPERATIONS = {
    "start": _start,
    "stop": _stop,
    "exec": _exec,
    "create_container": _create_container,
    "start_container": _start_container,
    "stop_container": _stop_container,
    "kill_container": _kill_container,
    "delete_container": _delete_container,
    "stats": _stats,
    "wait": _wait,
}
