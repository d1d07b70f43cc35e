"""The Hypervisor of one pod: starts QEMU with the pod's devices, or controls a QEMU that an earlier process started."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vc_core.driver import (
    BlockDevice,
    Boot,
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
)
from vc_core.errors import ConfigError, HypervisorError, NotSupportedError, VMStartError, VMTimeoutError
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
from vc_hypervisor_qemu import template as templates
from vc_hypervisor_qemu.commands import Command, RefusedError
from vc_hypervisor_qemu.config import FULL, LANDLOCK, SCSI, QemuConfig
from vc_hypervisor_qemu.disks import Disk
from vc_hypervisor_qemu.jail import cgroups, launcher, places
from vc_hypervisor_qemu.jail.cgroups import Cgroups
from vc_hypervisor_qemu.jail.launcher import Jailed, JailError, Level
from vc_hypervisor_qemu.jail.places import View
from vc_hypervisor_qemu.record import VmRecord
from vc_hypervisor_qemu.rundir import RunDir
from vc_hypervisor_qemu.template import Template
from vc_hypervisor_qemu.vm import Vm

if TYPE_CHECKING:
    from vc_hypervisor_qemu.monitor import Monitor

_CAPABILITIES = frozenset(
    {
        HypervisorCapability.BLOCK_DEVICES,
        HypervisorCapability.PROCESS,
        HypervisorCapability.CHANNELS,
        HypervisorCapability.SHARED_DIRECTORIES,
        HypervisorCapability.OWNERS,
        HypervisorCapability.PAUSE,
        HypervisorCapability.NETWORK,
        HypervisorCapability.INTERFACES,
        HypervisorCapability.GUEST_PORTS,
        HypervisorCapability.TEMPLATES,
        HypervisorCapability.CONSOLE,
    }
)

#: States of a VM whose CPUs have not run yet in its process (RunState in QEMU's qapi/run-state.json): new, a clone.
_STOPPED = ("prelaunch", "paused")

#: Lines of the guest's console that an error quotes.
_CONSOLE_LINES = 10


class QemuHypervisor(ProcessHypervisor[Vm]):
    """One pod's VM: a QEMU process that outlives this object.

    QEMU runs in a jail (``jail``). Every socket is made and listened on before QEMU starts, which inherits it: no
    connection comes too early, and a later owner connects in the same way.
    """

    program = "QEMU"

    def __init__(self, pod: PodContext, config: QemuConfig, saved: Mapping[str, object] | None) -> None:
        super().__init__(pod)
        self._config, self._files = config, RunDir(pod.run_dir)
        self._devices: list[Device] = []
        self._record: VmRecord | None = None
        self._disks_busy = asyncio.Lock()
        self._made: list[Path] = []  # files to remove when the VM has ended
        self._cgroups = Cgroups()
        self._placed: Mapping[str, Disk] = {}
        self._template: Template | None = None
        self._view = View(())
        if saved is None:
            host.check_resources(pod.resources)
            host.find_binary(pod.hypervisor_config.hypervisor_path)
            kernel.check_caller_params(pod.hypervisor_config)
            cmdline.check_hypervisor_params(pod.hypervisor_config.hypervisor_params)
        elif saved:
            try:
                self._record = VmRecord.from_mapping(saved)
            except ValueError as error:
                raise HypervisorError(f"the saved state of the VM of pod {pod.id!r} is damaged: {error}") from error
            sockets_made = (self._files.socket(cmdline.MONITOR), self._files.socket(cmdline.CONSOLE))
            channels = map(Path, self._record.channels.values())
            self._made = [*sockets_made, *channels, self._files.messages]
            self._cgroups = Cgroups(list(map(Path, self._record.cgroups)))

    @property
    def capabilities(self) -> frozenset[HypervisorCapability]:
        """What VMs of QEMU can have and do; disks come and go only where they are on a SCSI bus."""
        return _CAPABILITIES | ({HypervisorCapability.HOTPLUG} if self._config.disk_bus == SCSI else set())

    @property
    def acceleration(self) -> str:
        """Return "kvm" or "tcg" (emulation); "none" before prepare."""
        return self._record.acceleration if self._record else "none"

    @property
    def isolation(self) -> str:
        """Return "hardware" under KVM, "none" under emulation, for which QEMU promises nothing.

        This is about the virtual machine alone; :attr:`jail` is about QEMU's process.
        """
        return "hardware" if self.acceleration == "kvm" else "none"

    @property
    def jail(self) -> str:
        """Return how QEMU's process is confined, a ``Level`` of the jail; "none" before prepare."""
        return self._record.jail if self._record else Level.NONE

    @property
    def jail_missing(self) -> Sequence[str]:
        """Return a sentence for each part of a full jail that QEMU's process does not have."""
        return tuple(self._record.jail_missing) if self._record else ()

    def user_namespace(self) -> Path | None:
        """Return the user namespace whose ids QEMU has, None before prepare and where it has those of this process."""
        if self._record is None or self._record.jail != Level.FULL:
            return None
        return Path(f"/proc/{self._record.qemu_pid}/ns/user")

    def identity(self) -> ProcessIdentity | None:
        """Return the QEMU process; None before prepare."""
        return self._record.process if self._record else None

    def save(self) -> Mapping[str, object]:
        """Return what another process needs to control this VM; empty before prepare."""
        return self._record.to_mapping() if self._record else {}

    def console_tail(self) -> str:
        """Return the last lines of the guest's console."""
        return console_log.tail(self._files.console_log, _CONSOLE_LINES)

    async def write_console(self, data: bytes, timeout: float) -> None:
        """Write to the guest's first serial port. Raises HypervisorError."""
        await self._controlled("write to its console").write_console(data, timeout)

    def add_device(self, device: Device) -> None:
        """Add a device to the VM. Raises ConfigError if QEMU cannot have it beside those added before, StateError."""
        self._require_new("add a device")
        devices.check(device, self._devices, self._config)
        self._devices.append(device)

    async def kind(self, timeout: float) -> str:
        """Return what this VM has in common with those that can be clones of the same template; "" if it cannot be one.

        Raises ConfigError, VMStartError, HypervisorError for a file that cannot be read.
        """
        self._require_new("compare it with others")
        boot = host.check_boot(self._pod.boot)
        binary = host.find_binary(self._pod.hypervisor_config.hypervisor_path)
        accelerator = await acceleration.choose(self._pod, self._config, binary, boot.kernel, timeout / 2)
        names = (cmdline.MONITOR, cmdline.CONSOLE, *map(cmdline.socket_name, self._channels()))
        request = cmdline.Request(
            self._pod, self._config, binary, accelerator, (), tuple(self._devices), dict.fromkeys(names, 0)
        )
        try:
            return await asyncio.to_thread(templates.kind, request, places.PRELOAD)
        except OSError as error:
            raise HypervisorError(f"what pod {self._pod.id!r} boots cannot be read: {error}") from error

    def use_template(self, directory: Path, new: bool) -> None:
        """Let prepare make a clone of the template in a directory, or with ``new`` a VM that will be saved there."""
        self._require_new("make it a clone")
        self._template = Template(directory, new)

    async def save_template(self, timeout: float) -> None:
        """Stop the CPUs and save the VM's state beside its memory. Raises HypervisorError, VMTimeoutError."""
        vm, template = self._controlled("save it"), self._template
        if template is None or not template.new:
            raise HypervisorError(f"the VM of pod {self._pod.id!r} was not made to be saved")
        await vm.monitor.execute("stop")
        try:
            await templates.save(template, vm.monitor, timeout)
        except OSError as error:
            raise HypervisorError(f"template {str(template.directory)!r} cannot be written: {error}") from error

    async def prepare(self, timeout: float) -> None:
        """Start QEMU with a VM whose CPUs are stopped.

        Raises ConfigError for a kernel, image, disk or network that QEMU cannot use, VMStartError with QEMU's own
        message, VMTimeoutError, StateError.
        """
        self._require_new("prepare it")
        clock = asyncio.get_running_loop().time
        end = clock() + timeout
        boot = host.check_boot(self._pod.boot)
        host.check_memory(boot, cmdline.memory_size(self._pod.resources))
        binary = host.find_binary(self._pod.hypervisor_config.hypervisor_path)
        accelerator = await acceleration.choose(self._pod, self._config, binary, boot.kernel, timeout / 2)
        placed = await asyncio.to_thread(self._place_disks, boot)
        params = (  # to measure the rate takes 5 ms, and a clone's kernel has booted
            *(() if self._is_clone else tsc.kernel_params(self._config, self._pod.hypervisor_config, accelerator)),
            *kernel.emulation_params(self._config, self._pod.resources, accelerator, self._template is not None),
        )
        async with self._undoing():
            self._placed = placed
            jailed, channels = await self._launch(binary, accelerator, params, end)
            vm = self._vm
            assert vm is not None
            if self._is_clone:
                await self._load_template(vm, end - clock())
                for device in self._block_devices():
                    placed[device.id] = await hotplug.plug(vm.monitor, placed[device.id], device)
            status = await self._command(vm, "query-status", end - clock())
            forwards = await self._forwards(vm, end - clock())
            process = ProcessIdentity.of(jailed.pid)
            if process is None or not isinstance(status, dict) or status.get("status") not in _STOPPED:
                raise VMStartError(f"QEMU's VM is not ready to start: {status!r}")
        names = [device.name for device in self._devices if isinstance(device, GuestPort)]
        of_network = len(forwards) - len(names)
        ports = {name: one.host_port for name, one in zip(names, forwards[of_network:], strict=True)}
        self._record = VmRecord(
            process,
            accelerator,
            channels,
            ports,
            list(forwards[:of_network]),
            placed,
            next_target=len(placed),
            qemu=jailed.qemu,
            jail=jailed.level,
            jail_missing=list(jailed.missing),
            cgroups=list(map(str, self._cgroups.directories)),
        )

    async def start(self, timeout: float) -> None:
        """Start the VM's CPUs. Raises VMStartError with QEMU's own message, VMTimeoutError, HypervisorError."""
        await self._command(self._controlled("start it"), "cont", timeout)

    async def pause(self) -> None:
        """Stop the VM's CPUs. Raises HypervisorError, VMTimeoutError."""
        await self._controlled("pause it").monitor.execute("stop")

    async def resume(self) -> None:
        """Let the VM's CPUs run again. Raises HypervisorError, VMTimeoutError."""
        await self._controlled("resume it").monitor.execute("cont")

    async def open_channel(self, name: str) -> socket.socket:
        """Return a connection to a channel, or to a GuestPort.

        QEMU serves one connection to a channel at a time; the next one waits until that is closed. It accepts every
        connection to a port, then connects to the guest, and closes the connection if the guest does not listen there
        (yet); the caller should then open it again. Raises HypervisorError.
        """
        self._controlled(f"open channel {name!r}")
        assert self._record is not None
        record = self._record
        if name in record.ports:
            return await hostnet.connect(record.ports[name])
        if name not in record.channels:
            names = ", ".join(map(repr, (*record.channels, *record.ports))) or "none"
            raise HypervisorError(f"the VM of pod {self._pod.id!r} has no channel {name!r}; it has {names}")
        return sockets.connect(Path(record.channels[name]), record.qemu_pid)

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
        return disk.location

    async def attach(self, device: BlockDevice, timeout: float) -> None:
        """Add a disk to the running VM.

        Raises ConfigError for a file that cannot be a disk, NotSupportedError for a VM without a SCSI bus,
        HypervisorError, VMTimeoutError.
        """
        self._require_hotplug()
        devices.check(device, (), self._config)
        async with self._disk_work(f"attach disk {device.id!r}", timeout) as (monitor, record):
            if (present := record.disks.get(device.id)) is not None:
                if present.is_for(device):
                    return
                raise HypervisorError(f"disk {device.id!r} of pod {self._pod.id!r} is {present.path!r} already")
            slot = disks.free_target(record.disks, record.next_target)
            disk = disks.place(device, slot, self._config)
            record.disks[device.id] = await hotplug.plug(monitor, disk, device)
            record.next_target = slot + 1

    async def detach(self, device_id: str, timeout: float) -> None:
        """Remove a disk from the running VM.

        Raises NotSupportedError for a VM without a SCSI bus, HypervisorError, VMTimeoutError.
        """
        self._require_hotplug()
        async with self._disk_work(f"detach disk {device_id!r}", timeout) as (monitor, record):
            if device_id in record.disks:
                await hotplug.unplug(monitor, record.disks[device_id])
                del record.disks[device_id]

    async def _load_template(self, vm: Vm, timeout: float) -> None:
        """Give a clone the state of its template. Raises VMStartError with QEMU's own message, VMTimeoutError."""
        assert self._template is not None
        try:
            await templates.load(self._template, vm.monitor, timeout)
        except VMTimeoutError:
            raise
        except HypervisorError as error:
            words = self._in_names_of_the_host(await vm.last_words())
            raise VMStartError(f"the clone of pod {self._pod.id!r} did not start: {words or error}") from error

    @property
    def _is_clone(self) -> bool:
        return self._template is not None and not self._template.new

    def _channels(self) -> list[Channel]:
        return [device for device in self._devices if isinstance(device, Channel)]

    def _place_disks(self, boot: Boot) -> dict[str, Disk]:
        """Return a new VM's disks by their ids. Raises ConfigError for a file that cannot be one."""
        before, wanted = 0 if boot.image_is_initramfs else 1, self._block_devices()
        return {device.id: disks.place(device, number, self._config, before) for number, device in enumerate(wanted)}

    def _block_devices(self) -> list[BlockDevice]:
        return [device for device in self._devices if isinstance(device, BlockDevice)]

    async def _launch(
        self, binary: Path, accelerator: str, params: Sequence[str], end: float
    ) -> tuple[Jailed, dict[str, str]]:
        """Start QEMU and set ``_vm``; return its process and the paths of the channels' sockets.

        ``end``: point in time of the event loop's clock until which it must have started.
        """
        files = self._files
        channels = self._channels()
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
            files.messages.unlink(missing_ok=True)
            os.mkfifo(files.messages, 0o600)
            self._made.append(files.messages)
            # Opened for reading too, so that QEMU can write after this process has ended; a full pipe then loses
            # messages, and does not make QEMU wait.
            messages = os.open(files.messages, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            stack.callback(os.close, messages)
            taps = []
            for one in network.tap_interfaces(self._devices):
                taps.append(hostnet.open_detached_tap() if one.detached else hostnet.open_tap(one.config.device))
                stack.callback(os.close, taps[-1])
            hostnet.check_free(network.forwards(self._devices))
            template = self._template
            if template is not None:
                size = cmdline.memory_size(self._pod.resources) << 20
                (template.make_memory if template.new else template.check)(size)
            opened = []
            for device in self._block_devices() if template is None else ():  # a clone gets them later
                disk = self._placed[device.id]
                opened.append((disk, await asyncio.to_thread(disks.open_file, disk, device)))
                stack.callback(os.close, opened[-1][1])
            request = cmdline.Request(
                self._pod,
                self._config,
                binary,
                accelerator,
                params,
                tuple(self._devices),
                inherited,
                taps,
                opened,
                template=template,
            )
            passed = (*inherited.values(), *(fd for _, fd in opened), *taps)
            jailed = await self._start_jailed(request, passed, messages, end)
            self._vm = Vm(files, jailed.qemu, jailed.pidfd, self._cgroups)
        return jailed, {channel.name: str(paths[cmdline.socket_name(channel)]) for channel in channels}

    async def _start_jailed(
        self, request: cmdline.Request, inherited: Sequence[int], output: int, end: float
    ) -> Jailed:
        """Start QEMU in the best jail that the option ``jail`` allows and this host can build.

        Raises VMStartError, VMTimeoutError.
        """
        pod, boot = self._pod, self._pod.boot
        assert boot is not None
        view = await asyncio.to_thread(
            places.view_of, pod, request.binary, boot, self._devices, request.accelerator, request.template
        )
        memory = cgroups.memory_limit(pod.resources.memory or cmdline.DEFAULT_MEMORY, request.accelerator)
        self._cgroups = await asyncio.to_thread(cgroups.make, pod.uuid, memory, launcher.PROCESSES)
        self._view = view
        owners = places.has_owners(self._devices)
        levels, lacks = launcher.levels_here()
        missing = list(lacks)
        if self._config.jail == LANDLOCK:
            levels, missing = (Level.LANDLOCK,), []
        elif self._config.jail == FULL:
            levels = levels[:1] if levels[0] is Level.FULL else ()
        for level in levels:
            in_jail = level is not Level.LANDLOCK
            if owners and not in_jail:
                why = "; ".join(missing) or "the option jail leaves them out"
                raise ConfigError(
                    f"a container of pod {pod.id!r} may write to the directory that is its root, for which QEMU must "
                    f"be in a jail with namespaces: {why}; leave writable_root_fs out"
                )
            paths = {source: view.path(source) for source in view.sources} if in_jail else {}
            order = launcher.Order(
                cmdline.argv(replace(request, paths=paths)),
                view,
                inherited,
                host_network=network.uses_host(self._devices),
                cgroups=self._cgroups.members,
                owners=owners,
                preload=str(paths.get(places.PRELOAD, places.PRELOAD)) if self._is_clone or owners else "",
            )
            timeout = end - asyncio.get_running_loop().time()
            try:
                jailed = await launcher.start(order, level, self._files.path, output, timeout)
            except JailError as error:
                missing.append(str(error))
                continue
            return replace(jailed, missing=(*missing, *jailed.missing))
        raise VMStartError(f"QEMU of pod {pod.id!r} cannot be confined: {'; '.join(missing)}")

    async def _forwards(self, vm: Vm, timeout: float) -> Sequence[PortForward]:
        """Return the forwards into a VM that is starting, with the ports of the host, some of which QEMU has chosen."""
        wanted = network.forwards(self._devices)
        if not wanted:
            return ()
        answer = await self._command(vm, "human-monitor-command", timeout, {"command-line": "info usernet"})
        return network.chosen(wanted, str(answer))

    async def _command(
        self, vm: Vm, command: Command, timeout: float, arguments: Mapping[str, object] | None = None
    ) -> object:
        """Execute a command while QEMU starts.

        Raises VMStartError with QEMU's own message if it ended instead, VMTimeoutError.
        """
        not_started = f"the VM of pod {self._pod.id!r} did not start"
        try:
            return await vm.monitor.execute(command, timeout, arguments)
        except VMTimeoutError as error:
            raise VMTimeoutError(f"{not_started}: {error}") from error
        except HypervisorError as error:
            words = self._in_names_of_the_host(await vm.last_words())
            raise VMStartError(f"{not_started}: {words or error}") from error

    def _in_names_of_the_host(self, message: str) -> str:
        """Return a message of QEMU's with the paths that the host's files have outside of its jail."""
        names = {disk.file: disk.path for disk in self._placed.values()}
        names |= {one.target: one.source for one in self._view.places if one.source != one.target}
        return re.sub(r"/(dev/fdset|boot|shares|template)/\w+", lambda found: names.get(found[0], found[0]), message)

    async def aclose(self) -> None:
        """Release connections, descriptors and the hold on the control groups; the VM runs on."""
        await super().aclose()
        self._cgroups.close()

    def _discard_logs(self) -> None:
        for log in (self._files.console_log, self._files.messages_log):
            console_log.discard(log)

    def _remove_files(self) -> None:
        if self._record is None and not self._cgroups.directories:  # of a VM that an earlier process did not record
            cgroups.remove_left(self._pod.uuid)
        self._cgroups.remove()
        while self._made:
            self._made.pop().unlink(missing_ok=True)

    def _take_over(self, pidfd: int) -> Vm:
        assert self._record is not None
        self._cgroups.hold()
        return Vm(self._files, self._record.qemu_pid, pidfd, self._cgroups)

    @asynccontextmanager
    async def _disk_work(self, action: str, timeout: float) -> AsyncIterator[tuple[Monitor, VmRecord]]:
        """Yield the monitor and the record of the VM's disks, to one task at a time.

        Raises HypervisorError when QEMU refuses a command of the body, VMTimeoutError.
        """
        try:
            async with asyncio.timeout(timeout), self._disks_busy:
                vm = self._controlled(action)
                assert self._record is not None
                yield vm.monitor, self._record
        except RefusedError as error:
            raise HypervisorError(f"cannot {action} of pod {self._pod.id!r}: {error}") from error
        except TimeoutError as error:
            raise VMTimeoutError(f"cannot {action} of pod {self._pod.id!r} within {timeout:g} s") from error

    def _require_hotplug(self) -> None:
        if self._config.disk_bus != SCSI:
            raise NotSupportedError(
                f"the disks of pod {self._pod.id!r} cannot change while it runs, because its hypervisor has the option "
                f"disk_bus={self._config.disk_bus}; choose {SCSI}"
            )
