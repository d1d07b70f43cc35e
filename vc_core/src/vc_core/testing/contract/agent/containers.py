"""The life of a container."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress

import pytest

from vc_core.driver.agent import Agent, AgentCapability, GuestProcessId
from vc_core.errors import AgentError, NotSupportedError, VCError
from vc_core.results import ContainerUsage
from vc_core.testing.contract.agent.base import AgentFixtures, StartGuest
from vc_core.testing.contract.running import TIMEOUT, run


class Containers(AgentFixtures):
    """The life of a container."""

    def test_a_container_runs_until_it_is_killed_and_then_every_wait_returns(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        async def main() -> None:
            async with self._connected(make, guest) as (agent, _):
                process = await self._start(agent)
                assert process.container_id == "c1"
                waiting = [asyncio.create_task(agent.wait(process)) for _ in range(2)]
                done, _ = await asyncio.wait(waiting, timeout=0.1)
                assert not done, "wait() returned while the container ran"
                await agent.signal_container("c1", signal.SIGKILL, TIMEOUT)
                assert await asyncio.gather(*waiting) == [128 + signal.SIGKILL] * 2
                assert await agent.wait(process) == 128 + signal.SIGKILL
                await agent.signal_container("c1", signal.SIGTERM, TIMEOUT)

        run(main())

    def test_a_container_that_ended_can_be_removed_and_started_again(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        async def main() -> None:
            async with self._connected(make, guest) as (agent, _):
                if AgentCapability.ADD_CONTAINER not in agent.capabilities:
                    pytest.skip("the agent starts no containers later")
                for _ in range(2):
                    process = await self._start(agent)
                    await agent.signal_container("c1", signal.SIGKILL, TIMEOUT)
                    await agent.wait(process)
                    await agent.remove_container("c1", TIMEOUT)

        run(main())

    def test_waiting_for_a_process_that_was_never_started_raises_a_vc_error(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        async def main() -> None:
            async with self._connected(make, guest) as (agent, _):
                with pytest.raises(VCError):
                    await agent.wait(GuestProcessId("no-such-container", "0"))

        run(main())

    def test_the_end_of_the_pod_is_the_end_of_its_containers(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        async def main() -> None:
            async with self._connected(make, guest) as (agent, _):
                process = await self._start(agent)
                await agent.stop_pod(TIMEOUT)
                async with asyncio.timeout(TIMEOUT):
                    with suppress(AgentError):  # the guest may have ended before it sent the exit code
                        assert await agent.wait(process) != 0

        run(main())

    def test_the_usage_of_a_container_is_reported(self, make: Callable[..., Agent], guest: StartGuest) -> None:
        async def main() -> None:
            async with self._with_container(make, guest) as agent:
                if AgentCapability.STATS in agent.capabilities:
                    assert isinstance(await agent.stats("c1", TIMEOUT), ContainerUsage)
                else:
                    with pytest.raises(NotSupportedError):
                        await agent.stats("c1", TIMEOUT)

        run(main())
