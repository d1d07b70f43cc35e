"""The Hypervisor of one pod: starts a kernel with the pod's devices, or controls one that runs already."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from itertools import chain
from pathlib import Path

from vc_core.driver import (
    Channel,
    Device,
    DiskLocation,
    HypervisorCapability,
    PodContext,
    ProcessHypervisor,
    ProcessIdentity,
    SharedDirectory,
    console_log,
)
from vc_core.errors import ConfigError, HypervisorError, VMStartError
from vc_hypervisor_uml import cmdline, package, process
from vc_hypervisor_uml.vm import Vm, VmRecord

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

#: MiB: with less the kernel does not start its init (measured with Debian's 6.1).
_MEMORY_MIN = 64

#: Lines of the console that an error quotes.
_CONSOLE_LINES = 10


class UmlHypervisor(ProcessHypervisor[Vm]):
    """One pod's VM: a kernel in a pid namespace of its own, which outlives this object."""

    program = "User Mode Linux"

    def __init__(self, pod: PodContext, saved: Mapping[str, object] | None) -> None:
        super().__init__(pod)
        self._devices: list[Device] = []
        self._record: VmRecord | None = None
        if saved is None:
            cmdline.check_caller_params(pod.hypervisor_config)
            self._check_resources()
            self._check_host()
        elif saved:
            try:
                self._record = VmRecord.from_mapping(saved)
            except (KeyError, TypeError, ValueError) as error:
                raise HypervisorError(f"the saved state of the VM of pod {pod.id!r} is damaged: {error!r}") from error

    @property
    def capabilities(self) -> frozenset[HypervisorCapability]:
        """A process with channels, shared directories and disks."""
        return _CAPABILITIES

    @property
    def acceleration(self) -> str:
        """Return "ptrace": programs run on the host's CPU, and ptrace(2) stops them at each system call."""
        return "ptrace"

    def identity(self) -> ProcessIdentity | None:
        """Return the first process of the VM's namespace; None before prepare."""
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
        cmdline.check_device(device, self._devices)
        self._devices.append(device)

    async def prepare(self, timeout: float) -> None:
        """Start the VM's first process, which does not run the kernel before :meth:`start`.

        Raises ConfigError for a kernel, image or amount of memory that cannot be used, VMStartError, StateError.
        """
        self._require_new("prepare it")
        boot = self._pod.boot
        if boot is None or not boot.image_is_initramfs:
            raise ConfigError("hypervisor uml boots an initramfs; give another image_path, or omit it")
        if not boot.kernel.is_file() or not os.access(boot.kernel, os.X_OK):
            raise ConfigError(
                f"kernel {str(boot.kernel)!r} is not a program, and User Mode Linux is one; give another kernel"
            )
        if not boot.image.is_file() or not os.access(boot.image, os.R_OK):
            raise ConfigError(f"image {str(boot.image)!r} is not a file that can be read; give another")
        self._check_memory()
        async with self._undoing():
            self._remove_files()
            self._discard_logs()
            self._launch()

    async def start(self, timeout: float) -> None:
        """Let the kernel run. Raises HypervisorError, VMStartError."""
        vm = self._controlled("start it")
        assert self._record is not None
        try:
            vm.open_gate(self._record.gate)
        except OSError as error:
            raise VMStartError(f"the VM of pod {self._pod.id!r} cannot be started: {error}") from error

    async def open_channel(self, name: str) -> socket.socket:
        """Return a connection to a channel; the former one ends. Raises HypervisorError."""
        vm = self._controlled(f"open channel {name!r}")
        assert self._record is not None
        numbers = self._record.channels.get(name)
        if numbers is None:
            names = ", ".join(map(repr, self._record.channels)) or "none"
            raise HypervisorError(f"the VM of pod {self._pod.id!r} has no channel {name!r}; it has {names}")
        try:
            return await vm.open_channel(name, numbers)
        except OSError as error:
            raise HypervisorError(f"channel {name!r} of pod {self._pod.id!r} cannot be opened: {error}") from error

    def disk_location(self, device_id: str) -> DiskLocation:
        """Return the name of a disk's device file. Raises HypervisorError for a disk that the VM does not have."""
        name = self._record.disks.get(device_id) if self._record else None
        if name is None:
            raise HypervisorError(f"the VM of pod {self._pod.id!r} has no disk {device_id!r}")
        return DiskLocation(name=name)

    @property
    def _log(self) -> Path:
        return self._pod.run_dir / "console.log"

    def _take_over(self, pidfd: int) -> Vm:
        assert self._record is not None
        return Vm(pidfd, self._record.console, self._log)

    def _launch(self) -> None:
        """Start the first process with both ends of everything; this process then takes copies, as later owners do."""
        channels: dict[str, list[int]] = {}  # the host's ends
        lines: dict[str, list[int]] = {}  # the kernel's ends
        with ExitStack() as stack:
            for device in self._devices:
                if isinstance(device, Channel):
                    data, receipts = ([stack.enter_context(end) for end in socket.socketpair()] for _ in range(2))
                    channels[device.name] = [data[0].fileno(), receipts[0].fileno()]
                    lines[device.name] = [data[1].fileno(), receipts[1].fileno()]
            console, output = _pipe(stack)
            waiting, gate = _pipe(stack)
            inherited = [gate, console, *chain(*channels.values(), *lines.values())]
            argv = cmdline.argv(self._pod, self._devices, lines)
            if library := package.library(Path(argv[0])):
                argv = ["/usr/bin/env", f"LD_PRELOAD={library}", *argv]
            read_only = [one.host_path for one in self._devices if isinstance(one, SharedDirectory) and one.read_only]
            argv = process.without_writing(argv, read_only)
            pid, pidfd = process.start(argv, self._pod.run_dir, waiting, output, inherited)
            self._vm = Vm(pidfd, console, self._log)
        identity = ProcessIdentity.of(pid)
        if identity is None:
            raise VMStartError(f"the VM of pod {self._pod.id!r} ended at once")
        self._record = VmRecord(identity, gate, console, channels, cmdline.disk_names(self._devices))

    def _remove_files(self) -> None:
        """Remove what a kernel that was killed could not: its pid file, and the socket of its management console."""
        directory = self._pod.run_dir / cmdline.UMID
        for name in ("pid", "mconsole"):
            (directory / name).unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            directory.rmdir()

    def _discard_logs(self) -> None:
        console_log.discard(self._log)

    def _check_resources(self) -> None:
        """Refuse a program, CPUs and memory that no VM of this driver can have. Raises ConfigError."""
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
        """Refuse a VM whose memory would not fit: the kernel would die when it first uses too much of it."""
        memory = self._pod.resources.memory or cmdline.DEFAULT_MEMORY
        free = shutil.disk_usage(_SHM).free // (1024 * 1024)
        if memory > free:
            raise ConfigError(f"memory is {memory} MiB, but {str(_SHM)!r} has room for {free} MiB; give less")


def _pipe(stack: ExitStack) -> tuple[int, int]:
    reading, writing = os.pipe()
    stack.callback(os.close, reading)
    stack.callback(os.close, writing)
    return reading, writing
