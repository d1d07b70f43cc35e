"""Base classes of hypervisors and agents that wrap another one, and change only some of what it does."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from vc_core.config.container import Cmd
from vc_core.config.network import PortForward
from vc_core.driver.agent import (
    Agent,
    AgentCapability,
    GuestContainer,
    GuestNetwork,
    GuestProcessId,
    OpenChannel,
    ProcessIO,
)
from vc_core.driver.copies import GuestCopy
from vc_core.driver.devices import BlockDevice, Device, DiskLocation, NetworkInterface
from vc_core.driver.hypervisor import Hypervisor, HypervisorCapability, VMExit
from vc_core.driver.process import ProcessIdentity
from vc_core.driver.terminal import TerminalSize
from vc_core.results import ContainerUsage


class HypervisorProxy(Hypervisor):
    """A hypervisor that passes every call on to another one, ``inner``.

    The wrapper of an extension, or a driver that is built on another, derives from it and overrides what it changes. A
    method that a later version of :class:`Hypervisor` adds is passed on by the proxy of that version.
    """

    def __init__(self, inner: Hypervisor) -> None:
        """Pass calls on to ``inner``."""
        self.inner = inner

    @property
    def capabilities(self) -> frozenset[HypervisorCapability]:
        """See :class:`Hypervisor`."""
        return self.inner.capabilities

    def add_device(self, device: Device) -> None:
        """See :class:`Hypervisor`."""
        self.inner.add_device(device)

    async def prepare(self, timeout: float) -> None:
        """See :class:`Hypervisor`."""
        await self.inner.prepare(timeout)

    async def start(self, timeout: float) -> None:
        """See :class:`Hypervisor`."""
        await self.inner.start(timeout)

    async def stop(self, timeout: float) -> None:
        """See :class:`Hypervisor`."""
        await self.inner.stop(timeout)

    async def pause(self) -> None:
        """See :class:`Hypervisor`."""
        await self.inner.pause()

    async def resume(self) -> None:
        """See :class:`Hypervisor`."""
        await self.inner.resume()

    async def wait(self) -> VMExit:
        """See :class:`Hypervisor`."""
        return await self.inner.wait()

    async def open_channel(self, name: str) -> socket.socket:
        """See :class:`Hypervisor`."""
        return await self.inner.open_channel(name)

    def disk_location(self, device_id: str) -> DiskLocation:
        """See :class:`Hypervisor`."""
        return self.inner.disk_location(device_id)

    async def attach(self, device: BlockDevice, timeout: float) -> None:
        """See :class:`Hypervisor`."""
        await self.inner.attach(device, timeout)

    async def detach(self, device_id: str, timeout: float) -> None:
        """See :class:`Hypervisor`."""
        await self.inner.detach(device_id, timeout)

    def resolve_network(self, interface: NetworkInterface) -> NetworkInterface:
        """See :class:`Hypervisor`."""
        return self.inner.resolve_network(interface)

    async def forwards(self) -> tuple[PortForward, ...]:
        """See :class:`Hypervisor`."""
        return await self.inner.forwards()

    async def discard(self, timeout: float) -> None:
        """See :class:`Hypervisor`."""
        await self.inner.discard(timeout)

    async def kind(self, timeout: float) -> str:
        """See :class:`Hypervisor`."""
        return await self.inner.kind(timeout)

    def use_template(self, directory: Path, new: bool) -> None:
        """See :class:`Hypervisor`."""
        self.inner.use_template(directory, new)

    async def save_template(self, timeout: float) -> None:
        """See :class:`Hypervisor`."""
        await self.inner.save_template(timeout)

    def identity(self) -> ProcessIdentity | None:
        """See :class:`Hypervisor`."""
        return self.inner.identity()

    def save(self) -> Mapping[str, object]:
        """See :class:`Hypervisor`."""
        return self.inner.save()

    async def write_console(self, data: bytes, timeout: float) -> None:
        """See :class:`Hypervisor`."""
        await self.inner.write_console(data, timeout)

    def console_tail(self) -> str:
        """See :class:`Hypervisor`."""
        return self.inner.console_tail()

    @property
    def acceleration(self) -> str:
        """See :class:`Hypervisor`."""
        return self.inner.acceleration

    @property
    def isolation(self) -> str:
        """See :class:`Hypervisor`."""
        return self.inner.isolation

    @property
    def jail(self) -> str:
        """See :class:`Hypervisor`."""
        return self.inner.jail

    @property
    def jail_missing(self) -> Sequence[str]:
        """See :class:`Hypervisor`."""
        return self.inner.jail_missing

    def user_namespace(self) -> Path | None:
        """See :class:`Hypervisor`."""
        return self.inner.user_namespace()

    async def aclose(self) -> None:
        """See :class:`Hypervisor`."""
        await self.inner.aclose()


class AgentProxy(Agent):
    """An agent that passes every call on to another one, ``inner``; see :class:`HypervisorProxy`."""

    def __init__(self, inner: Agent) -> None:
        """Pass calls on to ``inner``."""
        self.inner = inner

    @property
    def capabilities(self) -> frozenset[AgentCapability]:
        """See :class:`Agent`."""
        return self.inner.capabilities

    def devices(self) -> Sequence[Device]:
        """See :class:`Agent`."""
        return self.inner.devices()

    async def prepare(self) -> None:
        """See :class:`Agent`."""
        await self.inner.prepare()

    async def connect(self, open_channel: OpenChannel, timeout: float) -> None:
        """See :class:`Agent`."""
        await self.inner.connect(open_channel, timeout)

    async def settle(self, open_channel: OpenChannel, timeout: float) -> None:
        """See :class:`Agent`."""
        await self.inner.settle(open_channel, timeout)

    async def wake(self, open_channel: OpenChannel, timeout: float) -> None:
        """See :class:`Agent`."""
        await self.inner.wake(open_channel, timeout)

    async def aclose(self) -> None:
        """See :class:`Agent`."""
        await self.inner.aclose()

    async def start_pod(self, hostname: str, root_fs: str, timeout: float, network: GuestNetwork | None = None) -> None:
        """See :class:`Agent`."""
        await self.inner.start_pod(hostname, root_fs, timeout, network)

    async def set_sysctls(self, sysctls: Mapping[str, str], timeout: float) -> None:
        """See :class:`Agent`."""
        await self.inner.set_sysctls(sysctls, timeout)

    async def set_clock(self, timeout: float) -> None:
        """See :class:`Agent`."""
        await self.inner.set_clock(timeout)

    async def stop_pod(self, timeout: float) -> None:
        """See :class:`Agent`."""
        await self.inner.stop_pod(timeout)

    async def start_container(self, container: GuestContainer, io: ProcessIO, timeout: float) -> GuestProcessId:
        """See :class:`Agent`."""
        return await self.inner.start_container(container, io, timeout)

    async def exec(
        self, container_id: str, cmd: Cmd, io: ProcessIO, timeout: float, terminal: TerminalSize | None = None
    ) -> GuestProcessId:
        """See :class:`Agent`."""
        return await self.inner.exec(container_id, cmd, io, timeout, terminal)

    async def copy(self, container_id: str, copy: GuestCopy, io: ProcessIO, timeout: float) -> GuestProcessId:
        """See :class:`Agent`."""
        return await self.inner.copy(container_id, copy, io, timeout)

    async def wait(self, process: GuestProcessId) -> int:
        """See :class:`Agent`."""
        return await self.inner.wait(process)

    async def signal_container(self, container_id: str, signal: int, timeout: float) -> None:
        """See :class:`Agent`."""
        await self.inner.signal_container(container_id, signal, timeout)

    async def signal(self, process: GuestProcessId, signal: int, timeout: float) -> None:
        """See :class:`Agent`."""
        await self.inner.signal(process, signal, timeout)

    async def resize(self, process: GuestProcessId, rows: int, columns: int, timeout: float) -> None:
        """See :class:`Agent`."""
        await self.inner.resize(process, rows, columns, timeout)

    async def close_output(self, process: GuestProcessId, errors: bool, timeout: float) -> None:
        """See :class:`Agent`."""
        await self.inner.close_output(process, errors, timeout)

    async def adopt(self, process: GuestProcessId, io: ProcessIO) -> None:
        """See :class:`Agent`."""
        await self.inner.adopt(process, io)

    async def remove_container(self, container_id: str, timeout: float) -> None:
        """See :class:`Agent`."""
        await self.inner.remove_container(container_id, timeout)

    async def pause_container(self, container_id: str, timeout: float) -> None:
        """See :class:`Agent`."""
        await self.inner.pause_container(container_id, timeout)

    async def resume_container(self, container_id: str, timeout: float) -> None:
        """See :class:`Agent`."""
        await self.inner.resume_container(container_id, timeout)

    async def update_container(
        self, container_id: str, memory: int | None, pids: int | None, cpus: float | None, timeout: float
    ) -> None:
        """See :class:`Agent`."""
        await self.inner.update_container(container_id, memory, pids, cpus, timeout)

    async def stats(self, container_id: str, timeout: float) -> ContainerUsage:
        """See :class:`Agent`."""
        return await self.inner.stats(container_id, timeout)

    async def wait_lost(self) -> str:
        """See :class:`Agent`."""
        return await self.inner.wait_lost()

    @property
    def warnings(self) -> Sequence[str]:
        """See :class:`Agent`."""
        return self.inner.warnings

    def save(self) -> Mapping[str, object]:
        """See :class:`Agent`."""
        return self.inner.save()
