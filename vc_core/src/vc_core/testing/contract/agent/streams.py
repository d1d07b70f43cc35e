"""The input and output of processes, tested if the agent claims the capability STREAMS."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from vc_core.config.container import Cmd
from vc_core.driver.agent import Agent, AgentCapability
from vc_core.testing.contract.agent.base import AgentFixtures, StartGuest, Way
from vc_core.testing.contract.agent.probes import DATA, NUMBERS, NUMBERS_OUTPUT, same
from vc_core.testing.contract.running import TIMEOUT, run
from vc_core.testing.process_io import RecordedIO

_NEEDED = (AgentCapability.EXEC, AgentCapability.STREAMS)


class Streams(AgentFixtures):
    """The input and output of processes."""

    def test_input_arrives_and_output_comes_back_byte_for_byte(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        async def main() -> None:
            async with self._with_container(make, guest, *_NEEDED) as agent:
                for way in self._ways(agent):
                    io = RecordedIO(DATA)
                    code = await self._run(agent, way, Cmd(args=(*self.commands.copy, "0")), io)
                    same(f"{way}, which copies its input,", bytes(io.stdout), DATA)
                    same(f"the error output of {way}, which writes none,", bytes(io.stderr), b"")
                    assert code == 0

        run(main())

    def test_all_output_was_written_when_a_wait_returns(self, make: Callable[..., Agent], guest: StartGuest) -> None:
        async def main() -> None:
            async with self._with_container(make, guest, *_NEEDED) as agent:
                for way in self._ways(agent):
                    output = await self._output(agent, way, (*self.commands.numbers, str(NUMBERS)))
                    same(f"{way}, which ends right after its output,", output, NUMBERS_OUTPUT)

        run(main())

    def test_output_and_error_output_are_kept_apart(self, make: Callable[..., Agent], guest: StartGuest) -> None:
        async def main() -> None:
            async with self._with_container(make, guest, *_NEEDED) as agent:
                for way in self._ways(agent):
                    io = RecordedIO()
                    await self._run(agent, way, Cmd(args=self.commands.both), io)
                    same(f"the output of {way}", bytes(io.stdout), b"output\n")
                    same(f"the error output of {way}", bytes(io.stderr), b"error\n")

        run(main())

    def test_the_end_of_input_arrives_behind_all_of_it(self, make: Callable[..., Agent], guest: StartGuest) -> None:
        async def main() -> None:
            async with self._with_container(make, guest, *_NEEDED) as agent:
                for way in self._ways(agent):
                    for size, has_input in ((0, False), (0, True), (1, True), (len(DATA), True)):
                        io = RecordedIO(DATA[:size])
                        io.has_input = has_input
                        await self._run(agent, way, Cmd(args=self.commands.count), io)
                        found = int(bytes(io.stdout) or -1)
                        assert found == size, f"{way} read {found} bytes of input up to its end instead of {size}"

        run(main())

    def test_processes_that_run_at_once_have_their_own_streams_and_exit_codes(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        async def main() -> None:
            async with self._with_container(make, guest, *_NEEDED) as agent:
                ios = [RecordedIO(None) for _ in range(8)]
                commands = [Cmd(args=(*self.commands.copy, str(code))) for code in range(8)]
                started = [agent.exec("c1", cmd, io, TIMEOUT) for cmd, io in zip(commands, ios, strict=True)]
                processes = await asyncio.gather(*started)
                for code in reversed(range(8)):  # they end in another order than they started in
                    ios[code].give(b"input of %d\n" % code)
                    ios[code].end()
                    found = await self._exit_code(agent, processes[code], f"command {code} of 8")
                    assert found == code, f"of 8 commands, the one that exits with {code} ended with {found}"
                for code, io in enumerate(ios):
                    same(f"command {code} of 8", bytes(io.stdout), b"input of %d\n" % code)

        run(main())

    def test_containers_that_run_at_once_have_their_own_streams_and_exit_codes(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        async def main() -> None:
            async with self._connected(make, guest) as (agent, _):
                for capability in _NEEDED:
                    self._require(agent, capability)
                ios = {name: RecordedIO(None) for name in ("c1", "c2")}
                processes = [
                    await self._start_container(agent, name, (*self.commands.copy, str(code)), io)
                    for code, (name, io) in enumerate(ios.items(), 5)
                ]
                for name, io in ios.items():
                    io.give(f"input of {name}\n".encode())
                for name, io in ios.items():
                    await self._until(io, b"\n", f"container {name}, which copies its input,")
                    same(f"container {name}", bytes(io.stdout), f"input of {name}\n".encode())
                for code, (name, io) in reversed([*enumerate(ios.items(), 5)]):
                    io.end()
                    found = await self._exit_code(agent, processes[code - 5], f"container {name}")
                    assert found == code, f"container {name} exits with {code}, but ended with {found}"

        run(main())

    def test_output_that_is_closed_fails_the_writes_of_a_command_that_ignores_sigpipe(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        async def main() -> None:
            async with self._with_container(make, guest, *_NEEDED, AgentCapability.CLOSE_OUTPUT) as agent:
                io = RecordedIO()
                process = await agent.exec("c1", Cmd(args=self.commands.insist), io, TIMEOUT)
                await self._until(io, b"line\n", "a command that prints lines")
                await agent.close_output(process, False, TIMEOUT)
                code = await self._exit_code(agent, process, "a command whose output was closed")
                assert code == 9, f"a command that exits with 9 when it cannot write ended with {code}"
                await agent.close_output(process, False, TIMEOUT)  # no error: it has ended

        run(main())

    def test_a_stalled_reader_delays_no_other_process_and_loses_nothing(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        async def main() -> None:
            async with self._with_container(make, guest, *_NEEDED) as agent:
                stalled = RecordedIO(stalled=True)
                numbers = Cmd(args=(*self.commands.numbers, str(NUMBERS)))
                waiting = asyncio.create_task(agent.wait(await agent.exec("c1", numbers, stalled, TIMEOUT)))
                other = Cmd(args=(*self.commands.exit, "7"))
                assert await self._run(agent, Way.FURTHER, other, RecordedIO()) == 7
                done, _ = await asyncio.wait({waiting}, timeout=0.2)
                assert not done, "a wait returned before the output of its process was written"
                stalled.flowing.set()
                async with asyncio.timeout(TIMEOUT):
                    assert await waiting == 0
                same("a command whose reader stalled", bytes(stalled.stdout), NUMBERS_OUTPUT)

        run(main())
