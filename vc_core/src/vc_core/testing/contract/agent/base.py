"""Fixtures and helpers that the parts of an agent's contract share."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from vc_core.config.container import Cmd
from vc_core.config.pod import PodConfig
from vc_core.driver.agent import Agent, AgentCapability, GuestContainer, GuestProcessId, TerminalSize
from vc_core.driver.context import PodContext
from vc_core.driver.devices import Channel, GuestPort
from vc_core.driver.kinds import PluginKind
from vc_core.errors import HypervisorError
from vc_core.plugins.drivers import AgentDriver
from vc_core.testing.contract.plugin import PluginContract
from vc_core.testing.contract.running import TIMEOUT, unwritten_methods_fail
from vc_core.testing.process_io import RecordedIO

#: Timeout in seconds given to an agent whose guest never answers, and seconds in which the agent must have raised.
SHORT, IN_TIME = 0.5, 10.0


#: Bytes: more than the buffers between a process and the agent hold.
MUCH = 300_000


class RunningGuest(Protocol):
    """A running guest, or a fake of one."""

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


class Wire:
    """The channels between one agent and its guest; tests cut them."""

    def __init__(self, guest: RunningGuest) -> None:
        self._guest = guest
        self._sockets: list[socket.socket] = []
        self._gone = False

    async def open_channel(self, name: str) -> socket.socket:
        """Return a channel of the guest. Raises HypervisorError after :meth:`lose`."""
        if self._gone:
            raise HypervisorError(f"channel {name} cannot be opened")
        channel = await self._guest.open_channel(name)
        self._sockets.append(channel.dup())
        return channel

    def lose(self) -> None:
        """Cut the open channels and refuse new ones."""
        self._gone = True
        self.cut()

    def cut(self) -> None:
        """Shut the open channels down, as the end of the agent's process does."""
        for channel in self._sockets:
            with suppress(OSError):
                channel.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close this end's duplicates of the channels."""
        for channel in self._sockets:
            channel.close()


class AgentFixtures(PluginContract):
    """Fixtures of all parts; a subclass of :class:`AgentContract` overrides them."""

    kind = PluginKind.AGENT
    commands = Commands()
    root_fs = "c1/rootfs"

    @pytest.fixture
    def guest(self, make: Callable[..., Agent]) -> StartGuest:
        """A function that starts a guest for the agent, or a fake of one: an async context manager."""

        class NoGuest:
            async def open_channel(self, name: str) -> socket.socket:
                raise HypervisorError(f"no guest answers on {name}")

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
        return PodContext.of(PodConfig(id="contract"), run_dir)

    @pytest.fixture
    def make(self, driver: AgentDriver, options: Mapping[str, object], pod: PodContext) -> Callable[..., Agent]:
        """A function that makes the agent object: a new one, or one that takes over what another has ``saved``."""

        def make(saved: Mapping[str, object] | None = None) -> Agent:
            return driver.create(pod, driver.config(options), None, saved)

        return make

    @staticmethod
    def _channels(agent: Agent) -> list[str]:
        with unwritten_methods_fail():
            return [device.name for device in agent.devices() if isinstance(device, (Channel, GuestPort))]

    @asynccontextmanager
    async def _connected(self, make: Callable[..., Agent], guest: StartGuest) -> AsyncIterator[tuple[Agent, Wire]]:
        agent = make()
        await agent.prepare()
        async with guest() as running:
            wire = Wire(running)
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
                pytest.skip(f"the agent does not claim to have {capability}")
            await self._start(agent)
            yield agent

    async def _start(self, agent: Agent, terminal: TerminalSize | None = None) -> GuestProcessId:
        container = GuestContainer("c1", self.root_fs, Cmd(args=self.commands.run_on), terminal)
        return await agent.start_container(container, RecordedIO(None), TIMEOUT)
