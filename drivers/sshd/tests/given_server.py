"""Helpers: an agent and a real OpenSSH daemon on 127.0.0.1, as in a guest that the caller names."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from vc_agent_sshd.agent import SshdAgent
from vc_core.driver import (
    Cmd,
    EnvVar,
    GuestContainer,
    Spawner,
)
from vc_core.testing.process_io import RecordedIO
from vc_core.testing.slowness import scaled
from vc_spawner_nsenter.config import NsenterConfig
from vc_spawner_nsenter.plugin import NsenterPlugin

MakeAgent = Callable[..., SshdAgent]


#: Seconds, generous: the machine may be busy.
TIMEOUT = scaled(60.0)


PATH = EnvVar("PATH", "/bin:/usr/bin")


async def no_channel(name: str) -> socket.socket:
    raise AssertionError("a given server is reached by its address")


def namespace(kind: str, pid: int | str = "self") -> str:
    return str(Path(f"/proc/{pid}/ns/{kind}").readlink())


def spawner() -> Spawner:
    return NsenterPlugin().vc_spawner_create(NsenterConfig())


def sh(script: str, **more: Any) -> Cmd:
    return Cmd(args=["sh", "-c", script], envs=[PATH], **more)


def container(root_fs: Path, cmd: Cmd, **more: Any) -> GuestContainer:
    return GuestContainer("c1", str(root_fs), cmd, **more)


@asynccontextmanager
async def started(agent: SshdAgent) -> AsyncIterator[SshdAgent]:
    """Connect, start the pod, and leave nothing in the guest."""
    await agent.connect(no_channel, TIMEOUT)
    await agent.start_pod("host1", "", TIMEOUT)
    try:
        yield agent
    finally:
        await agent.stop_pod(TIMEOUT)
        await agent.aclose()


@asynccontextmanager
async def taken_over(agent: SshdAgent) -> AsyncIterator[SshdAgent]:
    await agent.connect(no_channel, TIMEOUT)
    try:
        yield agent
    finally:
        await agent.stop_pod(TIMEOUT)
        await agent.aclose()


async def outcome(agent: SshdAgent, container_id: str, cmd: Cmd, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
    """Run a command to its end."""
    io = RecordedIO(stdin)
    process = await agent.exec(container_id, cmd, io, TIMEOUT)
    code = await asyncio.wait_for(agent.wait(process), TIMEOUT)
    return code, bytes(io.stdout), bytes(io.stderr)


def play(work: Callable[[], Awaitable[object]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 2 * TIMEOUT))
