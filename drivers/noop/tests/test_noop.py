"""The agent ``noop``, through the plug-in machinery as the core uses it."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from vc_core.driver import (
    Agent,
    AgentCapability,
    Cmd,
    GuestContainer,
    GuestProcessId,
    HypervisorConfig,
    PodContext,
    ProcessIO,
    Resources,
)
from vc_core.errors import AgentConnectError, AgentError, ConfigError, NotSupportedError
from vc_core.testing import Plugins

DRIVER = Plugins().agent("noop")
POD = PodContext("p1", "uuid", Path("/run/p1"), Path("/run/p1/share"), Resources(), HypervisorConfig())
CMD = Cmd(args=["sh"])


class UntouchedIO(ProcessIO):
    """Fails the test that reads or writes it."""

    async def read_stdin(self) -> bytes:
        raise AssertionError("noop read input")

    async def write_stdout(self, data: bytes) -> None:
        raise AssertionError("noop wrote output")

    async def write_stderr(self, data: bytes) -> None:
        raise AssertionError("noop wrote error output")


IO = UntouchedIO()


async def no_channel(name: str) -> socket.socket:
    raise AssertionError(f"noop opened channel {name}")


async def connected(saved: Mapping[str, object] | None = None) -> Agent:
    agent = DRIVER.create(POD, DRIVER.config({}), None, json.loads(json.dumps(saved)))
    await agent.connect(no_channel, 1)
    if saved is None:
        await agent.start_pod("p1", "", 1)
    return agent


async def runs(agent: Agent, process: GuestProcessId) -> bool:
    """Tell whether a wait for the process does not return."""
    waiting = asyncio.create_task(agent.wait(process))
    for _ in range(3):  # turns of the event loop; a wait that can return does so in the first
        await asyncio.sleep(0)
    still = not waiting.done()
    waiting.cancel()
    return still


def test_any_option_is_refused() -> None:
    with pytest.raises(ConfigError, match="no option 'port'"):
        DRIVER.config({"port": 22})


def test_it_needs_neither_device_nor_guest() -> None:
    async def life() -> None:
        assert list((await connected()).devices()) == []

    asyncio.run(life())
    assert DRIVER.guest(DRIVER.config({})) is None
    assert DRIVER.probe() == []


def test_a_command_ends_at_once_with_success() -> None:
    async def life() -> None:
        agent = await connected()
        await agent.start_container(GuestContainer("c1", "c1/rootfs", CMD), IO, 1)
        command = await agent.exec("c1", CMD, IO, 1)
        assert await agent.wait(command) == 0
        assert await agent.wait(command) == 0

    asyncio.run(life())


def test_a_container_runs_until_a_signal_ends_it() -> None:
    async def life() -> None:
        agent = await connected()
        process = await agent.start_container(GuestContainer("c1", "c1/rootfs", CMD), IO, 1)
        other = await agent.start_container(GuestContainer("c2", "c2/rootfs", CMD), IO, 1)
        waits = [asyncio.create_task(agent.wait(process)) for _ in range(2)]
        assert await runs(agent, process)
        await agent.signal_container("c1", signal.SIGTERM, 1)
        assert await asyncio.gather(*waits) == [143, 143]
        assert await agent.wait(process) == 143
        await agent.signal_container("c1", signal.SIGKILL, 1)
        assert await agent.wait(process) == 143
        assert await runs(agent, other)

    asyncio.run(life())


@pytest.mark.parametrize("harmless", [0, signal.SIGWINCH, signal.SIGCHLD, signal.SIGCONT, signal.SIGSTOP])
def test_a_signal_that_ends_no_process_ends_no_container(harmless: int) -> None:
    async def life() -> None:
        agent = await connected()
        process = await agent.start_container(GuestContainer("c1", "c1/rootfs", CMD), IO, 1)
        await agent.signal_container("c1", harmless, 1)
        assert await runs(agent, process)

    asyncio.run(life())


def test_stopping_the_pod_ends_its_containers() -> None:
    async def life() -> None:
        agent = await connected()
        process = await agent.start_container(GuestContainer("c1", "c1/rootfs", CMD), IO, 1)
        await agent.stop_pod(1)
        assert await agent.wait(process) == 137

    asyncio.run(life())


def test_a_container_that_ended_can_be_started_again() -> None:
    async def life() -> None:
        agent = await connected()
        container = GuestContainer("c1", "c1/rootfs", CMD)
        await agent.start_container(container, IO, 1)
        with pytest.raises(AgentError, match="runs already"):
            await agent.start_container(container, IO, 1)
        await agent.signal_container("c1", signal.SIGKILL, 1)
        assert await runs(agent, await agent.start_container(container, IO, 1))

    asyncio.run(life())


def test_another_process_takes_over_running_and_ended_containers() -> None:
    async def life() -> None:
        first = await connected()
        running = await first.start_container(GuestContainer("c1", "c1/rootfs", CMD), IO, 1)
        ended = await first.start_container(GuestContainer("c2", "c2/rootfs", CMD), IO, 1)
        await first.signal_container("c2", signal.SIGTERM, 1)
        await first.aclose()

        second = await connected(first.save())
        for process in (running, ended):
            await second.adopt(process, IO)
        assert await runs(second, running)
        assert await second.wait(ended) == 143
        await second.signal_container("c1", signal.SIGKILL, 1)
        assert await second.wait(running) == 137

    asyncio.run(life())


def test_a_container_started_after_the_last_save_can_be_taken_over() -> None:
    async def life() -> None:
        first = await connected()
        saved = first.save()
        process = await first.start_container(GuestContainer("c1", "c1/rootfs", CMD), IO, 1)
        second = await connected(saved)
        await second.adopt(process, IO)
        assert await runs(second, process)

    asyncio.run(life())


def test_a_removed_container_is_forgotten() -> None:
    async def life() -> None:
        agent = await connected()
        process = await agent.start_container(GuestContainer("c1", "c1/rootfs", CMD), IO, 1)
        await agent.signal_container("c1", signal.SIGKILL, 1)
        await agent.remove_container("c1", 1)
        assert agent.save() == {"exit_codes": {}}
        with pytest.raises(AgentError, match="has no container 'c1'"):
            await agent.wait(process)

    asyncio.run(life())


def test_closing_fails_the_waits_without_an_exit_code() -> None:
    async def life() -> None:
        agent = await connected()
        process = await agent.start_container(GuestContainer("c1", "c1/rootfs", CMD), IO, 1)
        waiting = asyncio.create_task(agent.wait(process))
        await asyncio.sleep(0)
        await agent.aclose()
        with pytest.raises(AgentConnectError):
            await waiting
        assert agent.save() == {"exit_codes": {}}

    asyncio.run(life())


def test_what_it_cannot_do_it_does_not_claim() -> None:
    async def life() -> None:
        agent = await connected()
        process = await agent.exec("c1", CMD, IO, 1)
        assert agent.capabilities == {AgentCapability.ADD_CONTAINER, AgentCapability.REATTACH}
        with pytest.raises(NotSupportedError):
            await agent.signal(process, signal.SIGTERM, 1)
        with pytest.raises(NotSupportedError):
            await agent.resize(process, 24, 80, 1)

    asyncio.run(life())
