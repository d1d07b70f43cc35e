"""ChannelEnd: one channel over two serial lines, on which the host sends no faster than the guest reads.

Linux' driver of User Mode Linux' serial lines (arch/um/drivers/chan_kern.c) never reads from a line again once the
terminal in the guest has throttled it, which happens when fewer than 128 of its 4096 bytes are free. So fewer bytes
than that must be on the way: on a second line the guest sends receipts for what it has read.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

#: Bytes that may be on the way to the guest. Twice as many fit, because a process that takes a channel over cannot find
#: out how many bytes of its former owner are still on the way.
_WINDOW = 1920

_CHUNK = 65536
#: Bytes of a receipt: the number of bytes that the guest has read, big-endian.
_RECEIPT = 4


class ChannelEnd:
    """The host's end of a channel, to which one user at a time is connected. Must be made in a running event loop.

    ``data`` and ``receipts`` are the host's ends of the two lines; :meth:`aclose` closes them.
    """

    def __init__(self, data: socket.socket, receipts: socket.socket) -> None:
        self._data, self._receipts = data, receipts
        for end in (data, receipts):
            end.setblocking(False)
        self._sent = 0  # bytes on the way
        self._read = asyncio.Event()  # set by each receipt
        self._user: asyncio.Task[None] | None = None
        self._watcher = asyncio.create_task(self._take_receipts())

    async def open(self) -> socket.socket:
        """Return a socket that is connected to the channel; that of the former user ends. Raises OSError."""
        await self._disconnect()
        ours, users = socket.socketpair()
        for end in (ours, users):
            end.setblocking(False)
        self._user = asyncio.create_task(self._serve(ours))
        self._user.add_done_callback(lambda _: ours.close())  # a task that is cancelled at once never ran
        return users

    async def aclose(self) -> None:
        """Close the user's connection and the two lines. May be called again."""
        await self._disconnect()
        self._watcher.cancel()
        await asyncio.wait({self._watcher})
        self._data.close()
        self._receipts.close()

    async def _disconnect(self) -> None:
        if self._user is not None:
            self._user.cancel()
            await asyncio.wait({self._user})

    async def _serve(self, user: socket.socket) -> None:
        """Copy bytes both ways until one side ends."""
        ways = {asyncio.create_task(self._to_guest(user)), asyncio.create_task(self._from_guest(user))}
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)

    async def _to_guest(self, user: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while data := await loop.sock_recv(user, _WINDOW - self._sent):
                self._sent += len(data)
                await loop.sock_sendall(self._data, data)
                while self._sent > _WINDOW // 2:
                    self._read.clear()
                    await self._read.wait()

    async def _from_guest(self, user: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while data := await loop.sock_recv(self._data, _CHUNK):
                await loop.sock_sendall(user, data)

    async def _take_receipts(self) -> None:
        loop = asyncio.get_running_loop()
        waiting = b""
        with suppress(OSError):
            while data := await loop.sock_recv(self._receipts, _CHUNK):
                waiting += data
                whole = len(waiting) - len(waiting) % _RECEIPT
                for start in range(0, whole, _RECEIPT):
                    # Receipts for what a former owner sent may be among them.
                    self._sent = max(0, self._sent - int.from_bytes(waiting[start : start + _RECEIPT], "big"))
                waiting = waiting[whole:]
                self._read.set()
