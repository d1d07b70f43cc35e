"""One client's connection: its request, the streams and events that go with it, and its signals."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from vc_core.driver.terminal import TerminalSize
from vc_core.engine.logs import ContainerLog
from vc_core.engine.streams import AttachedIO, FdReader, FdWriter, ready
from vc_core.errors import SupervisorError, VCError
from vc_core.supervisor import wire
from vc_core.supervisor.messages import (
    Answer,
    Control,
    Detach,
    Event,
    Failure,
    Greeting,
    Request,
    Resize,
    Signal,
    Streams,
    decoder,
)

_T = TypeVar("_T")

#: The key of the terminal's size among the pending signals, whose numbers begin with 1.
_RESIZE = 0

#: Seconds that a client which is behind with its events has to make room for its answer.
_ANSWER_TIMEOUT = 10.0

#: Seconds between the end of a killed client's pipes and the end of its connection, at most.
_CLIENT_EXIT_GRACE = 0.2

_log = logging.getLogger(__name__)

_decode_request: Callable[[bytes], Request] = decoder(Request)
_decode_control: Callable[[bytes], Control] = decoder(Control)


class ClientRequest:
    """One client's request: its streams, the events sent to the client, and the signals received from it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        sock.setblocking(False)
        self._fds: list[int] = []
        #: Signals, and the terminal's last size, that the process has not got yet.
        self._pending: dict[int, TerminalSize | None] = {}
        #: Sends them to the process, once there is one.
        self._forward: Callable[[], Coroutine[Any, Any, None]] | None = None
        self._forwarding: asyncio.Task[None] | None = None
        self._left = asyncio.Event()
        self._io: AttachedIO | None = None
        #: Whether the client left its process to itself.
        self.detached = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def greet(self) -> None:
        """Send the greeting; the client may now send its request. Raises OSError when it has gone."""
        wire.send(self._sock, Greeting(supervisor=os.getpid()))

    async def request(self) -> Request | None:
        """Return the client's request, None when it left. Raises SupervisorError for a message that is not one."""
        message, self._fds = await self._receive(_decode_request)
        return message

    async def _receive(self, decode: Callable[[bytes], _T]) -> tuple[_T | None, list[int]]:
        while True:
            try:
                return wire.receive(self._sock, decode)
            except BlockingIOError:
                await ready(self._sock.fileno(), writing=False)
            except OSError:
                return None, []

    def streams(self, streams: Streams, log: ContainerLog | None = None) -> AttachedIO:
        """Return the request's streams as a process' stdin, stdout and stderr, with ``log`` closed as they are.

        Raises ConfigError for a descriptor that cannot be used, SupervisorError when the request came with fewer
        descriptors than it names, OSError when there is no room for another: then all are closed. What stayed open
        would keep the client waiting for its end.
        """
        ends: list[Any] = []
        try:
            if len(self._fds) < sum(streams.passed):
                raise SupervisorError(f"a request names {sum(streams.passed)} descriptors and has {len(self._fds)}")
            for passed, end in zip(streams.passed, (FdReader, FdWriter, FdWriter), strict=True):
                ends.append(end(self._fds.pop(0)) if passed else None)
        except (VCError, OSError):
            for opened in (*ends, log):
                if opened is not None:
                    opened.close()
            self._close_descriptors()
            raise
        stdin, stdout, stderr = ends
        self._io = AttachedIO(stdin, stdout, stderr, log)
        return self._io

    def sources(self, count: int) -> list[int]:
        """Return so many descriptors that came after those of the streams, for the caller to close.

        Raises SupervisorError when the request came with fewer than it names.
        """
        if len(self._fds) < count:
            raise SupervisorError(f"a request names {count} sources and has {len(self._fds)}")
        taken, self._fds = self._fds[:count], self._fds[count:]
        return taken

    def send_event(self, event: Event) -> None:
        """Send an event; one that a slow or gone client does not take is dropped."""
        with suppress(OSError):
            wire.send(self._sock, event)

    async def answer(self, message: Answer | Failure) -> None:
        """Send the result or error, once a client that is behind takes it; one that has gone gets none."""
        with suppress(OSError):  # of which TimeoutError is one
            if self._sends(message):
                return
            async with asyncio.timeout(_ANSWER_TIMEOUT):
                while not self._sends(message):
                    await ready(self._sock.fileno(), writing=True)

    def _sends(self, message: Answer | Failure) -> bool:
        """Return whether a message was sent; False while the client is behind. Raises OSError when it has gone."""
        try:
            wire.send(self._sock, message)
        except BlockingIOError:
            return False
        return True

    @contextmanager
    def listening(self, on_end: Callable[[], None]) -> Iterator[None]:
        """Receive in the block what the client sends; ``on_end`` is called once when it leaves or detaches.

        This waits for nothing but the client, so that its leaving is seen whatever its process does. A message that is
        not valid is ignored, as a client of another version may send it.
        """
        loop, fd = asyncio.get_running_loop(), self._sock.fileno()

        def take() -> None:
            try:
                message, fds = wire.receive(self._sock, _decode_control)
            except BlockingIOError:
                return
            except SupervisorError as error:
                _log.info("ignored: %s", error)
                return
            except OSError:
                message, fds = None, []
            for one in fds:
                os.close(one)
            if message is None:
                self._left.set()
            else:
                self._keep(message)
            if message is None or self.detached:
                loop.remove_reader(fd)
                on_end()

        loop.add_reader(fd, take)
        try:
            yield
        finally:
            loop.remove_reader(fd)

    def _keep(self, message: Control) -> None:
        """Keep a signal or a size until the process gets it.

        Of sizes the last one counts, and a signal that is pending already is merged with it, as in a kernel: so what is
        kept has a bound, however fast the client and however slow the guest.
        """
        match message:
            case Resize(size=size):
                self._pending[_RESIZE] = size
            case Signal(number=number):
                self._pending[number] = None
            case Detach():
                self.detached = True
                if self._io is not None:
                    self._io.detach()
        self._forward_pending()

    def forward_signals(
        self,
        io: AttachedIO,
        send: Callable[[int], Awaitable[None]],
        resize: Callable[[TerminalSize], Awaitable[None]],
        close_output: Callable[[bool], Awaitable[None]],
    ) -> None:
        """Forward the client's signals and sizes to the process that uses ``io``, and close output that nothing reads.

        What the client sent before there was a process comes first. A client that was killed leaves no reader either,
        but then its request is withdrawn, and the service decides what becomes of the process.
        """

        async def forward() -> None:
            while self._pending:
                signum = next(iter(self._pending))
                size = self._pending.pop(signum)
                with suppress(VCError):
                    await (send(signum) if size is None else resize(size))

        async def close(errors: bool) -> None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLIENT_EXIT_GRACE):
                    await self._left.wait()
            if not self._left.is_set():
                with suppress(VCError):
                    await close_output(errors)

        self._forward = forward
        self._forward_pending()

        def on_broken(errors: bool) -> None:
            self.begin(close(errors))

        io.on_broken = on_broken

    def _forward_pending(self) -> None:
        """Begin to send to the process what is pending, unless that is done already, or there is no process yet."""
        if self._pending and self._forward is not None and (self._forwarding is None or self._forwarding.done()):
            self._forwarding = self.begin(self._forward())

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine in a task that ends with the connection."""
        self._tasks.add(task := asyncio.create_task(work))
        task.add_done_callback(self._tasks.discard)
        return task

    def close(self) -> None:
        """Close the connection, and the descriptors that no process uses."""
        self.release()
        self._sock.close()

    def release(self) -> None:
        """Close the descriptors that no process uses; the connection stays."""
        for task in self._tasks:
            task.cancel()
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds = []
