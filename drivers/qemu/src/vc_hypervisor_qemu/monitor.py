"""QEMU's monitor: the only module that speaks QMP, and the list of what may be said."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal, get_args

from qemu.qmp import EventListener, QMPClient, QMPError, Runstate

from vc_core.errors import HypervisorError, VMTimeoutError
from vc_hypervisor_qemu import sockets

#: Seconds for one command; QEMU answers within milliseconds unless something is wrong.
COMMAND_DEADLINE = 5.0

#: QMP can run programs on the host; we never say anything but this.
Command = Literal["cont", "human-monitor-command", "query-status", "quit", "stop"]

#: What the arguments of a command that can do anything must have in them: the monitor for humans tells which ports are
#: forwarded, which QMP does not.
_REQUIRED = {"human-monitor-command": {"command-line": "info usernet"}}

#: Bytes of one message; the largest answer to the above has a few hundred.
_MESSAGE_MAX = 64 * 1024


class Monitor:
    """The monitor of the QEMU process ``pid`` at ``path``.

    QEMU serves one client at a time, so the connection is made with the first command and then kept.
    """

    def __init__(self, path: Path, pid: int) -> None:
        self._path, self._pid = path, pid
        self._client: QMPClient | None = None
        self._connecting = asyncio.Lock()
        self._events = EventListener(names="SHUTDOWN")

    async def execute(
        self, command: Command, deadline: float = COMMAND_DEADLINE, arguments: Mapping[str, object] | None = None
    ) -> object:
        """Return QEMU's answer to a command, within ``deadline`` seconds. Raises HypervisorError, VMTimeoutError."""
        required = _REQUIRED.get(command, {}).items()
        if command not in get_args(Command) or not required <= (arguments or {}).items():
            raise HypervisorError(f"{command!r} is no command that this driver gives, or not with {arguments}")
        try:
            async with asyncio.timeout(deadline):
                client = await self._connected()
                return await client.execute(command, dict(arguments or {}))
        except TimeoutError as error:
            raise VMTimeoutError(f"QEMU does not answer {command!r} within {deadline:.3g} s") from error
        except (QMPError, AssertionError) as error:  # it asserts that a connection outlives the moment it was made in
            raise HypervisorError(f"QEMU does not do {command!r}: {error}") from error

    async def shutdown_reason(self, deadline: float) -> str:
        """Return why QEMU said that it would end (``ShutdownCause`` in its qapi/run-state.json), or "" if it did not.

        Called when the process has ended; what it said before is taken within ``deadline`` seconds.
        """
        client = self._client
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline):
                while client is not None and client.runstate is Runstate.RUNNING:
                    await client.runstate_changed()
        for event in self._events.clear():
            data = event["data"]
            return str(data.get("reason", "")) if isinstance(data, dict) else ""
        return ""

    async def aclose(self) -> None:
        """Hang up; the VM runs on."""
        client, self._client = self._client, None
        if client is not None:
            await _hang_up(client)

    async def _connected(self) -> QMPClient:
        async with self._connecting:
            if self._client is None or self._client.runstate is not Runstate.RUNNING:
                await self.aclose()
                connection = sockets.connect(self._path, self._pid)
                client = QMPClient(readbuflen=_MESSAGE_MAX)
                client.register_listener(self._events)
                try:
                    await client.connect(connection)
                except BaseException:
                    await _hang_up(client)
                    connection.close()
                    raise
                self._client = client
            return self._client


async def _hang_up(client: QMPClient) -> None:
    # How the connection ended is of no interest any more; qemu.qmp raises it here, whatever it was.
    with suppress(QMPError, OSError, EOFError):
        await client.disconnect()
