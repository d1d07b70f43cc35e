"""Commands in a container or in the pod, each kind tested if the agent claims its capability."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

import pytest

from vc_core.config.container import Cmd
from vc_core.driver.agent import Agent, AgentCapability, TerminalSize
from vc_core.errors import NotSupportedError
from vc_core.testing.contract.agent.base import MUCH, AgentFixtures, StartGuest
from vc_core.testing.contract.running import TIMEOUT, run
from vc_core.testing.process_io import RecordedIO


class CommandRuns(AgentFixtures):
    """Commands in a container or in the pod, each kind tested if the agent claims its capability."""

    def test_a_command_ends_with_its_own_exit_code(self, make: Callable[..., Agent], guest: StartGuest) -> None:
        async def main() -> None:
            async with self._with_container(make, guest, AgentCapability.EXEC) as agent:
                for args, code in ((self.commands.exit_7, 7), (self.commands.succeed, 0)):
                    process = await agent.exec("c1", Cmd(args=args), RecordedIO(), TIMEOUT)
                    assert await asyncio.gather(*(agent.wait(process) for _ in range(2))) == [code] * 2
                    assert await agent.wait(process) == code

        run(main())

    def test_input_arrives_and_output_comes_back_byte_for_byte(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        data = bytes(range(256)) * (MUCH // 256)

        async def main() -> None:
            async with self._with_container(make, guest, AgentCapability.STREAMS) as agent:
                io = RecordedIO(data)
                assert await agent.wait(await agent.exec("c1", Cmd(args=self.commands.copy), io, TIMEOUT)) == 0
                assert bytes(io.stdout) == data
                assert not io.stderr
                io = RecordedIO()
                assert await agent.wait(await agent.exec("c1", Cmd(args=self.commands.warn), io, TIMEOUT)) == 0
                assert bytes(io.stderr) == b"warning\n"
                assert not io.stdout

        run(main())

    def test_a_stalled_reader_delays_no_other_process(self, make: Callable[..., Agent], guest: StartGuest) -> None:
        async def main() -> None:
            async with self._with_container(make, guest, AgentCapability.STREAMS) as agent:
                stalled = RecordedIO(stalled=True)
                process = await agent.exec("c1", Cmd(args=self.commands.flood), stalled, TIMEOUT)
                other = await agent.exec("c1", Cmd(args=self.commands.exit_7), RecordedIO(), TIMEOUT)
                assert await agent.wait(other) == 7
                stalled.flowing.set()
                assert await agent.wait(process) == 0
                assert len(stalled.stdout) == MUCH

        run(main())

    def test_a_signal_reaches_any_process(self, make: Callable[..., Agent], guest: StartGuest) -> None:
        async def main() -> None:
            async with self._connected(make, guest) as (agent, _):
                process = await self._start(agent)
                if AgentCapability.EXEC in agent.capabilities:
                    process = await agent.exec("c1", Cmd(args=self.commands.run_on), RecordedIO(None), TIMEOUT)
                if AgentCapability.SIGNAL in agent.capabilities:
                    await agent.signal(process, signal.SIGKILL, TIMEOUT)
                    assert await agent.wait(process) == 128 + signal.SIGKILL
                else:
                    with pytest.raises(NotSupportedError):
                        await agent.signal(process, signal.SIGKILL, TIMEOUT)

        run(main())

    def test_a_terminal_has_a_size(self, make: Callable[..., Agent], guest: StartGuest) -> None:
        async def main() -> None:
            async with self._connected(make, guest) as (agent, _):
                able = AgentCapability.TERMINAL in agent.capabilities
                process = await self._start(agent, TerminalSize(24, 80) if able else None)
                if able:
                    await agent.resize(process, 50, 132, TIMEOUT)
                else:
                    with pytest.raises(NotSupportedError):
                        await agent.resize(process, 50, 132, TIMEOUT)

        run(main())

    def test_a_command_can_run_in_the_pod_itself(self, make: Callable[..., Agent], guest: StartGuest) -> None:
        """And an agent that runs commands in containers only refuses it."""

        async def main() -> None:
            async with self._with_container(make, guest, AgentCapability.EXEC) as agent:
                starting = agent.exec("", Cmd(args=self.commands.exit_7), RecordedIO(), TIMEOUT)
                if AgentCapability.POD in agent.capabilities:
                    assert await agent.wait(await starting) == 7
                else:
                    with pytest.raises(NotSupportedError):
                        await starting

        run(main())
