"""Helpers: prepare a VM that is never started, or boot the test guest and send it commands."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from vc_core.driver import Boot
from vc_core.testing.slowness import scaled
from vc_hypervisor_qemu.hypervisor import QemuHypervisor

Make = Callable[..., QemuHypervisor]
Owner = Callable[[Boot], tuple[subprocess.Popen[bytes], dict[str, Any]]]

#: Seconds for a guest to come up where several do so at once, and for one answer of it.
BOOT, ANSWER = scaled(300), scaled(60)


def live(hypervisor: QemuHypervisor, use: Callable[[int], Awaitable[None]]) -> None:
    """Prepare a VM, use it with the pid of QEMU, and end it whatever happened."""

    async def run() -> None:
        await hypervisor.prepare(60)
        try:
            await use(pid_of(hypervisor))
        finally:
            await hypervisor.stop(10)
            await hypervisor.aclose()

    asyncio.run(run())


def left_in(tmp_path: Path) -> list[str]:
    """Return the names in the run directory of pod "p1"."""
    return sorted(path.name for path in (tmp_path / "run" / "p1").iterdir())


def pid_of(hypervisor: QemuHypervisor) -> int:
    """Return the pid of QEMU itself, which is a child of the process that stands for the VM."""
    pid = hypervisor.save()["qemu"]
    assert isinstance(pid, int)
    return pid


async def receive(channel: socket.socket, timeout: float) -> str:
    """Return the guest's next line; it sends one for each command."""
    line = b""
    async with asyncio.timeout(timeout):
        while not line.endswith(b"\n"):
            line += await asyncio.get_running_loop().sock_recv(channel, 65536)
    return line.decode().removesuffix("\n")


async def ask(channel: socket.socket, command: str) -> str:
    await asyncio.get_running_loop().sock_sendall(channel, f"{command}\n".encode())
    return await receive(channel, ANSWER)


@asynccontextmanager
async def booted(hypervisor: QemuHypervisor) -> AsyncIterator[socket.socket]:
    """Boot; yield the channel on which the guest executes commands; end the VM in any case."""
    try:
        await hypervisor.prepare(60)
        with await hypervisor.open_channel("test") as channel:
            await hypervisor.start(60)
            assert await receive(channel, BOOT) == "READY"
            yield channel
    finally:
        await hypervisor.stop(10)
        await hypervisor.aclose()
