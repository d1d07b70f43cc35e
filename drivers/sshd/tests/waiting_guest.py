"""A guest of a pod's own before its daemon starts, without a VM: it takes messages as ``wake/wake.c`` does."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable

from vc_agent_sshd.waking import CHANNEL

_HEADER = struct.Struct(">Q64sII")


class WaitingGuest:
    """Takes one message from each connection to its channel.

    ``on_files`` is called with the files of the message that has some. ``entropy`` has that of each message.
    """

    def __init__(self, on_files: Callable[[bytes, bytes], Awaitable[None]]) -> None:
        self.entropy: list[bytes] = []
        self._on_files = on_files
        self._tasks: set[asyncio.Task[None]] = set()

    def open_channel(self, name: str) -> socket.socket | None:
        """Return a connection to the channel, None for the name of another one."""
        if name != CHANNEL.name:
            return None
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        task = asyncio.get_running_loop().create_task(self._take(theirs))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return ours

    async def _take(self, sock: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=sock)
        try:
            _, entropy, first, second = _HEADER.unpack(await reader.readexactly(_HEADER.size))
            self.entropy.append(entropy)
            if first:
                await self._on_files(await reader.readexactly(first), await reader.readexactly(second))
            writer.write(b"ok\n")
        finally:
            writer.close()
