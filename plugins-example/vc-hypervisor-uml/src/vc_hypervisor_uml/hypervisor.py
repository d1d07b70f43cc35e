"""The Hypervisor of one pod: from its devices to a kernel that runs as a process, and back to that process."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

from vc_core.driver import (
    Channel,
    Device,
    DiskLocation,
    Hypervisor,
    HypervisorCapability,
    PodContext,
    ProcessIdentity,
    VMExit,
    VMProcess,
    capture,
)
from vc_core.errors import ConfigError, HypervisorError, StateError, VCError, VMStartError
from vc_hypervisor_uml import cmdline, package, process
from vc_hypervisor_uml.line import Line

_CAPABILITIES = frozenset(
    {
        HypervisorCapability.PROCESS,
        HypervisorCapability.CHANNELS,
        HypervisorCapability.SHARED_DIRECTORIES,
        HypervisorCapability.BLOCK_DEVICES,
    }
)

#: Where the kernel keeps the guest's memory.
_SHM = Path("/dev/shm")

#: MiB: with less the kernel does not come to its init (measured with Debian's 6.1).
_MEMORY_MIN = 64

#: Lines of the console that an error quotes, that end a reason, and that are searched for a panic.
_CONSOLE_LINES, _LAST_WORDS, _PANIC_LINES = 10, 3, 60
_PANIC = re.compile(r"Kernel panic - not syncing: (.*)")


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a process must know to control a VM, whoever made it.

    ``process`` is the first one of the VM's pid namespace. It keeps our ends of all channels and pipes open, under
    these numbers, for whoever controls the VM.
    """

    process: ProcessIdentity
    gate: int  #: a line written here lets the kernel run
    console: int  #: what the guest's console says comes here
    channels: dict[str, list[int]]  #: of each channel, data and receipts
    disks: dict[str, str]

    @classmethod
    def from_mapping(cls, saved: Mapping[str, object]) -> _Facts:
        process, channels, disks = saved["process"], saved["channels"], saved["disks"]
        if not isinstance(process, dict) or not isinstance(channels, dict) or not isinstance(disks, dict):
            raise TypeError("process, channels and disks must be mappings")
        numbers = {str(name): [int(number) for number in pair] for name, pair in channels.items()}
        names = {str(key): str(name) for key, name in disks.items()}
        gate, console = (int(str(saved[name])) for name in ("gate", "console"))
        return cls(ProcessIdentity.from_mapping(process), gate, console, numbers, names)


class _Vm:
    """The VM as its owner holds it: its first process, and what the console says. Lives in one event loop."""

    def __init__(self, pidfd: int, console: int, log: Path) -> None:
        self.pidfd, self._log = pidfd, log
        self._lines: dict[str, Line] = {}
        self.process = VMProcess(pidfd)
        self.console = capture.Capture(log)
        with suppress(OSError):  # it has just ended, or the disk is full
            self.console.start(process.take(pidfd, console))

    def line(self, name: str, numbers: Sequence[int]) -> Line:
        """Return a channel, given the numbers of its descriptors. Raises OSError."""
        if name not in self._lines:
            with ExitStack() as stack:
                ends = [stack.enter_context(socket.socket(fileno=process.take(self.pidfd, one))) for one in numbers]
                data, receipts = ends
                self._lines[name] = Line(data, receipts)
                stack.pop_all()
        return self._lines[name]

    def how_it_ended(self) -> str:
        """Return why the VM has ended, as one sentence."""
        self.console.drain()
        if panic := _PANIC.search(capture.tail(self._log, _PANIC_LINES)):
            return f"the guest's kernel panicked: {panic[1]}"
        how = self.process.ended.result()
        if how == "exited with status 0":
            return "the guest powered off"
        said = capture.tail(self._log, _LAST_WORDS).replace("\n", "; ")
        return f"User Mode Linux {how or 'ended, and only its parent knows how'}" + (f": {said}" if said else "")

    async def aclose(self) -> None:
        """Release everything; the VM runs on."""
        try:
            for line in self._lines.values():
                await line.aclose()
        finally:
            self.console.close()
            self.process.close()


class UmlHypervisor(Hypervisor):
    """One pod's VM: a kernel in a pid namespace of its own, which outlives this object."""

    def __init__(self, pod: PodContext, saved: Mapping[str, object] | None) -> None:
        self._pod = pod
        self._devices: list[Device] = []
        self._facts: _Facts | None = None
        self._vm: _Vm | None = None
        self._stopping = False
        if saved is None:
            cmdline.check_caller_params(pod.hypervisor_config)
            self._check_resources()
            self._check_host()
        elif saved:
            try:
                self._facts = _Facts.from_mapping(saved)
            except (KeyError, TypeError, ValueError) as error:
                raise HypervisorError(f"what was saved of the VM of pod {pod.id!r} is damaged: {error!r}") from error

    @property
    def capabilities(self) -> frozenset[HypervisorCapability]:
        """A process with channels, shared directories and disks."""
        return _CAPABILITIES

    @property
    def acceleration(self) -> str:
        """Programs run on the host's CPU and are stopped by ptrace(2) at each system call."""
        return "ptrace"

    def identity(self) -> ProcessIdentity | None:
        """Return the first process of the VM's namespace; None before there is one."""
        return self._facts.process if self._facts else None

    def save(self) -> Mapping[str, object]:
        """Return what another process needs to control this VM; nothing before there is one."""
        return asdict(self._facts) if self._facts else {}

    def console_tail(self) -> str:
        """Return the last lines of the guest's console."""
        return capture.tail(self._log, _CONSOLE_LINES)

    def add_device(self, device: Device) -> None:
        """Note a device. Raises ConfigError for one that cannot be had beside those noted before."""
        self._require_new("add a device")
        cmdline.check_device(device, self._devices)
        self._devices.append(device)

    async def prepare(self, timeout: float) -> None:
        """Start the VM's first process, which waits to be told to run the kernel.

        Raises ConfigError for files that are not what they should be, VMStartError.
        """
        self._require_new("prepare it")
        boot = self._pod.boot
        if boot is None or not boot.image_is_initramfs:
            raise ConfigError("hypervisor uml boots an initramfs; give another image_path, or none")
        if not boot.kernel.is_file() or not os.access(boot.kernel, os.X_OK):
            raise ConfigError(f"kernel {str(boot.kernel)!r} is not a program, which User Mode Linux is; give another")
        if not boot.image.is_file() or not os.access(boot.image, os.R_OK):
            raise ConfigError(f"image {str(boot.image)!r} is no file that can be read; give another")
        self._check_memory()
        try:
            self._remove_files()
            capture.discard(self._log)
            self._launch()
        except BaseException as error:
            await self._undo()
            if isinstance(error, OSError) and not isinstance(error, VCError):
                raise VMStartError(f"the VM of pod {self._pod.id!r} cannot be started: {error}") from error
            raise

    async def start(self, timeout: float) -> None:
        """Let the kernel run."""
        vm = self._controlled("start it")
        assert self._facts is not None
        try:
            gate = process.take(vm.pidfd, self._facts.gate)
            try:
                os.write(gate, b"\n")
            finally:
                os.close(gate)
        except OSError as error:
            raise VMStartError(f"the VM of pod {self._pod.id!r} cannot be started: {error}") from error

    async def stop(self, timeout: float) -> None:
        """Kill the VM: the agent has asked the guest before, and the kernel holds nothing that is lost by it."""
        self._stopping = True
        vm = self._attached()
        if vm is not None:
            vm.process.signal(signal.SIGKILL)
            if not await vm.process.wait(timeout):
                raise HypervisorError(f"User Mode Linux still lives {timeout:g} s after SIGKILL")
            vm.console.drain()
        try:
            self._remove_files()
        except OSError as error:
            raise HypervisorError(f"what the VM of pod {self._pod.id!r} left cannot be removed: {error}") from error

    async def wait(self) -> VMExit:
        """Return when the VM has ended."""
        vm = self._attached()
        if vm is None:
            return VMExit(expected=False, reason="User Mode Linux ended while nobody watched it")
        await asyncio.wait({vm.process.ended})
        if vm.process.ended.cancelled():
            raise HypervisorError("nobody watches the VM any more: its hypervisor object was closed")
        return VMExit(expected=self._stopping, reason=vm.how_it_ended())

    async def open_channel(self, name: str) -> socket.socket:
        """Return a connection to a channel; the one before is cut off."""
        vm = self._controlled(f"open channel {name!r}")
        assert self._facts is not None
        numbers = self._facts.channels.get(name)
        if numbers is None:
            known = ", ".join(map(repr, self._facts.channels)) or "none"
            raise HypervisorError(f"the VM of pod {self._pod.id!r} has no channel {name!r}; it has {known}")
        try:
            return await vm.line(name, numbers).open()
        except OSError as error:
            raise HypervisorError(f"channel {name!r} of pod {self._pod.id!r} cannot be opened: {error}") from error

    def disk_location(self, device_id: str) -> DiskLocation:
        """Return the name of a disk's device file."""
        name = self._facts.disks.get(device_id) if self._facts else None
        if name is None:
            raise HypervisorError(f"the VM of pod {self._pod.id!r} has no disk {device_id!r}")
        return DiskLocation(name=name)

    async def aclose(self) -> None:
        """Release descriptors; the VM runs on."""
        vm = self._vm
        if vm is not None:
            if not vm.process.ended.done():
                self._vm = None  # a stop that comes after all takes it over anew
            await vm.aclose()

    @property
    def _log(self) -> Path:
        return self._pod.run_dir / "console.log"

    def _launch(self) -> None:
        """Start the first process with both ends of everything, of which we take copies as any later owner does."""
        channels: dict[str, list[int]] = {}  # our ends
        lines: dict[str, list[int]] = {}  # the kernel's
        with ExitStack() as stack:
            for device in self._devices:
                if isinstance(device, Channel):
                    pairs = [[stack.enter_context(end) for end in socket.socketpair()] for _ in range(2)]
                    channels[device.name] = [ours.fileno() for ours, _ in pairs]
                    lines[device.name] = [theirs.fileno() for _, theirs in pairs]
            console, output = _pipe(stack)
            waiting, gate = _pipe(stack)
            inherited = [gate, console, *chain(*channels.values(), *lines.values())]
            argv = cmdline.argv(self._pod, self._devices, lines)
            if library := package.library(Path(argv[0])):
                argv = ["/usr/bin/env", f"LD_PRELOAD={library}", *argv]
            pid, pidfd = process.start(argv, self._pod.run_dir, waiting, output, inherited)
            self._vm = _Vm(pidfd, console, self._log)
        identity = ProcessIdentity.of(pid)
        if identity is None:
            raise VMStartError(f"the VM of pod {self._pod.id!r} ended at once")
        self._facts = _Facts(identity, gate, console, channels, cmdline.disk_names(self._devices))

    async def _undo(self) -> None:
        """Leave nothing of a failed prepare; the process is gone before anything else can interrupt us."""
        vm, self._vm, self._facts = self._vm, None, None
        try:
            if vm is not None:
                vm.process.kill()
                await vm.aclose()
        finally:
            with suppress(OSError):
                capture.discard(self._log)

    def _remove_files(self) -> None:
        """Remove what a kernel that was killed could not: its pid file, and the socket of its management console."""
        directory = self._pod.run_dir / cmdline.UMID
        for name in ("pid", "mconsole"):
            (directory / name).unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            directory.rmdir()

    def _check_resources(self) -> None:
        config, resources = self._pod.hypervisor_config, self._pod.resources
        if config.hypervisor_path:
            raise ConfigError("hypervisor uml runs no program but the kernel; give kernel_path, not hypervisor_path")
        if resources.vcpus > 1:
            raise ConfigError(f"vcpus is {resources.vcpus}; a VM of hypervisor uml has one")
        if resources.memory and resources.memory < _MEMORY_MIN:
            raise ConfigError(f"memory is {resources.memory} MiB; give {_MEMORY_MIN} MiB at least")

    def _check_host(self) -> None:
        """Refuse a host on which the pod's kernel does not work, before anything is made. Raises ConfigError."""
        boot, path = self._pod.boot, self._pod.hypervisor_config.kernel_path
        if boot is None and not path:
            package.find_kernel()
        elif (kernel := boot.kernel if boot else Path(path)).is_file():  # prepare refuses one that is missing
            package.library(kernel)

    def _check_memory(self) -> None:
        """Refuse a VM whose memory would not fit: the kernel would die at whatever moment it touches too much."""
        memory = self._pod.resources.memory or cmdline.DEFAULT_MEMORY
        free = shutil.disk_usage(_SHM).free // (1024 * 1024)
        if memory > free:
            raise ConfigError(f"memory is {memory} MiB, but {str(_SHM)!r} has room for {free} MiB; give less")

    def _attached(self) -> _Vm | None:
        """Return the VM, taken over if need be; None if it has ended, or never was."""
        if self._vm is None and self._facts is not None:
            pidfd = self._facts.process.open_pidfd()
            if pidfd is not None:
                self._vm = _Vm(pidfd, self._facts.console, self._log)
        return self._vm

    def _controlled(self, doing: str) -> _Vm:
        vm = self._attached()
        if vm is None or vm.process.ended.done():
            raise HypervisorError(f"the VM of pod {self._pod.id!r} has ended; to {doing} it must live")
        return vm

    def _require_new(self, doing: str) -> None:
        if self._vm is not None or self._facts is not None:
            raise StateError(f"the VM of pod {self._pod.id!r} is there already; it is too late to {doing}")


def _pipe(stack: ExitStack) -> tuple[int, int]:
    reading, writing = os.pipe()
    stack.callback(os.close, reading)
    stack.callback(os.close, writing)
    return reading, writing
