"""Calls that only this driver has: what hyperstart can do beyond what every agent can."""

from __future__ import annotations

from collections.abc import Sequence

from vc_agent_hyperstart.connection import Connection
from vc_agent_hyperstart.dialect import Dialect
from vc_agent_hyperstart.requests import (
    DeleteInterface,
    FileName,
    GetPod,
    OnlineCpuMem,
    Ping,
    ReadFile,
    Request,
    RescanDevices,
    Route,
    SetupInterface,
    SetupRoute,
    WriteFile,
)


class DirectCalls:
    """Part of :class:`HyperstartAgent` for programs that use this driver by itself.

    ``deadline`` is seconds. Every call raises NotSupportedError for what the guest's dialect does not have, AgentError
    when the guest refuses or is lost, AgentTimeoutError when it does not answer.
    """

    _connection: Connection

    @property
    def dialect(self) -> Dialect:
        """How the guest speaks. Raises AgentConnectError before it has answered."""
        return self._connection.dialect

    async def request(self, request: Request, deadline: float) -> bytes:
        """Send any request of :mod:`vc_agent_hyperstart.requests` and return the payload of the guest's ACK."""
        return await self._connection.call(request, deadline)

    async def ping(self, deadline: float) -> None:
        """Return once the guest has answered."""
        await self.request(Ping(), deadline)

    async def get_pod(self, deadline: float) -> None:
        """Send GETPOD, which does nothing; originals of 2017 and later refuse it."""
        await self.request(GetPod(), deadline)

    async def rescan_devices(self, deadline: float) -> None:
        """Let the guest look for devices that were added on its PCI bus."""
        await self.request(RescanDevices(), deadline)

    async def online_cpus_and_memory(self, deadline: float) -> None:
        """Let the guest use the processors and memory that were added. It answers before it is done."""
        await self.request(OnlineCpuMem(), deadline)

    async def set_up_interface(self, interface: SetupInterface, deadline: float) -> None:
        """Give addresses, a name, an MTU to a network interface, and put it up.

        An original has IPv4 only, needs an address, and does not notice when setting it fails.
        """
        await self.request(interface, deadline)

    async def set_up_routes(self, routes: Sequence[Route], deadline: float) -> None:
        """Add routes to the pod's network."""
        await self.request(SetupRoute(routes), deadline)

    async def delete_interface(self, device: str, deadline: float) -> None:
        """Take a network interface down before it is removed."""
        await self.request(DeleteInterface(device), deadline)

    async def read_file(self, container_id: str, path: str, deadline: float) -> bytes:
        """Return the bytes of a file in a running container, somewhat less than 1 MiB at most.

        An original does not check the size: its answer to a larger file ends the connection.
        """
        return await self.request(ReadFile(container_id, path), deadline)

    async def write_file(self, container_id: str, path: str, data: bytes, deadline: float) -> None:
        """Make or replace a file in a running container; somewhat less than 1 MiB at most.

        Raises ConfigError for too much, and for a ``}`` in ``path``: the guest takes for data what follows it.
        """
        await self.request(WriteFile(FileName(container_id, path), data), deadline)
