"""Commands in a container or in the pod, each kind tested if the agent claims its capability."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

import pytest

from vc_core.config.container import Cmd
from vc_core.driver.agent import Agent, AgentCapability
from vc_core.errors import CommandError, NotSupportedError, VCError
from vc_core.testing.contract.agent.base import AgentFixtures, StartGuest, Way
from vc_core.testing.contract.running import TIMEOUT, run
from vc_core.testing.process_io import RecordedIO

#: A program that no guest has.
MISSING = "no-such-program"


class CommandRuns(AgentFixtures):
    """Exit codes, signals, and commands that cannot start."""

    def test_a_command_ends_with_its_own_exit_code(self, make: Callable[..., Agent], guest: StartGuest) -> None:
        async def main() -> None:
            async with self._with_container(make, guest, AgentCapability.EXEC) as agent:
                for code in (7, 0, 255):
                    cmd = Cmd(args=(*self.commands.exit, str(code)))
                    process = await agent.exec("c1", cmd, RecordedIO(), TIMEOUT)
                    waits = [self._exit_code(agent, process, f"{cmd.args}") for _ in range(2)]
                    codes = [*await asyncio.gather(*waits), await agent.wait(process)]
                    assert codes == [code] * 3, f"a command that exits with {code} ended with {codes}"

        run(main())

    def test_a_missing_program_is_reported_with_exit_code_127(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        async def main() -> None:
            async with self._with_container(make, guest, AgentCapability.EXEC) as agent:
                for way in self._ways(agent):
                    code: int | None = None
                    try:
                        code = await self._run(agent, way, Cmd(args=[MISSING]), RecordedIO())
                        assert way is Way.FURTHER, "a container started although its program is missing"
                    except CommandError as caught:
                        code, error = caught.exit_code, str(caught)
                    else:
                        error = MISSING  # in its error output, if anywhere
                    assert code == 127, f"{way} whose program is missing ended with {code} instead of 127"
                    assert MISSING in error, f"the error does not name the program: {error}"

        run(main())

    def test_a_signal_reaches_any_process(self, make: Callable[..., Agent], guest: StartGuest) -> None:
        async def main() -> None:
            async with self._connected(make, guest) as (agent, _):
                process = await self._start(agent)
                if AgentCapability.EXEC in agent.capabilities:
                    process = await agent.exec("c1", Cmd(args=self.commands.run_on), RecordedIO(None), TIMEOUT)
                if AgentCapability.SIGNAL in agent.capabilities:
                    await agent.signal(process, signal.SIGKILL, TIMEOUT)
                    code = await self._exit_code(agent, process, "a process that was sent SIGKILL")
                    assert code == 128 + signal.SIGKILL
                    await agent.signal(process, signal.SIGKILL, TIMEOUT)
                else:
                    with pytest.raises(NotSupportedError):
                        await agent.signal(process, signal.SIGKILL, TIMEOUT)

        run(main())

    def test_a_signal_arrives_as_the_one_that_was_sent_and_at_no_other_process(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        wanted = {signal.SIGUSR1: 10, signal.SIGKILL: 128 + signal.SIGKILL, signal.SIGTERM: 15}
        needed = (AgentCapability.EXEC, AgentCapability.STREAMS, AgentCapability.SIGNAL)

        async def main() -> None:
            async with self._with_container(make, guest, *needed) as agent:
                processes = []
                for _ in wanted:
                    io = RecordedIO(None)
                    processes.append(await agent.exec("c1", Cmd(args=self.commands.heed), io, TIMEOUT))
                    await self._until(io, b"ready", "a command")
                waiting = {number: asyncio.create_task(agent.wait(one)) for number, one in enumerate(processes)}
                # Neither in the order of their starts nor in its reverse.
                for number, (sent, code) in zip((1, 2, 0), wanted.items(), strict=True):
                    await agent.signal(processes[number], sent, TIMEOUT)
                    await asyncio.wait(waiting.values(), timeout=self.ends_within, return_when=asyncio.FIRST_COMPLETED)
                    ended = [other for other, wait in waiting.items() if wait.done()]
                    assert ended == [number], f"{sent.name} to command {number} ended the commands {ended}"
                    found = waiting.pop(number).result()
                    assert found == code, f"a command that ends with {code} on {sent.name} ended with {found}"

        run(main())

    def test_a_command_can_run_in_the_pod_itself(self, make: Callable[..., Agent], guest: StartGuest) -> None:
        """And an agent that runs commands in containers only refuses it."""

        async def main() -> None:
            async with self._with_container(make, guest, AgentCapability.EXEC) as agent:
                starting = agent.exec("", Cmd(args=(*self.commands.exit, "7")), RecordedIO(), TIMEOUT)
                if AgentCapability.POD in agent.capabilities:
                    assert await self._exit_code(agent, await starting, "a command in the pod") == 7
                else:
                    with pytest.raises(NotSupportedError):
                        await starting

        run(main())

    def test_a_command_for_a_container_that_does_not_run_is_refused(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        async def main() -> None:
            async with self._with_container(make, guest, AgentCapability.EXEC) as agent:
                cmd = Cmd(args=self.commands.run_on)
                with pytest.raises(VCError):
                    await agent.exec("no-such-container", cmd, RecordedIO(), TIMEOUT)

        run(main())
