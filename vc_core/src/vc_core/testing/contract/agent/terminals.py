"""Terminals, tested if the agent claims the capability TERMINAL."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vc_core.config.container import Cmd
from vc_core.driver.agent import Agent, AgentCapability
from vc_core.driver.terminal import TerminalSize
from vc_core.errors import NotSupportedError
from vc_core.testing.contract.agent.base import AgentFixtures, StartGuest
from vc_core.testing.contract.agent.probes import same
from vc_core.testing.contract.running import TIMEOUT, run
from vc_core.testing.process_io import RecordedIO

_NEEDED = (AgentCapability.EXEC, AgentCapability.STREAMS, AgentCapability.TERMINAL)


class Terminals(AgentFixtures):
    """Terminals and their sizes."""

    def test_only_an_agent_without_terminals_refuses_to_resize_one(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
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

    def test_a_process_runs_on_a_terminal_of_its_size_only_if_it_shall(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        async def main() -> None:
            async with self._with_container(make, guest, *_NEEDED) as agent:
                for way in self._ways(agent):
                    io, size = RecordedIO(None), TerminalSize(33, 99)
                    await self._run(agent, way, Cmd(args=self.commands.terminal_size), io, size)
                    same(f"the terminal's size of {way}", bytes(io.stdout), b"33 99\r\n")
                    code = await self._run(agent, way, Cmd(args=self.commands.terminal_size), RecordedIO())
                    assert code != 0, f"{way} has a terminal that nobody asked for"

        run(main())

    def test_a_process_sees_each_new_size_of_its_terminal(self, make: Callable[..., Agent], guest: StartGuest) -> None:
        async def main() -> None:
            async with self._connected(make, guest) as (agent, _):
                for capability in _NEEDED:
                    self._require(agent, capability)
                args, size = self.commands.terminal_sizes, TerminalSize(24, 80)
                first, further = RecordedIO(None), RecordedIO(None)
                container = await self._start_container(agent, "c1", args, first, terminal=size)
                command = await agent.exec("c1", Cmd(args=args), further, TIMEOUT, size)
                for process, io, rows in ((container, first, 41), (command, further, 42)):
                    await self._until(io, b"24 80\r\n", "a process on a terminal")
                    await agent.resize(process, rows, 132, TIMEOUT)
                    await self._until(io, b"%d 132\r\n" % rows, "a process on a terminal with a new size")
                assert b"42" not in first.stdout, "another process' terminal was resized"

        run(main())
