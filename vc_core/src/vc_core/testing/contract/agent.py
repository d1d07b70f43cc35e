"""What an agent promises."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from vc_core.config.container import Cmd
from vc_core.config.pod import PodConfig
from vc_core.driver.agent import Agent, AgentCapability, GuestContainer, Process, TerminalSize
from vc_core.driver.context import PodContext, context
from vc_core.driver.devices import Channel, GuestPort
from vc_core.driver.kinds import PluginKind
from vc_core.errors import AgentError, HypervisorError, NotSupportedError, VCError
from vc_core.plugins.drivers import AgentDriver
from vc_core.results import ContainerUsage
from vc_core.testing.contract.plugin import PluginContract
from vc_core.testing.contract.running import TIMEOUT, run, unwritten_methods_fail
from vc_core.testing.process_io import RecordedIO

#: Seconds that a guest which never answers gets, and in which an agent must have noticed.
SHORT, IN_TIME = 0.5, 10.0

#: More than fits into any buffer on the way.
MUCH = 300_000


class RunningGuest(Protocol):
    """A guest that runs, or a fake of one."""

    async def open_channel(self, name: str) -> socket.socket:
        """Return a connected, non-blocking socket to one of the agent's channels, as a hypervisor does."""


#: Starts a guest; called after the agent's ``prepare``.
StartGuest = Callable[[], AbstractAsyncContextManager[RunningGuest]]


@dataclass(frozen=True, slots=True)
class Commands:
    """Commands for the guest: by default those of a container with a shell and the usual tools."""

    succeed: tuple[str, ...] = ("true",)
    exit_7: tuple[str, ...] = ("sh", "-c", "exit 7")
    run_on: tuple[str, ...] = ("sleep", "100000")
    copy: tuple[str, ...] = ("cat",)
    warn: tuple[str, ...] = ("sh", "-c", "echo warning >&2")
    flood: tuple[str, ...] = ("sh", "-c", f"head -c {MUCH} /dev/zero")


class _Wire:
    """The channels between one agent and its guest, to be cut."""

    def __init__(self, guest: RunningGuest) -> None:
        self._guest = guest
        self._sockets: list[socket.socket] = []
        self._gone = False

    async def open_channel(self, name: str) -> socket.socket:
        if self._gone:
            raise HypervisorError(f"channel {name} cannot be opened")
        channel = await self._guest.open_channel(name)
        self._sockets.append(channel.dup())
        return channel

    def lose(self) -> None:
        """Cut what there is, and let nobody reach the guest again."""
        self._gone = True
        self.cut()

    def cut(self) -> None:
        for channel in self._sockets:
            with suppress(OSError):
                channel.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for channel in self._sockets:
            channel.close()


@contextmanager
def _peer(behaviour: str) -> Iterator[RunningGuest]:
    """Give a guest whose every channel behaves the same bad way."""
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


class AgentContract(PluginContract):
    """Subclass this for an agent, set ``driver_name``, and override :meth:`guest`.

    ``commands`` are what the containers of that guest run, ``root_fs`` where their root is below the shared directory.
    """

    kind = PluginKind.AGENT
    commands = Commands()
    root_fs = "c1/rootfs"

    @pytest.fixture
    def guest(self, make: Callable[..., Agent]) -> StartGuest:
        """A function that starts a guest for the agent, or a fake of one: an async context manager."""

        class NoGuest:
            async def open_channel(self, name: str) -> socket.socket:
                raise HypervisorError(f"nobody answers on {name}")

        @asynccontextmanager
        async def start() -> AsyncIterator[RunningGuest]:
            yield NoGuest()

        if self._channels(make()):
            pytest.fail("this agent needs channels; override the fixture guest with one that answers", pytrace=False)
        return start

    @pytest.fixture
    def pod(self, tmp_path: Path) -> PodContext:
        """The pod that the agent serves, with its directories."""
        run_dir = tmp_path / "run"
        (run_dir / "share" / self.root_fs).mkdir(parents=True)
        run_dir.chmod(0o700)
        return context(PodConfig(id="contract"), run_dir)

    @pytest.fixture
    def make(self, driver: AgentDriver, options: Mapping[str, object], pod: PodContext) -> Callable[..., Agent]:
        """A function that makes the agent's object, or with ``saved`` that of a later process."""

        def make(saved: Mapping[str, object] | None = None) -> Agent:
            return driver.create(pod, driver.config(options), None, saved)

        return make

    # -- reaching the guest ----------------------------------------------------------------------------------------

    @pytest.mark.parametrize("behaviour", ["silent", "closes", "noise", "zeros", "text", "refuses"])
    def test_a_guest_that_is_none_is_an_error_of_ours_in_time_and_leaves_nothing(
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

    def test_reaching_for_the_guest_can_be_cancelled(self, make: Callable[..., Agent]) -> None:
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

    def test_a_lost_guest_fails_what_is_under_way_and_is_told(
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

    # -- containers ------------------------------------------------------------------------------------------------

    def test_a_container_runs_until_it_is_killed_and_whoever_waits_is_told(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        async def main() -> None:
            async with self._connected(make, guest) as (agent, _):
                process = await self._start(agent)
                assert process.container_id == "c1"
                waiting = [asyncio.create_task(agent.wait(process)) for _ in range(2)]
                done, _ = await asyncio.wait(waiting, timeout=0.1)
                assert not done, "it was said to have ended while it ran"
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

    def test_a_process_that_nobody_started_is_an_error_of_ours(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        async def main() -> None:
            async with self._connected(make, guest) as (agent, _):
                with pytest.raises(VCError):
                    await agent.wait(Process("no-such-container", "0"))

        run(main())

    def test_the_end_of_the_pod_is_the_end_of_its_containers(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        async def main() -> None:
            async with self._connected(make, guest) as (agent, _):
                process = await self._start(agent)
                await agent.stop_pod(TIMEOUT)
                async with asyncio.timeout(TIMEOUT):
                    with suppress(AgentError):  # the guest is gone, perhaps before it could say how it ended
                        assert await agent.wait(process) != 0

        run(main())

    # -- what it claims --------------------------------------------------------------------------------------------

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

    def test_a_stalled_reader_holds_up_nobody_else(self, make: Callable[..., Agent], guest: StartGuest) -> None:
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

    def test_what_a_container_uses_is_told(self, make: Callable[..., Agent], guest: StartGuest) -> None:
        async def main() -> None:
            async with self._with_container(make, guest) as agent:
                if AgentCapability.STATS in agent.capabilities:
                    assert isinstance(await agent.stats("c1", TIMEOUT), ContainerUsage)
                else:
                    with pytest.raises(NotSupportedError):
                        await agent.stats("c1", TIMEOUT)

        run(main())

    def test_another_agent_takes_over_through_what_was_saved(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        async def main() -> None:
            async with self._connected(make, guest) as (first, wire):
                if AgentCapability.REATTACH not in first.capabilities:
                    pytest.skip(f"it does not claim to have {AgentCapability.REATTACH}")
                process = await self._start(first)
                waiting = asyncio.create_task(first.wait(process))
                await asyncio.sleep(0)
                saved = json.loads(json.dumps(dict(first.save())))
                wire.cut()  # as the end of the first one's process does
                await first.aclose()
                with pytest.raises(AgentError):
                    await waiting
                second = make(saved)
                try:
                    await second.connect(wire.open_channel, TIMEOUT)
                    await second.adopt(process, RecordedIO(None))
                    await second.signal_container("c1", signal.SIGKILL, TIMEOUT)
                    assert await second.wait(process) == 128 + signal.SIGKILL
                finally:
                    await second.aclose()

        run(main())

    @pytest.mark.parametrize("saved", [{"contract": 1}, {"processes": 7}, {"version": 10**9}], ids=str)
    def test_facts_that_another_version_saved_are_at_worst_an_error_of_ours(
        self, make: Callable[..., Agent], saved: Mapping[str, object]
    ) -> None:
        async def main() -> None:
            with suppress(VCError):
                await make(saved).aclose()

        run(main())

    # -- for the tests ---------------------------------------------------------------------------------------------

    @staticmethod
    def _channels(agent: Agent) -> list[str]:
        with unwritten_methods_fail():
            return [device.name for device in agent.devices() if isinstance(device, (Channel, GuestPort))]

    @asynccontextmanager
    async def _connected(self, make: Callable[..., Agent], guest: StartGuest) -> AsyncIterator[tuple[Agent, _Wire]]:
        agent = make()
        await agent.prepare()
        async with guest() as running:
            wire = _Wire(running)
            try:
                await agent.connect(wire.open_channel, TIMEOUT)
                await agent.start_pod("contract", "", TIMEOUT)
                yield agent, wire
            finally:
                await agent.aclose()
                wire.close()

    @asynccontextmanager
    async def _with_container(
        self, make: Callable[..., Agent], guest: StartGuest, capability: AgentCapability | None = None
    ) -> AsyncIterator[Agent]:
        async with self._connected(make, guest) as (agent, _):
            if capability is not None and capability not in agent.capabilities:
                pytest.skip(f"it does not claim to have {capability}")
            await self._start(agent)
            yield agent

    async def _start(self, agent: Agent, terminal: TerminalSize | None = None) -> Process:
        container = GuestContainer("c1", self.root_fs, Cmd(args=self.commands.run_on), terminal)
        return await agent.start_container(container, RecordedIO(None), TIMEOUT)
