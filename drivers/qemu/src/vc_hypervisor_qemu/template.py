"""Templates: a saved VM of which others are clones. What it consists of, and which VMs can be clones of one.

A template is a directory of two files. ``memory`` is the guest's memory, which the VM of the template had mapped and
all clones map privately, so that they share what none of them has changed. ``state`` is what QEMU's migration saves of
the rest: CPUs and devices.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vc_core.driver import (
    BlockDevice,
    Device,
    NetworkInterface,
    SharedDirectory,
    boot_id,
    frozen,
)
from vc_core.errors import HypervisorError
from vc_hypervisor_qemu import cmdline, network
from vc_hypervisor_qemu.config import SCSI

if TYPE_CHECKING:
    from vc_hypervisor_qemu.monitor import Monitor

#: Bytes that a state may have; that of a guest with all devices has 0.6 MB.
_STATE_MAX = 64 * 1024 * 1024

#: Seconds for the copy of a state to end after QEMU has closed its end of the pipe.
_COPY_GRACE = 1.0

#: What stands for a pod's own values where VMs are compared.
_NIL_UUID, _NO_MAC = "00000000-0000-0000-0000-000000000000", "52:54:00:00:00:00"


@frozen
class Template:
    """The files of a template; makes none. ``new``: the VM is the one that will be saved, not a clone."""

    directory: Path
    new: bool

    @property
    def memory(self) -> Path:
        """The guest's memory."""
        return self.directory / "memory"

    @property
    def state(self) -> Path:
        """What QEMU saved of CPUs and devices."""
        return self.directory / "state"

    def make_memory(self, size: int) -> None:
        """Make the file of the memory, of ``size`` bytes that take no room yet.

        The guest may write all of them, and on a full disk that would kill QEMU. Raises OSError, HypervisorError.
        """
        room = os.statvfs(self.directory)
        if (free := room.f_bavail * room.f_frsize) < size:
            raise HypervisorError(
                f"the file system of {str(self.directory)!r} has {free >> 20} MiB left, but a template with a memory "
                f"of {size >> 20} MiB may need as many; make room, or move the cache"
            )
        with open(self.memory, "xb", opener=_private) as file:
            file.truncate(size)

    def check(self, size: int) -> None:
        """Refuse files that cannot be of a VM with ``size`` bytes of memory. Raises HypervisorError."""
        try:
            found, state = self.memory.lstat().st_size, self.state.lstat().st_size
        except OSError as error:
            raise HypervisorError(f"template {str(self.directory)!r} cannot be used: {error}") from error
        if found != size or not 0 < state <= _STATE_MAX:
            raise HypervisorError(f"template {str(self.directory)!r} is broken: its files have other sizes")


def kind(request: cmdline.Request, preload: Path) -> str:
    """Return what VMs have in common that can be clones of one another; "" for a VM that cannot be one.

    The rest of a clone's devices are a pod's own: sockets, forwarded ports, disks (added to the running VM), MAC
    address. Templates are not used across boots of the host: they hold the rate of its time stamp counter, and what its
    CPUs can do. ``preload``: the library without which a clone cannot start. Raises OSError.
    """
    boot, devices = request.pod.boot, request.devices
    assert boot is not None, "the core resolves what a new VM boots"
    if not boot.image_is_initramfs or not preload.exists():
        return ""
    if request.config.disk_bus != SCSI and any(isinstance(device, BlockDevice) for device in devices):
        return ""
    common = replace(
        request,
        pod=replace(request.pod, id="template", uuid=_NIL_UUID),
        kernel_params=(),
        devices=tuple(_common(number, device) for number, device in enumerate(devices) if _stays(device)),
        sockets=dict.fromkeys(request.sockets, 0),
        taps=[0] * len(network.tap_interfaces(devices)),
        disks=(),
        paths={boot.kernel: Path("/boot/kernel"), boot.image: Path("/boot/image")},
        template=Template(Path("/template"), new=True),
    )
    files = [identity(path) for path in (request.binary, boot.kernel, boot.image, preload)]
    return hashlib.sha256(json.dumps([boot_id(), files, cmdline.argv(common)]).encode()).hexdigest()[:32]


def _stays(device: Device) -> bool:
    return not isinstance(device, BlockDevice)


def _common(number: int, device: Device) -> Device:
    if isinstance(device, SharedDirectory):
        return replace(device, host_path=Path(f"/shares/{number}"))
    if isinstance(device, NetworkInterface):
        return replace(device, config=replace(device.config, forwards=()), mac=_NO_MAC, detached=False)
    return device


def identity(path: Path) -> str:
    """Return what identifies a file's content as long as nobody sets its times. Raises OSError."""
    status = path.stat()
    return f"{path.resolve()}:{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


async def save(template: Template, monitor: Monitor, timeout: float) -> None:
    """Save the state of a VM whose CPUs are stopped. Raises OSError, VMTimeoutError, HypervisorError."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        state = os.open(template.state, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError:
        os.close(reading)
        os.close(writing)
        raise
    copying = asyncio.create_task(asyncio.to_thread(_copy, reading, state))
    await _complete(copying, monitor.migrate("migrate", writing, timeout))


async def load(template: Template, monitor: Monitor, timeout: float) -> None:
    """Give a clone the state of its template. Raises OSError, VMTimeoutError, HypervisorError."""
    state = os.open(template.state, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    reading, writing = os.pipe2(os.O_CLOEXEC)
    copying = asyncio.create_task(asyncio.to_thread(_copy, state, writing))
    await _complete(copying, monitor.migrate("migrate-incoming", reading, timeout))


async def _complete(copying: asyncio.Task[None], migrating: Awaitable[None]) -> None:
    """Wait for both ends of a pipe; if both fail, raise the error of the copy, which is the cause of the other one."""
    try:
        await migrating
    except HypervisorError:
        done, _ = await asyncio.wait({copying}, timeout=_COPY_GRACE)
        for task in done:
            task.result()
        raise
    await copying


def _copy(source: int, target: int) -> None:
    """Copy to the end of ``source``, or until nobody reads from ``target``; close both. Raises OSError."""
    try:
        while chunk := os.read(source, 1 << 20):
            view = memoryview(chunk)
            while view:
                view = view[os.write(target, view) :]
    except BrokenPipeError:  # QEMU has ended, and its monitor reports that
        pass
    finally:
        os.close(source)
        os.close(target)
