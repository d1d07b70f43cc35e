"""A channel is sent no faster than the guest reads."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from vc_hypervisor_uml.line import Line

#: Bytes of which Linux' terminal holds back the line: 4095 without the last 127.
_STUCK = 3968


class Guest:
    """The other ends of a channel's two lines."""

    def __init__(self) -> None:
        ours, self.data = socket.socketpair()
        theirs, self.receipts = socket.socketpair()
        for end in (self.data, self.receipts):
            end.setblocking(False)
        self.line = Line(ours, theirs)

    async def read(self) -> bytes:
        data = await asyncio.get_running_loop().sock_recv(self.data, 65536)
        self.receipts.send(len(data).to_bytes(4, "big"))
        return data

    async def aclose(self) -> None:
        await self.line.aclose()
        self.data.close()
        self.receipts.close()


def run(test: Callable[[Guest], Awaitable[None]]) -> None:
    async def main() -> None:
        guest = Guest()
        try:
            async with asyncio.timeout(20):
                await test(guest)
        finally:
            await guest.aclose()

    asyncio.run(main())


def test_all_arrives_in_order_both_ways() -> None:
    async def test(guest: Guest) -> None:
        loop = asyncio.get_running_loop()
        data = bytes(range(256)) * 400
        with await guest.line.open() as user:
            sending = asyncio.create_task(loop.sock_sendall(user, data))
            arrived = b""
            while len(arrived) < len(data):
                arrived += await guest.read()
            await sending
            assert arrived == data
            await loop.sock_sendall(guest.data, b"back")
            assert await loop.sock_recv(user, 100) == b"back"

    run(test)


def test_a_guest_that_does_not_read_is_not_sent_more_than_its_terminal_holds_even_by_two_owners() -> None:
    async def test(guest: Guest) -> None:
        loop = asyncio.get_running_loop()
        with await guest.line.open() as user:
            user.send(bytes(100000))
            sent = len(await loop.sock_recv(guest.data, 65536))
            with pytest.raises(TimeoutError):  # for there is no event to say that no more comes
                async with asyncio.timeout(0.2):
                    await loop.sock_recv(guest.data, 65536)
            assert 0 < 2 * sent < _STUCK

    run(test)


def test_a_new_user_cuts_off_the_one_before() -> None:
    async def test(guest: Guest) -> None:
        loop = asyncio.get_running_loop()
        with await guest.line.open() as former, await guest.line.open() as user:
            assert await loop.sock_recv(former, 100) == b""
            await loop.sock_sendall(guest.data, b"for you")
            assert await loop.sock_recv(user, 100) == b"for you"

    run(test)


def test_the_end_of_the_vm_is_the_end_of_the_channel() -> None:
    async def test(guest: Guest) -> None:
        with await guest.line.open() as user:
            guest.data.close()
            assert await asyncio.get_running_loop().sock_recv(user, 100) == b""

    run(test)
