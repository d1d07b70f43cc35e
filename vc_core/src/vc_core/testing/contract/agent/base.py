"""Fixtures and helpers that the parts of an agent's contract share."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import pytest

from vc_core.config.container import Cmd, ContainerConfig, Mount
from vc_core.config.pod import PodConfig
from vc_core.driver.agent import Agent, AgentCapability, GuestContainer, GuestProcessId, ProcessIO
from vc_core.driver.context import PodContext
from vc_core.driver.devices import Channel, GuestPort
from vc_core.driver.kinds import PluginKind
from vc_core.driver.spawner import Spawner
from vc_core.driver.terminal import TerminalSize
from vc_core.errors import HypervisorError, VCError
from vc_core.plugins.drivers import AgentDriver
from vc_core.testing.contract.agent.probes import Commands
from vc_core.testing.contract.plugin import PluginContract
from vc_core.testing.contract.running import TIMEOUT, unwritten_methods_fail
from vc_core.testing.process_io import RecordedIO
from vc_core.testing.slowness import scaled

#: Timeout in seconds given to an agent whose guest never answers, and seconds in which the agent must have raised.
SHORT, IN_TIME = 0.5, 10.0


#: The host name that the agent gives the guest.
HOSTNAME = "contract"


class Way(StrEnum):
    """How a command is run: what is promised for one is promised for both."""

    FIRST = "the first process of a container"
    FURTHER = "a further process of a container"


class RunningGuest(Protocol):
    """A running guest, or a fake of one."""

    async def open_channel(self, name: str) -> socket.socket:
        """Return a connected, non-blocking socket to one of the agent's channels, as a hypervisor does."""


#: Starts a guest; called after the agent's ``prepare``.
StartGuest = Callable[[], AbstractAsyncContextManager[RunningGuest]]


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

    #: Seconds in which a command ends that has nothing to wait for.
    ends_within = scaled(60.0)

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
        """The pod that the agent serves, with its directories; it has those that containers may write to."""
        run_dir = tmp_path / "run"
        for directory in (f"share/{self.root_fs}", "writable", "roots"):
            (run_dir / directory).mkdir(parents=True)
        run_dir.chmod(0o700)
        writable = ContainerConfig(id="c1", root_fs="/", mounts=[Mount("/tmp", "/tmp", read_only=False)])
        return PodContext.of(PodConfig(id="contract", containers=[writable], writable_roots=True), run_dir)

    @pytest.fixture
    def spawner(self) -> Spawner | None:
        """The spawner that the agent is given, for one that cannot enter a container itself."""
        return None

    @pytest.fixture
    def make(
        self, driver: AgentDriver, options: Mapping[str, object], pod: PodContext, spawner: Spawner | None
    ) -> Callable[..., Agent]:
        """A function that makes the agent object: a new one, or one that takes over what another has ``saved``."""

        def make(saved: Mapping[str, object] | None = None) -> Agent:
            return driver.create(pod, driver.config(options), spawner, saved)

        return make

    def mount_source(self, pod: PodContext, path: str, *, read_only: bool) -> str:
        """Return ``GuestMount.source`` for a path below a shared directory of the pod; a fake may need another."""
        return path

    def written_root(self, pod: PodContext, path: str) -> str:
        """Return ``GuestContainer.root_fs`` for a path below ``PodContext.roots_dir``; a fake may need another."""
        return path

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
                await agent.start_pod(HOSTNAME, "", TIMEOUT)
                yield agent, wire
            finally:
                await agent.aclose()
                wire.close()

    @asynccontextmanager
    async def _with_container(
        self, make: Callable[..., Agent], guest: StartGuest, *capabilities: AgentCapability
    ) -> AsyncIterator[Agent]:
        """Give an agent whose container ``c1`` runs; skip the test unless the agent claims the capabilities."""
        async with self._connected(make, guest) as (agent, _):
            for capability in capabilities:
                self._require(agent, capability)
            await self._start(agent)
            yield agent

    @staticmethod
    def _require(agent: Agent, capability: AgentCapability) -> None:
        if capability not in agent.capabilities:
            pytest.skip(f"the agent does not claim to have {capability}")

    async def _start(self, agent: Agent, terminal: TerminalSize | None = None) -> GuestProcessId:
        return await self._start_container(agent, "c1", self.commands.run_on, RecordedIO(None), terminal=terminal)

    async def _start_container(
        self, agent: Agent, container_id: str, args: Sequence[str], io: ProcessIO, **more: Any
    ) -> GuestProcessId:
        """Start a container; ``more`` are further fields of its configuration or, with ``cmd``, its whole command."""
        cmd = more.pop("cmd", None) or Cmd(args=args)
        return await agent.start_container(GuestContainer(container_id, self.root_fs, cmd, **more), io, TIMEOUT)

    async def _exit_code(self, agent: Agent, process: GuestProcessId, what: str) -> int:
        """Return the exit code of a process that has nothing to wait for."""
        try:
            async with asyncio.timeout(self.ends_within):
                return await agent.wait(process)
        except TimeoutError:
            pytest.fail(f"{what} did not end within {self.ends_within:g} s", pytrace=False)

    async def _until(self, io: RecordedIO, text: bytes, what: str) -> None:
        """Wait until a process has printed ``text``."""
        try:
            async with asyncio.timeout(self.ends_within):
                await io.until_text(text)
        except TimeoutError:
            pytest.fail(f"{what} did not print {text!r} but {bytes(io.stdout)[-80:]!r}", pytrace=False)

    async def _run(self, agent: Agent, way: Way, cmd: Cmd, io: RecordedIO, terminal: TerminalSize | None = None) -> int:
        """Run a command to its end in one of the ways, and return its exit code."""
        what = f"{way}, {cmd.args[:4]!r},"
        if way is Way.FURTHER:
            return await self._exit_code(agent, await agent.exec("c1", cmd, io, TIMEOUT, terminal), what)
        container = GuestContainer("p1", self.root_fs, cmd, terminal)
        try:
            return await self._exit_code(agent, await agent.start_container(container, io, TIMEOUT), what)
        finally:
            with suppress(VCError):  # its start may have failed
                await agent.signal_container("p1", signal.SIGKILL, TIMEOUT)
            with suppress(VCError):
                await agent.remove_container("p1", TIMEOUT)

    async def _output(self, agent: Agent, way: Way, args: Sequence[str], **more: Any) -> bytes:
        """Return what a command prints that succeeds; ``more`` are further fields of it."""
        io = RecordedIO()
        code = await self._run(agent, way, Cmd(args=args, **more), io)
        what = f"{way}, {Cmd(args=args, **more)},"
        assert code == 0, f"{what} ended with {code} and {bytes(io.stderr)[:200]!r}"
        return bytes(io.stdout)

    @staticmethod
    def _ways(agent: Agent) -> list[Way]:
        """Return the ways in which an agent runs commands in containers."""
        return list(Way) if AgentCapability.ADD_CONTAINER in agent.capabilities else [Way.FURTHER]
