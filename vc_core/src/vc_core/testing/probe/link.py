"""ProbingGuest: the host's end of a channel to the probing guest."""

from __future__ import annotations

import asyncio
import itertools
import socket
from dataclasses import dataclass

from vc_core.testing.slowness import scaled

#: Seconds for one answer of a guest that has booted.
ANSWER = scaled(10.0)

#: Seconds after which a guest that may not have booted yet is asked again.
_AGAIN = 0.25

_CHUNK = 65536


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one command: whether the guest could obey, and what it found, or why it could not."""

    ok: bool
    text: str


class ProbingGuest:
    """Asks the probing guest over one channel. The caller closes the socket; ``init.c`` describes the protocol."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._numbers = itertools.count(1)
        self._received = b""

    async def ask(self, *words: object, timeout: float = ANSWER) -> Answer:
        """Send a command and return its answer.

        Answers to former commands are skipped, and so is the echo of a serial line that the guest has not yet made raw.

        Raises TimeoutError when there is none within ``timeout`` seconds, ConnectionError when the channel ends.
        """
        loop, number = asyncio.get_running_loop(), next(self._numbers)
        async with asyncio.timeout(timeout):
            await loop.sock_sendall(self._channel, " ".join([str(number), *map(str, words)]).encode() + b"\n")
            while True:
                match (await self._line()).split(" ", 2):
                    case [first, "ok" | "error" as result, text] if first == str(number):
                        return Answer(result == "ok", text.strip())

    async def reach(self, timeout: float) -> str:
        """Wait until the guest answers, ``timeout`` seconds at most, and return the name that it has for the channel.

        It is asked again and again, because a hypervisor may lose what is sent before the guest has opened the channel.
        Raises TimeoutError, ConnectionError.
        """
        async with asyncio.timeout(timeout):
            while True:
                try:
                    return (await self.ask("name", timeout=_AGAIN)).text
                except TimeoutError:
                    continue

    async def _line(self) -> str:
        while b"\n" not in self._received:
            data = await asyncio.get_running_loop().sock_recv(self._channel, _CHUNK)
            if not data:
                raise ConnectionError("the channel to the guest ended")
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return line.decode(errors="replace").strip("\r")
