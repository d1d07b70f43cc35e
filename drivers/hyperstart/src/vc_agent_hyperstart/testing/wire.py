"""The wire of :mod:`vc_agent_hyperstart.testing.fake_guest`: sizes, and the guest's end of a channel."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

CONTROL = "sh.hyper.channel.0"
STREAM = "sh.hyper.channel.1"

#: Most bytes sent and not consumed, most payload of a frame, and how much is consumed before credit is sent.
WINDOW = 524288
PAYLOAD_MAX = 32768
CREDIT_STEP = 131072

#: Most payload of a control frame.
CONTROL_PAYLOAD_MAX = 1024 * 1024 - 8

#: A sync marker is this, the boot's token and a number of 8 bytes.
MAGIC = b"\xffVCSYNC\x00\xff"


class Port(asyncio.Protocol):
    """The guest's end of one channel, which serves one host after another.

    ``on_frame`` is called with the first word of a header and the payload, ``on_bytes`` with the number of bytes
    received, ``on_offence`` with a description of what no guest can decode. With a ``marker`` the channel can be taken
    over, and ``on_sync`` is called when it is.
    """

    def __init__(
        self,
        header: str,
        on_frame: Callable[[int, bytes], None],
        on_bytes: Callable[[int], None],
        on_sync: Callable[[], None],
        on_offence: Callable[[str], None],
    ) -> None:
        self.marker: bytes | None = None
        self._header = struct.Struct(header)
        self._on_frame, self._on_bytes, self._on_sync, self._on_offence = on_frame, on_bytes, on_sync, on_offence
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
        await self._gone.wait()
        host, guest = socket.socketpair()
        host.setblocking(False)
        self._gone.clear()
        await asyncio.get_running_loop().create_connection(lambda: self, sock=guest)
        return host

    def send(self, key: int, payload: bytes = b"") -> None:
        """Send a frame; without a host it is queued for the next one."""
        self.send_raw(self._header.pack(key, self._header.size + len(payload)) + payload)

    def send_raw(self, data: bytes) -> None:
        """Send bytes that need not be a frame."""
        if self._transport is None:
            self._queue += data
        else:
            self._transport.write(data)

    def pause_reading(self) -> None:
        """Read nothing more from this host."""
        if self._transport is not None:
            self._transport.pause_reading()

    async def drained(self) -> None:
        """Return once the transport's buffer has room."""
        await self._writable.wait()

    async def stalled(self) -> None:
        """Return once the transport's buffer is full."""
        await self._stalled.wait()

    def close(self) -> None:
        """Close the channel after its buffer was sent."""
        if self._transport is not None:
            self._transport.close()

    async def closed(self) -> None:
        """Return once no host is connected."""
        await self._gone.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send to a new host what was queued for it."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._writable.set()
        transport.write(bytes(self._queue))
        self._queue.clear()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let the next host connect."""
        self._transport = None
        self._writable.clear()
        self._gone.set()

    def pause_writing(self) -> None:
        """Make :meth:`drained` wait. Called by asyncio."""
        self._writable.clear()
        self._stalled.set()

    def resume_writing(self) -> None:
        """Wake :meth:`drained`. Called by asyncio."""
        self._writable.set()
        self._stalled.clear()

    def data_received(self, data: bytes) -> None:
        """Decode received bytes. Called by asyncio."""
        if self.marker is not None:
            data = self._after_marker(self.marker, data)
        self._on_bytes(len(data))
        self._frame += data
        while len(self._frame) >= self._header.size and not self._lost:
            key, length = self._header.unpack_from(self._frame)
            if not self._header.size <= length <= 1 << 20:
                self._lost = True
                if self.marker is None:
                    self._on_offence(f"a frame of length {length}")
            elif len(self._frame) < length:
                break
            else:
                payload = bytes(self._frame[self._header.size : length])
                del self._frame[:length]
                self._on_frame(key, payload)

    def _after_marker(self, marker: bytes, data: bytes) -> bytes:
        """Return ``data``, or what follows a sync marker and its nonce in it."""
        self._raw += data
        found = self._raw.find(marker)
        end = found + len(marker) + 8
        if found < 0:
            self._raw = self._raw[-(len(marker) - 1) :]
        elif len(self._raw) >= end:
            echo, data, self._raw = self._raw[:end], self._raw[end:], self._raw[end:]
            self._lost = False
            self._frame.clear()
            self._queue.clear()
            self._on_sync()
            self.send_raw(echo[found:])
        return data
