"""Agents for pods that have no VM, alone or with a fake guest."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Mapping
from pathlib import Path
from typing import Any

import pytest

from vc_agent_hyperstart.agent import HyperstartAgent
from vc_agent_hyperstart.config import HyperstartConfig
from vc_agent_hyperstart.testing.fake_guest import FakeHyperstart
from vc_core.driver import Cmd, GuestContainer, HypervisorConfig, PodContext, Resources, TerminalSize
from vc_core.testing.process_io import RecordedIO
from vc_core.testing.slowness import scaled

#: Seconds for one exchange with a fake guest, and for a whole test.
TIMEOUT, WHOLE = scaled(30), scaled(90)

#: The arguments of each kind of fake guest, by name.
GUESTS: dict[str, dict[str, Any]] = {
    "ours": {},
    "2016": {"ours": False},
    "4243": {"ours": False, "api": 4243},
    "4244": {"ours": False, "api": 4244},
}

#: Runs a test against each of them.
each_guest = pytest.mark.parametrize("guest_options", GUESTS.values(), ids=GUESTS)


def make_agent(
    saved: Mapping[str, object] | None = None,
    config: HyperstartConfig | None = None,
    writable_dir: Path | None = None,
) -> HyperstartAgent:
    pod = PodContext(
        id="p1",
        uuid="00000000-0000-0000-0000-000000000000",
        run_dir=Path("/nonexistent/run"),
        share_dir=Path("/nonexistent/share"),
        resources=Resources(),
        hypervisor_config=HypervisorConfig(),
        writable_dir=writable_dir,
    )
    return HyperstartAgent(pod, config or HyperstartConfig(), saved)


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, WHOLE))


@contextlib.asynccontextmanager
async def pod(**guest_options: Any) -> AsyncIterator[tuple[FakeHyperstart, HyperstartAgent]]:
    """A guest with a started pod, whose container c1 sleeps, and the agent connected to it."""
    async with FakeHyperstart(**guest_options) as guest:
        agent = make_agent()
        await agent.connect(guest.open_channel, TIMEOUT)
        try:
            await agent.start_pod("p1", "", TIMEOUT)
            container = GuestContainer("c1", "c1/rootfs", Cmd(args=["sleep"]))
            await agent.start_container(container, RecordedIO(None), TIMEOUT)
            yield guest, agent
        finally:
            await agent.aclose()
        assert guest.violations == []


async def command(
    agent: HyperstartAgent, *args: str, stdin: bytes = b"", terminal: TerminalSize | None = None
) -> tuple[int, RecordedIO]:
    io = RecordedIO(stdin)
    process = await agent.exec("c1", Cmd(args=args), io, TIMEOUT, terminal=terminal)
    return await agent.wait(process), io
