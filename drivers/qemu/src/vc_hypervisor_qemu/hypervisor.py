"""The Hypervisor of one pod: from its devices to a QEMU process, and from what was saved back to that process."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

from vc_core.driver import (
    BlockDevice,
    Boot,
    Channel,
    Device,
    DiskLocation,
    GuestPort,
    Hypervisor,
    HypervisorCapability,
    PodContext,
    PortForward,
    ProcessIdentity,
    VMExit,
    capture,
    vm_process,
)
from vc_core.errors import HypervisorError, NotSupportedError, StateError, VCError, VMStartError, VMTimeoutError
from vc_hypervisor_qemu import (
    acceleration,
    cmdline,
    devices,
    disks,
    host,
    hostnet,
    hotplug,
    kernel,
    network,
    sockets,
    tsc,
)
from vc_hypervisor_qemu.config import SCSI, QemuConfig
from vc_hypervisor_qemu.disks import Disk
from vc_hypervisor_qemu.facts import Facts
from vc_hypervisor_qemu.monitor import Command, Monitor, RefusedError
from vc_hypervisor_qemu.rundir import RunDir
from vc_hypervisor_qemu.vm import Vm

_CAPABILITIES = frozenset(
    {
        HypervisorCapability.BLOCK_DEVICES,
        HypervisorCapability.PROCESS,
        HypervisorCapability.CHANNELS,
        HypervisorCapability.SHARED_DIRECTORIES,
        HypervisorCapability.PAUSE,
        HypervisorCapability.NETWORK,
        HypervisorCapability.GUEST_PORTS,
    }
)

#: Lines of the guest's console that an error quotes.
_CONSOLE_LINES = 10


class QemuHypervisor(Hypervisor):
    """One pod's VM: a QEMU process that outlives this object.

    The run directory is QEMU's working directory. Every socket is made and listened on before QEMU starts, which
    inherits it: no connection comes too early, and a later owner connects in the same way.
    """

    def __init__(self, pod: PodContext, config: QemuConfig, saved: Mapping[str, object] | None) -> None:
        self._pod, self._config, self._files = pod, config, RunDir(pod.run_dir)
        self._devices: list[Device] = []
        self._facts: Facts | None = None
        self._vm: Vm | None = None
        self._disks_busy = asyncio.Lock()
        self._made: list[Path] = []  # files to remove when the VM has ended
        if saved is None:
            host.check_resources(pod.resources)
            host.find_binary(pod.hypervisor_config.hypervisor_path)
            kernel.check_caller_params(pod.hypervisor_config)
            cmdline.check_hypervisor_params(pod.hypervisor_config.hypervisor_params)
        elif saved:
            try:
                self._facts = Facts.from_mapping(saved)
            except ValueError as error:
                raise HypervisorError(f"what was saved of the VM of pod {pod.id!r} is damaged: {error}") from error
            sockets_made = (self._files.socket(cmdline.MONITOR), self._files.socket(cmdline.CONSOLE))
            channels = map(Path, self._facts.channels.values())
            self._made = [*sockets_made, *channels, self._files.messages, self._files.pid_file]

    @property
    def capabilities(self) -> frozenset[HypervisorCapability]:
        """What VMs of QEMU can have and do; disks come and go only where they are on a SCSI bus."""
        return _CAPABILITIES | ({HypervisorCapability.HOTPLUG} if self._config.disk_bus == SCSI else set())

    @property
    def acceleration(self) -> str:
        """How the VM executes code: "kvm" or "tcg"."""
        return self._facts.acceleration if self._facts else "none"

    @property
    def isolation(self) -> str:
        """Return "hardware" under KVM, "none" under emulation, for which QEMU promises nothing.

        It speaks of the virtual machine alone. QEMU itself has the rights of whoever started it, apart from the system
        calls that its own sandbox takes away.
        """
        return "hardware" if self.acceleration == "kvm" else "none"

    def identity(self) -> ProcessIdentity | None:
        """Return the QEMU process; None before there is one."""
        return self._facts.process if self._facts else None

    def save(self) -> Mapping[str, object]:
        """Return what another process needs to control this VM; nothing before there is one."""
        return self._facts.to_mapping() if self._facts else {}

    def console_tail(self) -> str:
        """Return the last lines of the guest's console."""
        return capture.tail(self._files.console_log, _CONSOLE_LINES)

    def add_device(self, device: Device) -> None:
        """Note a device. Raises ConfigError for one that QEMU cannot have beside those noted before."""
        self._require_new("add a device")
        devices.check(device, self._devices, self._config)
        self._devices.append(device)

    async def prepare(self, timeout: float) -> None:
        """Start QEMU with a VM that is stopped.

        Raises ConfigError for files that are not what they should be, VMStartError with QEMU's own words,
        VMTimeoutError.
        """
        self._require_new("prepare it")
        clock = asyncio.get_running_loop().time
        end = clock() + timeout
        boot = host.check_boot(self._pod.boot)
        binary = host.find_binary(self._pod.hypervisor_config.hypervisor_path)
        accelerator = await acceleration.choose(self._pod, self._config, binary, boot.kernel, timeout / 2)
        placed = self._place_disks(boot)
        params = tsc.kernel_params(self._config, self._pod.hypervisor_config, accelerator)
        try:
            vm, pid, channels = self._launch(binary, accelerator, params, tuple(placed.values()))
            status = await self._command(vm, "query-status", end - clock())
            forwards = await self._forwards(vm, end - clock())
            process = ProcessIdentity.of(pid)
            if process is None or not isinstance(status, dict) or status.get("status") != "prelaunch":
                raise VMStartError(f"QEMU's VM is not ready to start: {status!r}")
        except BaseException as error:
            await self._undo()
            if isinstance(error, OSError) and not isinstance(error, VCError):
                raise VMStartError(f"run directory {str(self._files.path)!r} cannot be used: {error}") from error
            raise
        names = [device.name for device in self._devices if isinstance(device, GuestPort)]
        of_network = len(forwards) - len(names)
        ports = {name: one.host_port for name, one in zip(names, forwards[of_network:], strict=True)}
        self._facts = Facts(
            process, accelerator, channels, ports, list(forwards[:of_network]), placed, next_target=len(placed)
        )

    async def start(self, timeout: float) -> None:
        """Let the VM run. Raises VMStartError with QEMU's own words, VMTimeoutError."""
        await self._command(self._controlled("start it"), "cont", timeout)

    async def stop(self, timeout: float) -> None:
        """End the VM: QEMU is asked, then told, then killed. Files go with it, but for the logs."""
        vm = self._attached()
        if vm is not None:
            await vm.end(timeout)
            await vm.aclose()
        try:
            self._remove_files()
        except OSError as error:
            raise HypervisorError(f"what the VM of pod {self._pod.id!r} left cannot be removed: {error}") from error

    async def pause(self) -> None:
        """Suspend the VM."""
        await self._controlled("pause it").monitor.execute("stop")

    async def resume(self) -> None:
        """Continue the VM."""
        await self._controlled("resume it").monitor.execute("cont")

    async def wait(self) -> VMExit:
        """Return when QEMU has ended."""
        vm = self._attached()
        if vm is None:
            return VMExit(expected=False, reason="QEMU ended while nobody watched it")
        return await vm.wait()

    async def open_channel(self, name: str) -> socket.socket:
        """Return a connection to a channel, or to a GuestPort.

        QEMU serves one connection to a channel at a time; the next one waits for its turn. It takes every connection
        to a port, asks the guest then, and hangs up at once if nothing listens there (yet): that is for the caller to
        try again.
        """
        self._controlled(f"open channel {name!r}")
        assert self._facts is not None
        facts = self._facts
        if name in facts.ports:
            return await hostnet.connect(facts.ports[name])
        if name not in facts.channels:
            known = ", ".join(map(repr, (*facts.channels, *facts.ports))) or "none"
            raise HypervisorError(f"the VM of pod {self._pod.id!r} has no channel {name!r}; it has {known}")
        return sockets.connect(Path(facts.channels[name]), facts.process.pid)

    async def forwards(self) -> tuple[PortForward, ...]:
        """Return the ports of the host that lead into the guest because the pod's network asks for it."""
        return tuple(self._facts.forwards) if self._facts else ()

    def disk_location(self, device_id: str) -> DiskLocation:
        """Return where the guest finds a disk. Raises HypervisorError for one that the VM does not have."""
        disk = self._facts.disks.get(device_id) if self._facts else None
        if disk is None:
            raise HypervisorError(f"the VM of pod {self._pod.id!r} has no disk {device_id!r}")
        return disk.location

    async def attach(self, device: BlockDevice, timeout: float) -> None:
        """Give a disk to the VM. Raises ConfigError for a file that cannot be one, HypervisorError, VMTimeoutError."""
        self._require_hotplug()
        devices.check(device, (), self._config)
        async with self._disk_work(f"attach disk {device.id!r}", timeout) as (monitor, facts):
            if (there := facts.disks.get(device.id)) is not None:
                if there.is_for(device):
                    return
                raise HypervisorError(f"disk {device.id!r} of pod {self._pod.id!r} is {there.path!r} already")
            slot = disks.free_target(facts.disks, facts.next_target)
            disk = disks.place(device, slot, self._config)
            await hotplug.plug(monitor, disk)
            facts.disks[device.id], facts.next_target = disk, slot + 1

    async def detach(self, device_id: str, timeout: float) -> None:
        """Take a disk from the VM. Raises HypervisorError, VMTimeoutError."""
        self._require_hotplug()
        async with self._disk_work(f"detach disk {device_id!r}", timeout) as (monitor, facts):
            if device_id in facts.disks:
                await hotplug.unplug(monitor, facts.disks[device_id])
                del facts.disks[device_id]

    async def aclose(self) -> None:
        """Release connections and descriptors; the VM runs on."""
        vm = self._vm
        if vm is not None:
            if vm.alive:
                self._vm = None  # a stop that comes after all takes it over anew
            await vm.aclose()

    def _place_disks(self, boot: Boot) -> dict[str, Disk]:
        """Return a new VM's disks by their ids. Raises ConfigError for a file that cannot be one."""
        wanted = [device for device in self._devices if isinstance(device, BlockDevice)]
        before = 0 if boot.image_is_initramfs else 1
        return {device.id: disks.place(device, number, self._config, before) for number, device in enumerate(wanted)}

    def _launch(
        self, binary: Path, accelerator: str, params: Sequence[str], placed: Sequence[Disk]
    ) -> tuple[Vm, int, dict[str, str]]:
        """Start QEMU; return its VM, its pid and the paths of the channels' sockets."""
        files = self._files
        channels = [device for device in self._devices if isinstance(device, Channel)]
        paths = {name: files.socket(name) for name in (cmdline.MONITOR, cmdline.CONSOLE)}
        for channel in channels:
            name = cmdline.socket_name(channel)
            paths[name] = channel.host_path or files.socket(name)
        self._discard_logs()
        with ExitStack() as stack:
            inherited = {}
            for name, path in paths.items():
                inherited[name] = stack.enter_context(sockets.listen(path)).fileno()
                self._made.append(path)
            for left in (files.messages, files.pid_file):
                left.unlink(missing_ok=True)
            os.mkfifo(files.messages, 0o600)
            self._made += [files.messages, files.pid_file]
            # Opened for reading too: QEMU's messages then outlive us, and a full pipe costs messages, not time.
            messages = os.open(files.messages, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            stack.callback(os.close, messages)
            tap = None
            if name := network.tap_device(self._devices):
                tap = hostnet.open_tap(name)
                stack.callback(os.close, tap)
            hostnet.check_free(network.forwards(self._devices))
            request = cmdline.Request(
                self._pod, self._config, binary, accelerator, params, tuple(self._devices), inherited, tap, placed
            )
            passed = (*inherited.values(), *([] if tap is None else [tap]))
            pid, pidfd = vm_process.spawn(cmdline.argv(request), files.path, messages, passed)
            self._vm = Vm(files, pid, pidfd)
        return self._vm, pid, {channel.name: str(paths[cmdline.socket_name(channel)]) for channel in channels}

    async def _forwards(self, vm: Vm, timeout: float) -> Sequence[PortForward]:
        """Return what is forwarded into a VM that starts, with the host's ports, some of which QEMU has chosen."""
        wanted = network.forwards(self._devices)
        if not wanted:
            return ()
        answer = await self._command(vm, "human-monitor-command", timeout, {"command-line": "info usernet"})
        return network.chosen(wanted, str(answer))

    async def _command(
        self, vm: Vm, command: Command, timeout: float, arguments: Mapping[str, object] | None = None
    ) -> object:
        """Execute a command while QEMU starts. Raises VMStartError with QEMU's own words if it ended instead."""
        not_started = f"the VM of pod {self._pod.id!r} did not start"
        try:
            return await vm.monitor.execute(command, timeout, arguments)
        except VMTimeoutError as error:
            raise VMTimeoutError(f"{not_started}: {error}") from error
        except HypervisorError as error:
            raise VMStartError(f"{not_started}: {await vm.last_words() or error}") from error

    async def _undo(self) -> None:
        """Leave nothing of a failed prepare; the process is gone before anything else can interrupt us."""
        vm, self._vm = self._vm, None
        try:
            if vm is not None:
                vm.kill()
                await vm.aclose()
        finally:
            for undo in (self._remove_files, self._discard_logs):
                with suppress(OSError):
                    undo()

    def _discard_logs(self) -> None:
        for log in (self._files.console_log, self._files.messages_log):
            capture.discard(log)

    def _remove_files(self) -> None:
        while self._made:
            self._made.pop().unlink(missing_ok=True)

    def _attached(self) -> Vm | None:
        """Return the VM, taken over if need be; None if it has ended, or never was."""
        if self._vm is None and self._facts is not None:
            pidfd = self._facts.process.open_pidfd()
            if pidfd is not None:
                self._vm = Vm(self._files, self._facts.process.pid, pidfd)
        return self._vm

    def _controlled(self, doing: str) -> Vm:
        vm = self._attached()
        if vm is None or not vm.alive:
            raise HypervisorError(f"the VM of pod {self._pod.id!r} has ended; to {doing} it must live")
        return vm

    @asynccontextmanager
    async def _disk_work(self, doing: str, timeout: float) -> AsyncIterator[tuple[Monitor, Facts]]:
        """Lend what works on the VM's disks, to one at a time."""
        try:
            async with asyncio.timeout(timeout), self._disks_busy:
                vm = self._controlled(doing)
                assert self._facts is not None
                yield vm.monitor, self._facts
        except RefusedError as error:
            raise HypervisorError(f"cannot {doing} of pod {self._pod.id!r}: {error}") from error
        except TimeoutError as error:
            raise VMTimeoutError(f"cannot {doing} of pod {self._pod.id!r} within {timeout:g} s") from error

    def _require_hotplug(self) -> None:
        if self._config.disk_bus != SCSI:
            raise NotSupportedError(
                f"the disks of pod {self._pod.id!r} cannot change while it runs, because its hypervisor has the option "
                f"disk_bus={self._config.disk_bus}; choose {SCSI}"
            )

    def _require_new(self, doing: str) -> None:
        if self._vm is not None or self._facts is not None:
            raise StateError(f"the VM of pod {self._pod.id!r} is there already; it is too late to {doing}")
