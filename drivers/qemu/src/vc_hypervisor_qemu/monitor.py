"""Monitor: sends commands to QEMU's monitor (QMP). No other module does, and no other commands are sent."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Literal, get_args

from qemu.qmp import EventListener, ExecuteError, Message, QMPClient, QMPError, Runstate

from vc_core.errors import HypervisorError, VMTimeoutError
from vc_hypervisor_qemu import sockets
from vc_hypervisor_qemu.commands import MIGRATION, REQUIRED, Command, RefusedError

#: Seconds for one command; QEMU answers within milliseconds unless something is wrong.
COMMAND_TIMEOUT = 5.0

#: Of migration (QEMU's qapi/migration.json): memory that is mapped from a file is not copied, and events are sent.
_CAPABILITIES = [{"capability": name, "state": True} for name in ("x-ignore-shared", "events")]

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
        self, command: Command, timeout: float = COMMAND_TIMEOUT, arguments: Mapping[str, object] | None = None
    ) -> object:
        """Send a command and return QEMU's answer, within ``timeout`` seconds.

        Raises RefusedError for an error of QEMU's, VMTimeoutError, HypervisorError.
        """
        required = REQUIRED.get(command, {}).items()
        if command not in get_args(Command) or command in MIGRATION or not required <= (arguments or {}).items():
            raise HypervisorError(f"{command!r} is not a command that this driver sends, or not with {arguments}")
        async with self._client_for(command, timeout) as client:
            return await client.execute(command, dict(arguments or {}))

    async def add_descriptor(self, owner: str, descriptor: int) -> int:
        """Give QEMU a copy of a descriptor for ``owner``; return the number of its set, which has no other.

        The caller closes its own. Raises RefusedError for an error of QEMU's, VMTimeoutError, HypervisorError.
        """
        async with self._client_for("add-fd", COMMAND_TIMEOUT) as client:
            client.send_fd_scm(descriptor)  # it waits in the socket for the command
            answer: Any = await client.execute("add-fd", {"opaque": owner})
        return int(answer["fdset-id"])

    async def remove_descriptors(self, owner: str) -> None:
        """Let QEMU close its copies of the descriptors of ``owner``, if it has any.

        Raises RefusedError for an error of QEMU's, VMTimeoutError, HypervisorError.
        """
        async with self._client_for("remove-fd", COMMAND_TIMEOUT) as client:
            sets: Any = await client.execute("query-fdsets")
            for one in sets:
                if any(descriptor.get("opaque") == owner for descriptor in one["fds"]):
                    await client.execute("remove-fd", {"fdset-id": one["fdset-id"]})

    async def migrate(self, direction: Literal["migrate", "migrate-incoming"], descriptor: int, timeout: float) -> None:
        """Let QEMU write the state of the VM to a pipe, or read it from one. Closes ``descriptor``, QEMU's end of it.

        The guest's memory is left out, because a file holds it. Returns when the state is complete, within ``timeout``
        seconds. Raises RefusedError for an error of QEMU's, VMTimeoutError, HypervisorError.
        """
        try:
            async with self._client_for(direction, timeout) as client:
                client.send_fd_scm(descriptor)
                ended = ("completed", "failed", "cancelled")
                with client.listener("MIGRATION", lambda event: _data(event).get("status") in ended) as events:
                    # In one go, because a start waits for each answer; QEMU executes commands in their order.
                    await asyncio.gather(
                        client.execute("getfd", {"fdname": "state"}),
                        client.execute("migrate-set-capabilities", {"capabilities": _CAPABILITIES}),
                        client.execute(direction, {"uri": "fd:state"}),
                    )
                    os.close(descriptor)
                    descriptor = -1
                    status = _data(await _event(client, events)).get("status")
        finally:
            if descriptor != -1:
                os.close(descriptor)
        if status != "completed":
            raise HypervisorError(f"QEMU's {direction} has {status}")

    async def remove_device(self, id: str) -> bool:
        """Remove a device from the VM, wait until the guest has released it, and return whether it was there.

        Raises RefusedError for an error of QEMU's, VMTimeoutError, HypervisorError.
        """
        async with self._client_for("device_del", COMMAND_TIMEOUT) as client:
            with client.listener("DEVICE_DELETED", lambda event: _data(event).get("device") == id) as removed:
                try:
                    await client.execute("device_del", {"id": id})
                except ExecuteError as error:
                    if error.error_class != "DeviceNotFound":
                        raise
                    return False
                await removed.get()
        return True

    async def shutdown_reason(self, timeout: float) -> str:
        """Return the cause in QEMU's SHUTDOWN event (``ShutdownCause`` in its qapi/run-state.json), "" without one.

        Called when the process has ended; takes ``timeout`` seconds at most to read what it sent before.
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
        """Close the connection; the VM runs on."""
        client, self._client = self._client, None
        if client is not None:
            await _disconnect(client)

    @asynccontextmanager
    async def _client_for(self, command: Command, timeout: float) -> AsyncIterator[QMPClient]:
        """Yield the connection for a command, for ``timeout`` seconds; turn errors into those of the driver.

        Raises RefusedError, VMTimeoutError, HypervisorError.
        """
        try:
            async with asyncio.timeout(timeout):
                yield await self._connected()
        except TimeoutError as error:
            raise VMTimeoutError(f"QEMU does not answer {command!r} within {timeout:.3g} s") from error
        except ExecuteError as error:
            raise RefusedError(f"QEMU refuses {command!r}: {error}") from error
        except (QMPError, AssertionError) as error:  # qemu.qmp asserts that a new connection is still open
            raise HypervisorError(f"QEMU did not answer {command!r}: {error}") from error

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
                        await _disconnect(client)
                    finally:
                        connection.close()
                    raise
                self._client = client
            return self._client


async def _event(client: QMPClient, events: EventListener) -> Message:
    """Return the next event. Raises HypervisorError when the connection ends first."""
    event = asyncio.ensure_future(events.get())
    end = asyncio.ensure_future(client.runstate_changed())
    try:
        await asyncio.wait({event, end}, return_when=asyncio.FIRST_COMPLETED)
        if not event.done():
            raise HypervisorError("QEMU ended")
        return event.result()
    finally:
        event.cancel()
        end.cancel()


def _data(event: Message) -> Mapping[str, object]:
    data = event.get("data")
    return data if isinstance(data, dict) else {}


async def _disconnect(client: QMPClient) -> None:
    # qemu.qmp raises here how the connection ended, which the caller does not need.
    with suppress(QMPError, OSError, EOFError):
        await client.disconnect()
