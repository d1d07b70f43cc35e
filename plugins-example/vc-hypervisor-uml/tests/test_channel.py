"""The host sends into a channel no faster than the guest reads."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from vc_core.testing.slowness import scaled
from vc_hypervisor_uml.channel import ChannelEnd

#: Bytes at which Linux' terminal throttles the line: 4095 without the last 127.
_THROTTLED = 3968


class Guest:
    """The other ends of a channel's two lines."""

    def __init__(self) -> None:
        ours, self.data = socket.socketpair()
        theirs, self.receipts = socket.socketpair()
        for other in (self.data, self.receipts):
            other.setblocking(False)
        self.end = ChannelEnd(ours, theirs)

    async def read(self) -> bytes:
        data = await asyncio.get_running_loop().sock_recv(self.data, 65536)
        self.receipts.send(len(data).to_bytes(4, "big"))
        return data

    async def aclose(self) -> None:
        await self.end.aclose()
        self.data.close()
        self.receipts.close()


def run(test: Callable[[Guest], Awaitable[None]]) -> None:
    async def main() -> None:
        guest = Guest()
        try:
            async with asyncio.timeout(scaled(60)):
                await test(guest)
        finally:
            await guest.aclose()

    asyncio.run(main())


def test_all_bytes_arrive_in_order_both_ways() -> None:
    async def test(guest: Guest) -> None:
        loop = asyncio.get_running_loop()
        data = bytes(range(256)) * 400
        with await guest.end.open() as user:
            sending = asyncio.create_task(loop.sock_sendall(user, data))
            arrived = b""
            while len(arrived) < len(data):
                arrived += await guest.read()
            await sending
            assert arrived == data
            await loop.sock_sendall(guest.data, b"back")
            assert await loop.sock_recv(user, 100) == b"back"

    run(test)


def test_two_owners_together_send_less_than_throttles_a_guest_that_does_not_read() -> None:
    async def test(guest: Guest) -> None:
        loop = asyncio.get_running_loop()
        with await guest.end.open() as user:
            user.send(bytes(100000))
            sent = len(await loop.sock_recv(guest.data, 65536))
            with pytest.raises(TimeoutError):  # there is no event for "no more is sent"
                async with asyncio.timeout(0.2):
                    await loop.sock_recv(guest.data, 65536)
            assert 0 < 2 * sent < _THROTTLED

    run(test)


def test_a_new_connection_ends_the_former_one() -> None:
    async def test(guest: Guest) -> None:
        loop = asyncio.get_running_loop()
        with await guest.end.open() as former, await guest.end.open() as user:
            assert await loop.sock_recv(former, 100) == b""
            await loop.sock_sendall(guest.data, b"for you")
            assert await loop.sock_recv(user, 100) == b"for you"

    run(test)


def test_the_end_of_the_vm_ends_the_connection() -> None:
    async def test(guest: Guest) -> None:
        with await guest.end.open() as user:
            guest.data.close()
            assert await asyncio.get_running_loop().sock_recv(user, 100) == b""

    run(test)
