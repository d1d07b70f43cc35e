"""The life of a container."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress

import pytest

from vc_core.driver.agent import Agent, AgentCapability, GuestProcessId
from vc_core.errors import AgentError, VCError
from vc_core.testing.contract.agent.base import AgentFixtures, StartGuest
from vc_core.testing.contract.running import TIMEOUT, run
from vc_core.testing.process_io import RecordedIO


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

    def test_a_signal_to_a_container_reaches_its_first_process_and_no_other_container(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        async def main() -> None:
            async with self._connected(make, guest) as (agent, _):
                processes = {}
                for name in ("c1", "c2", "c3"):
                    streams = AgentCapability.STREAMS in agent.capabilities
                    io = RecordedIO(None)
                    args = self.commands.heed if streams else self.commands.run_on
                    processes[name] = await self._start_container(agent, name, args, io)
                    if streams:
                        await self._until(io, b"ready", f"container {name}")
                waiting = {name: asyncio.create_task(agent.wait(process)) for name, process in processes.items()}
                # Agents without streams cannot report that a process is ready to take these signals.
                own = {signal.SIGUSR1: 10, signal.SIGTERM: 15} if streams else {}
                sent = {**own, signal.SIGKILL: 128 + signal.SIGKILL}
                for name, (number, code) in zip(("c2", "c3", "c1"), sent.items(), strict=False):
                    await agent.signal_container(name, number, TIMEOUT)
                    task = waiting.pop(name)
                    done, _ = await asyncio.wait({task}, timeout=self.ends_within)
                    others = [other for other, wait in waiting.items() if wait.done()]
                    assert not others, f"{number.name} to container {name} ended container {others[0]}"
                    assert done, f"{number.name} to container {name} did not end it"
                    assert task.result() == code, (
                        f"container {name} ended with {task.result()} on {number.name} instead of {code}"
                    )
                for name, wait in waiting.items():
                    await agent.signal_container(name, signal.SIGKILL, TIMEOUT)
                    assert await wait == 128 + signal.SIGKILL

        run(main())
