"""One channel to the guest: an asyncio protocol that decodes frames. After its first failure it is closed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Self

from vc_agent_hyperstart.codec import FrameDecoder, FrameFormat, SyncScanner
from vc_core.errors import AgentConnectError, AgentError, AgentProtocolError

#: Bytes read at once: two full frames of a process' output.
_BUFFER_SIZE = 128 * 1024


class Channel(asyncio.BufferedProtocol):
    """Base of the two channels.

    ``error`` is None while the channel works. Whatever ends it, :meth:`fail` runs once and calls ``on_lost``, and
    everything that waits on the channel raises :meth:`failure`. With a ``marker`` (:func:`sync_marker`) all bytes are
    dropped until the guest has echoed it, see :meth:`take_over`.
    """

    def __init__(
        self, frame_format: FrameFormat, on_lost: Callable[[AgentError], None], marker: bytes | None = None
    ) -> None:
        self.format = frame_format
        self.error: AgentError | None = None
        self._on_lost = on_lost
        self._decoder = FrameDecoder(frame_format, self._on_frame)
        self._buffer = bytearray(_BUFFER_SIZE)
        self._marker = marker
        self._scanner = SyncScanner(marker) if marker else None
        self._loop = asyncio.get_running_loop()
        self._synced: asyncio.Future[None] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: asyncio.Transport

    async def open(self, sock: socket.socket) -> Self:
        """Use a connected, non-blocking socket as this channel. Raises AgentConnectError."""
        try:
            await self._loop.create_connection(lambda: self, sock=sock)
        except BaseException as error:
            sock.close()
            if isinstance(error, OSError):
                raise AgentConnectError(f"the {self.format.name} channel cannot be used: {error}") from error
            raise
        return self

    async def take_over(self) -> None:
        """Send the sync marker, and return once the guest has echoed it; what a former host left is dropped both ways.

        The caller sets the timeout. Raises the error that ended the channel.
        """
        assert self._marker is not None
        self._transport.write(self._marker)
        await self._synced

    async def drained(self) -> None:
        """Return once the transport's buffer has room, or the channel has failed."""
        while not self._writable.is_set():
            await self._writable.wait()

    async def aclose(self) -> None:
        """Close the channel; everything that waits on it raises AgentConnectError."""
        self.fail(AgentConnectError(f"the {self.format.name} channel was closed by this host"))
        await self._closed

    def fail(self, error: AgentError) -> None:
        """Close the channel because of ``error``; calls after the first do nothing."""
        if self.error is not None:
            return
        self.error = error
        self._transport.abort()
        self._writable.set()
        if not self._synced.done():
            self._synced.set_exception(self.failure())
            self._synced.exception()  # marks it as retrieved: there need not be a waiter
        self._on_failed()
        self._on_lost(error)

    def failure(self) -> AgentError:
        """Return a copy of the error that ended the channel, for one waiter to raise."""
        assert self.error is not None
        return type(self.error)(str(self.error))

    # Implemented by the two channels.

    def _on_frame(self, key: int, payload: bytes) -> None:
        raise NotImplementedError

    def _on_failed(self) -> None:
        raise NotImplementedError

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport. Called by asyncio."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        """Return the buffer for received bytes. Called by asyncio."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Decode received bytes. Called by asyncio."""
        data = memoryview(self._buffer)[:nbytes]
        try:
            if self._scanner is None:
                self._decoder.feed(data)
            elif (rest := self._scanner.feed(data)) is not None:
                self._scanner = None
                if not self._synced.done():
                    self._synced.set_result(None)
                self._decoder.feed(rest)
        except AgentProtocolError as error:
            self.fail(error)

    def pause_writing(self) -> None:
        """Make :meth:`drained` wait. Called by asyncio when the transport's buffer is full."""
        if self.error is None:
            self._writable.clear()

    def resume_writing(self) -> None:
        """Wake :meth:`drained`. Called by asyncio when the transport's buffer has room."""
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the channel. Called by asyncio once, at the end of the connection."""
        cause = f": {exc}" if exc else ""
        self.fail(AgentConnectError(f"the guest closed the {self.format.name} channel{cause}"))
        if not self._closed.done():
            self._closed.set_result(None)
