"""The monitor against a fake QEMU that misbehaves; test_hypervisor.py and others have the tests with a real one."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from vc_core.errors import HypervisorError, VMTimeoutError
from vc_core.testing.slowness import within
from vc_hypervisor_qemu.monitor import Monitor

GREETING = b'{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": ""}, "capabilities": []}}\n'
READY = b'{"return": {}}\n'

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def fake_qemu(path: Path, serve: Serve) -> AsyncIterator[Monitor]:
    """Yield a monitor whose QEMU, which is this process, does what ``serve`` does, and hangs up after that."""

    async def serve_and_hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_unix_server(serve_and_hang_up, path)
    monitor = Monitor(path, os.getpid())
    try:
        yield monitor
    finally:
        await monitor.aclose()
        server.close()
        await server.wait_closed()


def sends(*answers: bytes, then_wait: bool = False) -> Serve:
    """Return a QEMU that greets with the first answer and gives each other one for a command (which has no newline)."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answers[0])
        for answer in answers[1:]:
            await reader.read(4096)
            writer.write(answer)
        if then_wait:
            await reader.read()

    return serve


def ask(tmp_path: Path, serve: Serve, timeout: float = 5) -> object:
    async def run() -> object:
        async with fake_qemu(tmp_path / "qmp", serve) as monitor:
            return await monitor.execute("query-status", timeout)

    return asyncio.run(run())


@pytest.mark.promise("T05")
@pytest.mark.parametrize(
    "serve",
    [
        sends(b"", then_wait=True),
        sends(GREETING[:20], then_wait=True),
        sends(GREETING, then_wait=True),
        sends(GREETING, READY, then_wait=True),
    ],
    ids=["silent", "half a greeting", "no capabilities", "no answer"],
)
def test_a_qemu_that_does_not_answer_is_an_error_at_the_timeout(tmp_path: Path, serve: Serve) -> None:
    with within(1), pytest.raises(VMTimeoutError, match=r"does not answer 'query-status' within 0\.3 s"):
        ask(tmp_path, serve, timeout=0.3)


@pytest.mark.parametrize(
    "serve",
    [
        sends(b""),
        sends(b"SSH-2.0-OpenSSH\r\n", then_wait=True),
        sends(GREETING[:20]),
        sends(b"[]\n", then_wait=True),
        sends(b"x" * 10**6, then_wait=True),
        sends(GREETING, b'{"error": {"class": "GenericError", "desc": "no"}}\n', then_wait=True),
        sends(GREETING, READY, b"garbage\n", then_wait=True),
        sends(GREETING, READY, b'{"error": {"class": "GenericError", "desc": "no"}}\n', then_wait=True),
        sends(GREETING, READY),
    ],
    ids=[
        *("nothing", "not QMP", "half a greeting", "no object", "no end", "no capabilities", "garbage", "no id"),
        "gone before the answer",
    ],
)
def test_a_qemu_that_sends_nonsense_or_closes_the_connection_is_an_error_at_once(tmp_path: Path, serve: Serve) -> None:
    with within(2), pytest.raises(HypervisorError, match="query-status"):
        ask(tmp_path, serve)


def test_the_error_contains_qemus_own_message(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await sends(GREETING, READY)(reader, writer)
        command = json.loads(await reader.read(4096))
        answer = {"id": command["id"], "error": {"class": "GenericError", "desc": "the moon is full"}}
        writer.write(json.dumps(answer).encode() + b"\n")
        await reader.read()

    with pytest.raises(HypervisorError, match="QEMU refuses 'query-status': the moon is full"):
        ask(tmp_path, serve)


def test_a_lost_connection_is_made_again_with_the_next_command(tmp_path: Path) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await sends(GREETING, READY)(reader, writer)
        if connections == 2:
            command = json.loads(await reader.read(4096))
            writer.write(json.dumps({"id": command["id"], "return": {"status": "running"}}).encode() + b"\n")
            await reader.read()

    async def run() -> object:
        async with fake_qemu(tmp_path / "qmp", serve) as monitor:
            with pytest.raises(HypervisorError):
                await monitor.execute("query-status")
            return await monitor.execute("query-status")

    assert asyncio.run(run()) == {"status": "running"}


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("migrate", {"uri": "exec:true"}),
        ("human-monitor-command", None),
        ("human-monitor-command", {"command-line": "info usernet; quit"}),
        ("device_add", {"driver": "virtio-net-pci"}),
        ("blockdev-add", {"driver": "nbd"}),
    ],
)
def test_a_command_that_is_not_on_the_list_is_never_sent(tmp_path: Path, command: Any, arguments: Any) -> None:
    with pytest.raises(HypervisorError, match=f"'{command}' is not a command that this driver sends"):
        asyncio.run(Monitor(tmp_path / "qmp", os.getpid()).execute(command, arguments=arguments))


def test_a_device_that_is_not_released_is_an_error_at_the_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vc_hypervisor_qemu.monitor.COMMAND_TIMEOUT", 0.3)
    other = b'{"event": "DEVICE_DELETED", "data": {"device": "other", "path": "/"}, "timestamp": {}}\n'

    async def run() -> None:
        async with fake_qemu(tmp_path / "qmp", sends(GREETING, READY, READY + other, then_wait=True)) as monitor:
            with pytest.raises(VMTimeoutError, match=r"does not answer 'device_del' within 0\.3 s"):
                await monitor.remove_device("disk0")

    asyncio.run(run())


def test_an_event_storm_costs_no_memory(tmp_path: Path) -> None:
    """The guest can cause events; all but the one that is waited for are dropped."""
    event = json.dumps({"event": "RTC_CHANGE", "data": {"offset": 1}, "timestamp": {}}).encode() + b"\n"
    last = json.dumps({"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-reset"}}).encode() + b"\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await sends(GREETING, READY)(reader, writer)
        command = json.loads(await reader.read(4096))
        writer.write(event * 2000 + json.dumps({"id": command["id"], "return": {}}).encode() + b"\n" + last)

    async def run() -> tuple[str, int]:
        async with fake_qemu(tmp_path / "qmp", serve) as monitor:
            await monitor.execute("query-status")
            reason = await monitor.shutdown_reason(5)
            return reason, len(monitor._events.history)

    assert asyncio.run(run()) == ("guest-reset", 1)


def test_a_connection_that_fails_is_closed_even_if_disconnecting_fails_as_well(  # the census counts
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cancelled(_: object) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr("vc_hypervisor_qemu.monitor._disconnect", cancelled)

    async def run() -> None:
        async with fake_qemu(tmp_path / "qmp", sends(b"nonsense\n")) as monitor:
            with pytest.raises(asyncio.CancelledError):
                await monitor.execute("query-status")

    asyncio.run(run())
