"""The Hypervisor of one pod: lets libvirt's daemon start a domain, or controls one that runs already."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from vc_core.driver import (
    BlockDevice,
    Channel,
    Device,
    DiskLocation,
    GuestPort,
    HypervisorCapability,
    NetworkInterface,
    PodContext,
    PortForward,
    ProcessHypervisor,
    ProcessIdentity,
    console_log,
    read_regular,
)
from vc_core.errors import HypervisorError, VMStartError, VMTimeoutError
from vc_hypervisor_libvirt import devices, domain, host, network, virsh
from vc_hypervisor_libvirt.config import ACCELERATIONS, LibvirtConfig
from vc_hypervisor_libvirt.domain import Disk
from vc_hypervisor_libvirt.record import VmRecord
from vc_hypervisor_libvirt.vm import Vm, connect, directory

_CAPABILITIES = frozenset(
    {
        HypervisorCapability.PROCESS,
        HypervisorCapability.DISCARD,
        HypervisorCapability.CHANNELS,
        HypervisorCapability.SHARED_DIRECTORIES,
        HypervisorCapability.PAUSE,
        HypervisorCapability.BLOCK_DEVICES,
        HypervisorCapability.HOTPLUG,
        HypervisorCapability.NETWORK,
        HypervisorCapability.GUEST_PORTS,
    }
)

#: The file in the run directory that names the daemon, written before that is asked for anything.
_DAEMON_FILE = "libvirt-uri"

#: Most bytes of such a file that are read.
_TEXT_MAX = 4096

#: Lines of the console that an error quotes.
_CONSOLE_LINES = 10

#: Seconds for a connection to QEMU on this host, which accepts it before it connects to the guest.
_CONNECTED = 5.0


class LibvirtHypervisor(ProcessHypervisor[Vm]):
    """One pod's VM: a domain of a libvirt daemon, whose QEMU process outlives this object and the daemon."""

    program = "QEMU"

    def __init__(self, pod: PodContext, config: LibvirtConfig, saved: Mapping[str, object] | None) -> None:
        super().__init__(pod)
        self._config = config
        self._devices: list[Device] = []
        self._record: VmRecord | None = None
        self._disks_busy = asyncio.Lock()
        self._making: asyncio.Task[str] | None = None  # the command that makes the domain, until that is recorded
        if saved is None:
            host.check_config(pod.hypervisor_config, pod.resources)
            domain.check_caller_params(pod.hypervisor_config)
        elif saved:
            try:
                self._record = VmRecord.from_mapping(saved)
            except (KeyError, TypeError, ValueError) as error:
                raise HypervisorError(f"the saved state of the VM of pod {pod.id!r} is damaged: {error!r}") from error

    @property
    def capabilities(self) -> frozenset[HypervisorCapability]:
        """All that there are: QEMU is behind it."""
        return _CAPABILITIES

    @property
    def acceleration(self) -> str:
        """Return "kvm" or "tcg" (emulation); "none" before prepare."""
        return self._record.acceleration if self._record else "none"

    @property
    def isolation(self) -> str:
        """Return "hardware" under KVM, "none" under emulation, for which QEMU promises nothing."""
        return "hardware" if self.acceleration == "kvm" else "none"

    def identity(self) -> ProcessIdentity | None:
        """Return the QEMU process; None before prepare."""
        return self._record.process if self._record else None

    def save(self) -> Mapping[str, object]:
        """Return what another process needs to control this VM; empty before prepare."""
        return self._record.to_mapping() if self._record else {}

    def console_tail(self) -> str:
        """Return the last lines of the guest's console."""
        return console_log.tail(self._log, _CONSOLE_LINES)

    def add_device(self, device: Device) -> None:
        """Add a device to the VM. Raises ConfigError if it cannot be had beside those added before, StateError."""
        self._require_new("add a device")
        devices.check(device, self._devices)
        self._devices.append(device)

    async def prepare(self, timeout: float) -> None:
        """Let the daemon make the domain, with its CPUs stopped.

        Raises PrivilegeError for a plain user, ConfigError for a kernel, image or disk that cannot be used,
        VMStartError with the daemon's own message, VMTimeoutError, StateError.
        """
        self._require_new("prepare it")
        host.check_user()
        clock = asyncio.get_running_loop().time
        end = clock() + timeout
        host.check_boot(self._pod.boot)
        disks = self._place_disks()
        uri = self._config.daemon()
        async with self._undoing(), self._unmaking(uri):
            self._remove_files()
            self._discard_logs()
            await self._create(uri, disks, timeout)
            process = self._take_process(uri)
            wanted = network.forwards(self._devices)
            if wanted:
                usernet = await virsh.run(
                    uri, "qemu-monitor-command", self._pod.uuid, "--hmp", "info usernet", timeout=end - clock()
                )
                wanted = network.chosen(wanted, usernet)
        names = [device.name for device in self._devices if isinstance(device, GuestPort)]
        of_network = len(wanted) - len(names)
        self._record = VmRecord(
            process,
            uri,
            self._pod.uuid,
            ACCELERATIONS[self._config.type],
            {device.name: str(path) for device, path in self._channels().items()},
            {name: one.host_port for name, one in zip(names, wanted[of_network:], strict=True)},
            list(wanted[:of_network]),
            disks,
            len(disks),
        )

    async def start(self, timeout: float) -> None:
        """Start the VM's CPUs. Raises VMStartError with the daemon's own message, VMTimeoutError, HypervisorError."""
        self._controlled("start it")
        try:
            await self._virsh("resume", timeout=timeout)
        except VMTimeoutError:
            raise
        except HypervisorError as error:
            raise VMStartError(f"the VM of pod {self._pod.id!r} cannot be started: {error}") from error

    async def stop(self, timeout: float) -> None:
        """End the VM and remove its files except the logs. Raises HypervisorError."""
        if self._making is not None:
            await self._unmake(self._config.daemon(), self._making, timeout / 2)
        await super().stop(timeout)

    async def discard(self, timeout: float) -> None:
        """Let the daemon end the domain that an interrupted start left, if any. Raises HypervisorError."""
        try:
            uri = read_regular(self._pod.run_dir / _DAEMON_FILE, _TEXT_MAX).decode()
        except OSError:
            return  # no daemon was asked for anything
        await virsh.destroy(uri, self._pod.uuid, timeout)
        self._remove_files()

    async def pause(self) -> None:
        """Stop the VM's CPUs. Raises HypervisorError, VMTimeoutError."""
        self._controlled("pause it")
        await self._virsh("suspend")

    async def resume(self) -> None:
        """Start the VM's CPUs again; no error if they run. Raises HypervisorError, VMTimeoutError."""
        self._controlled("resume it")
        try:
            await self._virsh("resume")
        except VMTimeoutError:
            raise
        except HypervisorError:
            if (await self._virsh("domstate")).strip() != "running":
                raise

    async def open_channel(self, name: str) -> socket.socket:
        """Return a connection to a channel, or to a GuestPort. Raises HypervisorError.

        QEMU serves one connection to a channel at a time; the next one waits until that is closed.
        """
        self._controlled(f"open channel {name!r}")
        assert self._record is not None
        record = self._record
        try:
            if name in record.ports:
                return await _connect_port(record.ports[name])
            if name in record.channels:
                return connect(Path(record.channels[name]))
        except OSError as error:
            raise HypervisorError(f"channel {name!r} of pod {self._pod.id!r} cannot be opened: {error}") from error
        names = ", ".join(map(repr, (*record.channels, *record.ports))) or "none"
        raise HypervisorError(f"the VM of pod {self._pod.id!r} has no channel {name!r}; it has {names}")

    def resolve_network(self, interface: NetworkInterface) -> NetworkInterface:
        """Return the interface with the addresses of QEMU's user network where the caller gave none."""
        return network.resolve(interface)

    async def forwards(self) -> tuple[PortForward, ...]:
        """Return the forwards that the pod's network asks for, each with its port of the host; empty before prepare."""
        return tuple(self._record.forwards) if self._record else ()

    def disk_location(self, device_id: str) -> DiskLocation:
        """Return where the guest finds a disk. Raises HypervisorError for one that the VM does not have."""
        disk = self._record.disks.get(device_id) if self._record else None
        if disk is None:
            raise HypervisorError(f"the VM of pod {self._pod.id!r} has no disk {device_id!r}")
        return devices.location(disk.target)

    async def attach(self, device: BlockDevice, timeout: float) -> None:
        """Add a disk to the running VM.

        Raises ConfigError for a file that cannot be a disk, HypervisorError, VMTimeoutError.
        """
        devices.check(device, ())
        async with self._disk_work(f"attach disk {device.id!r}", timeout) as record:
            present = record.disks.get(device.id)
            if present is not None:
                if _disk(device, present.target) == present:
                    return
                raise HypervisorError(f"disk {device.id!r} of pod {self._pod.id!r} is {present.path!r} already")
            disk = _disk(device, devices.free_target([one.target for one in record.disks.values()], record.next_target))
            await self._unplug(disk)  # an owner that was killed before it saved may have left one there
            await self._virsh("attach-device", "/dev/stdin", "--live", document=disk.xml())
            record.disks[device.id], record.next_target = disk, disk.target + 1

    async def detach(self, device_id: str, timeout: float) -> None:
        """Remove a disk from the running VM. Raises HypervisorError, VMTimeoutError."""
        async with self._disk_work(f"detach disk {device_id!r}", timeout) as record:
            if device_id in record.disks:
                await self._unplug(record.disks[device_id])
                del record.disks[device_id]

    @property
    def _console(self) -> str:
        """Name of the socket of the guest's console.

        This and others have the domain in their names, because the daemon removes them by paths that lead through a
        descriptor of the process that prepared the VM, and would remove another file of the same name.
        """
        return f"{self._pod.uuid}.console"

    @property
    def _log(self) -> Path:
        return self._pod.run_dir / "console.log"

    def _take_over(self, pidfd: int) -> Vm:
        assert self._record is not None
        return self._vm_of(pidfd, self._record.uri)

    def _vm_of(self, pidfd: int, uri: str) -> Vm:
        return Vm(pidfd, uri, self._pod.uuid, self._pod.run_dir / self._console, self._log)

    def _place_disks(self) -> dict[str, Disk]:
        """Return a new VM's disks by their ids. Raises ConfigError for a file that cannot be one."""
        wanted = [device for device in self._devices if isinstance(device, BlockDevice)]
        return {device.id: _disk(device, target) for target, device in enumerate(wanted)}

    def _channels(self) -> dict[Channel, Path]:
        """Return where the socket of each channel is."""
        channels = [device for device in self._devices if isinstance(device, Channel)]
        named = {one: f"{self._pod.uuid}.channel{number}" for number, one in enumerate(channels)}
        return {one: one.host_path or self._pod.run_dir / name for one, name in named.items()}

    async def _create(self, uri: str, disks: Mapping[str, Disk], timeout: float) -> None:
        """Let the daemon make the domain. Raises VMStartError, VMTimeoutError."""
        # The run directory's path may be too long for a socket; the daemon makes the sockets through this process.
        with directory(self._pod.run_dir) as short:
            sockets = {
                one.id: str(path) if one.host_path else f"{short}/{path.name}" for one, path in self._channels().items()
            }
            sockets[domain.CONSOLE] = f"{short}/{self._console}"
            made = domain.xml(self._pod, self._config, self._devices, sockets, disks.values())
            (self._pod.run_dir / _DAEMON_FILE).write_text(uri, encoding="utf-8")
            self._making = asyncio.create_task(
                virsh.run(uri, "create", "/dev/stdin", "--paused", document=made, timeout=timeout + virsh.TIMEOUT)
            )
            await asyncio.wait({self._making}, timeout=timeout)
        if not self._making.done():
            raise VMTimeoutError(f"the libvirt daemon at {uri} did not make the VM within {timeout:g} s")
        try:
            self._making.result()
        except HypervisorError as error:
            self._making = None
            raise VMStartError(f"the VM of pod {self._pod.id!r} cannot be made: {error}") from error
        for path in (self._pod.run_dir / self._console, *self._channels().values()):
            path.chmod(0o600)

    def _take_process(self, uri: str) -> ProcessIdentity:
        """Find the domain's process and watch it. Raises VMStartError."""
        text = read_regular(self._pod.run_dir / domain.PID_FILE, _TEXT_MAX).decode()
        identity = ProcessIdentity.of(int(text))
        pidfd = identity.open_pidfd() if identity else None
        if identity is None or pidfd is None:
            raise VMStartError(f"QEMU of pod {self._pod.id!r} ended at once")
        self._vm = self._vm_of(pidfd, uri)
        return identity

    @asynccontextmanager
    async def _unmaking(self, uri: str) -> AsyncIterator[None]:
        """Let the daemon remove the domain if the body fails; if this is cancelled too, ``stop`` does it."""
        try:
            yield
        except BaseException:
            if self._making is not None:
                with suppress(HypervisorError):
                    await self._unmake(uri, self._making, virsh.TIMEOUT)
            raise
        self._making = None

    async def _unmake(self, uri: str, making: asyncio.Task[str], timeout: float) -> None:
        """Remove the domain, which the daemon may still be making. Raises HypervisorError, VMTimeoutError."""
        await virsh.destroy(uri, self._pod.uuid, timeout)  # also ends one that is being made
        await asyncio.wait({making}, timeout=timeout)
        if not making.done():
            raise VMTimeoutError(f"the libvirt daemon at {uri} still makes the VM of pod {self._pod.id!r}")
        if making.exception() is None:  # it was not there yet when it should end
            await virsh.destroy(uri, self._pod.uuid, timeout)
        self._making = None

    def _remove_files(self) -> None:
        """Remove the sockets and what else a killed QEMU could not remove."""
        names = (self._console, domain.PID_FILE, domain.KEY_FILE, _DAEMON_FILE)
        recorded = map(Path, self._record.channels.values()) if self._record else self._channels().values()
        for path in (*(self._pod.run_dir / name for name in names), *recorded):
            path.unlink(missing_ok=True)

    def _discard_logs(self) -> None:
        console_log.discard(self._log)

    async def _virsh(self, command: str, *words: str, document: str = "", timeout: float = virsh.TIMEOUT) -> str:
        """Run a command about the domain."""
        assert self._record is not None
        return await virsh.run(
            self._record.uri, command, self._record.domain, *words, document=document, timeout=timeout
        )

    async def _unplug(self, disk: Disk) -> None:
        """Remove a disk; no error if the VM has none in that place."""
        if domain.disk_name(disk.target) in domain.disk_names(await self._virsh("dumpxml")):
            await self._virsh("detach-device", "/dev/stdin", "--live", document=disk.xml())

    @asynccontextmanager
    async def _disk_work(self, action: str, timeout: float) -> AsyncIterator[VmRecord]:
        """Yield the record of the VM's disks, to one task at a time. Raises HypervisorError, VMTimeoutError."""
        try:
            async with asyncio.timeout(timeout), self._disks_busy:
                self._controlled(action)
                assert self._record is not None
                yield self._record
        except TimeoutError as error:
            raise VMTimeoutError(f"cannot {action} of pod {self._pod.id!r} within {timeout:g} s") from error


def _disk(device: BlockDevice, target: int) -> Disk:
    return Disk(target, str(device.host_path), device.read_only, host.is_block_device(device.host_path))


async def _connect_port(port: int) -> socket.socket:
    """Return a non-blocking connection to a port of this host where QEMU listens. Raises OSError."""
    client = socket.socket()
    try:
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(_CONNECTED):
            await asyncio.get_running_loop().sock_connect(client, (network.LOOPBACK, port))
    except BaseException:
        client.close()
        raise
    return client
