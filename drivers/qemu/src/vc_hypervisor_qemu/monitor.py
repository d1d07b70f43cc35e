"""QEMU's monitor: the only module that speaks QMP, and the list of what may be said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal, get_args

from qemu.qmp import EventListener, ExecuteError, Message, QMPClient, QMPError, Runstate

from vc_core.errors import HypervisorError, VMTimeoutError
from vc_hypervisor_qemu import sockets

#: Seconds for one command; QEMU answers within milliseconds unless something is wrong.
COMMAND_TIMEOUT = 5.0

#: QMP can run programs on the host; we never say anything but this.
Command = Literal[
    "blockdev-add",
    "blockdev-del",
    "cont",
    "device_add",
    "device_del",
    "human-monitor-command",
    "query-status",
    "quit",
    "stop",
]

#: What the arguments of commands that can do much else must have in them. The monitor for humans tells which ports are
#: forwarded, which QMP does not.
_REQUIRED = {
    "blockdev-add": {"driver": "raw"},
    "device_add": {"driver": "scsi-hd"},
    "human-monitor-command": {"command-line": "info usernet"},
}

#: Bytes of one message; the largest answer to the above has a few hundred.
_MESSAGE_MAX = 64 * 1024


class RefusedError(HypervisorError):
    """QEMU does not do what it was told, and answers why."""


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
        self, command: Command, timeout: float = COMMAND_TIMEOUT, arguments: Mapping[str, object] | None = None
    ) -> object:
        """Return QEMU's answer to a command, within ``timeout`` seconds. Raises HypervisorError, VMTimeoutError."""
        required = _REQUIRED.get(command, {}).items()
        if command not in get_args(Command) or not required <= (arguments or {}).items():
            raise HypervisorError(f"{command!r} is no command that this driver gives, or not with {arguments}")
        async with self._client_for(command, timeout) as client:
            return await client.execute(command, dict(arguments or {}))

    async def remove_device(self, id: str) -> bool:
        """Take a device from the VM, and return when it has gone: whether it was there before.

        Raises HypervisorError, VMTimeoutError.
        """
        async with self._client_for("device_del", COMMAND_TIMEOUT) as client:
            with client.listener("DEVICE_DELETED", lambda event: _data(event).get("device") == id) as gone:
                try:
                    await client.execute("device_del", {"id": id})
                except ExecuteError as error:
                    if error.error_class != "DeviceNotFound":
                        raise
                    return False
                await gone.get()
        return True

    async def shutdown_reason(self, timeout: float) -> str:
        """Return why QEMU said that it would end (``ShutdownCause`` in its qapi/run-state.json), or "" if it did not.

        Called when the process has ended; what it said before is taken within ``timeout`` seconds.
        """
        client = self._client
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while client is not None and client.runstate is Runstate.RUNNING:
                    await client.runstate_changed()
        for event in self._events.clear():
            return str(_data(event).get("reason", ""))
        return ""

    async def aclose(self) -> None:
        """Hang up; the VM runs on."""
        client, self._client = self._client, None
        if client is not None:
            await _hang_up(client)

    @asynccontextmanager
    async def _client_for(self, command: Command, timeout: float) -> AsyncIterator[QMPClient]:
        """Lend the connection for a command, for ``timeout`` seconds; errors become those of the driver."""
        try:
            async with asyncio.timeout(timeout):
                yield await self._connected()
        except TimeoutError as error:
            raise VMTimeoutError(f"QEMU does not answer {command!r} within {timeout:.3g} s") from error
        except ExecuteError as error:
            raise RefusedError(f"QEMU does not do {command!r}: {error}") from error
        except (QMPError, AssertionError) as error:  # it asserts that a connection outlives the moment it was made in
            raise HypervisorError(f"QEMU does not do {command!r}: {error}") from error

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
                    try:
                        await _hang_up(client)
                    finally:
                        connection.close()
                    raise
                self._client = client
            return self._client


def _data(event: Message) -> Mapping[str, object]:
    data = event.get("data")
    return data if isinstance(data, dict) else {}


async def _hang_up(client: QMPClient) -> None:
    # How the connection ended is of no interest any more; qemu.qmp raises it here, whatever it was.
    with suppress(QMPError, OSError, EOFError):
        await client.disconnect()
