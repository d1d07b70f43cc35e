"""Connecting to the guest, and losing it."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from vc_core.driver.agent import Agent, AgentCapability
from vc_core.errors import AgentError, HypervisorError, VCError
from vc_core.testing.contract.agent.base import HOSTNAME, IN_TIME, SHORT, AgentFixtures, RunningGuest, StartGuest
from vc_core.testing.contract.running import TIMEOUT, run


@contextmanager
def _peer(behaviour: str) -> Iterator[RunningGuest]:
    """Give a guest all of whose channels show the same fault: ``behaviour``."""
    ends: list[socket.socket] = []
    gone = False
    noise = {"noise": bytes(range(256)) * 64, "zeros": bytes(1 << 20), "text": b"SSH-9.9-no\r\n" * 1000}

    class Peer:
        async def open_channel(self, name: str) -> socket.socket:
            if behaviour == "refuses" or gone:
                raise HypervisorError(f"channel {name} cannot be opened")
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            theirs.setblocking(False)
            ends.append(theirs)
            with suppress(BlockingIOError):
                theirs.send(noise.get(behaviour, b""))
            if behaviour == "closes":
                theirs.close()
            return ours

    try:
        yield Peer()
    finally:
        gone = True
        for end in ends:
            end.close()


class Connection(AgentFixtures):
    """Connecting to the guest, and losing it."""

    @pytest.mark.parametrize("behaviour", ["silent", "closes", "noise", "zeros", "text", "refuses"])
    def test_a_peer_that_is_not_a_guest_raises_a_vc_error_in_time_and_leaves_nothing(
        self, make: Callable[..., Agent], behaviour: str
    ) -> None:
        if not self._channels(make()):
            pytest.skip("the agent runs nothing in the guest")

        async def main() -> None:
            agent = make()
            await agent.prepare()
            try:
                with _peer(behaviour) as peer, pytest.raises(VCError):
                    async with asyncio.timeout(IN_TIME):
                        await agent.connect(peer.open_channel, SHORT)
                with pytest.raises(VCError):
                    await agent.start_pod("contract", "", SHORT)
            finally:
                await agent.aclose()
                await agent.aclose()

        run(main())

    def test_connecting_to_the_guest_can_be_cancelled(self, make: Callable[..., Agent]) -> None:
        async def main() -> None:
            agent = make()
            await agent.prepare()
            with _peer("silent") as peer:
                connecting = asyncio.create_task(agent.connect(peer.open_channel, TIMEOUT))
                await asyncio.wait({connecting}, timeout=0.1)
                connecting.cancel()
                with suppress(asyncio.CancelledError):
                    await connecting
            await agent.aclose()

        run(main())

    def test_an_agent_that_never_connected_can_be_closed(self, make: Callable[..., Agent]) -> None:
        async def main() -> None:
            agent = make()
            await agent.aclose()
            await agent.aclose()

        run(main())

    def test_a_lost_guest_fails_the_calls_under_way_and_is_reported(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        if not self._channels(make()):
            pytest.skip("the agent has no connection to lose")

        async def main() -> None:
            async with self._connected(make, guest) as (agent, wire):
                process = await self._start(agent)
                waiting = asyncio.create_task(agent.wait(process))
                lost = asyncio.create_task(agent.wait_lost())
                await asyncio.sleep(0)
                wire.lose()
                async with asyncio.timeout(IN_TIME):
                    with pytest.raises(AgentError):
                        await waiting
                    assert await lost
                    with pytest.raises(AgentError):
                        await agent.signal_container("c1", signal.SIGTERM, SHORT)

        run(main())

    def test_a_guest_that_settled_is_woken_by_another_host_that_has_saved_nothing(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        async def main() -> None:
            if AgentCapability.CLONES not in make().capabilities:
                pytest.skip(f"the agent does not claim to have {AgentCapability.CLONES}")
            async with guest() as running:
                first, second = make(), make()
                try:
                    await first.settle(running.open_channel, TIMEOUT)
                    await first.aclose()
                    await second.wake(running.open_channel, TIMEOUT)
                    await second.start_pod(HOSTNAME, "", TIMEOUT)
                    await self._start(second)
                finally:
                    await first.aclose()
                    await second.aclose()

        run(main())
