"""One channel over two serial lines, sent no faster than the guest reads.

Linux' own driver of User Mode Linux' lines (arch/um/drivers/chan_kern.c) stops for good once the terminal in the guest
has held back a line, which it does when fewer than 128 of its 4096 bytes are free. So no more may ever be on the way:
on a second line the guest tells how much it has read.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

#: Bytes that may be on the way to the guest. Twice as much fits: who takes a channel over does not know how much its
#: former owner had sent.
_WINDOW = 1920

_CHUNK = 65536
#: What the guest sends when it has read something: how many bytes, big-endian.
_RECEIPT = 4


class Line:
    """Our end of a channel, kept while its user comes and goes. Lives in one event loop.

    ``data`` and ``receipts`` are our ends of the two lines, used up.
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
        """Return a socket that is the channel, for one user at a time: the one before is cut off."""
        await self._cut_off()
        ours, users = socket.socketpair()
        for end in (ours, users):
            end.setblocking(False)
        self._user = asyncio.create_task(self._serve(ours))
        self._user.add_done_callback(lambda _: ours.close())  # a task that is cancelled at once never ran
        return users

    async def aclose(self) -> None:
        """Release everything."""
        await self._cut_off()
        self._watcher.cancel()
        await asyncio.wait({self._watcher})
        self._data.close()
        self._receipts.close()

    async def _cut_off(self) -> None:
        if self._user is not None:
            self._user.cancel()
            await asyncio.wait({self._user})

    async def _serve(self, user: socket.socket) -> None:
        """Carry bytes both ways until one side ends."""
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
                    # Some may be for what a former owner sent.
                    self._sent = max(0, self._sent - int.from_bytes(waiting[start : start + _RECEIPT], "big"))
                waiting = waiting[whole:]
                self._read.set()
