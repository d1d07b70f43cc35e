"""Adds disks to a running VM, and removes them."""

from __future__ import annotations

from contextlib import suppress

from vc_core.errors import HypervisorError
from vc_hypervisor_qemu.disks import Disk
from vc_hypervisor_qemu.monitor import Monitor, RefusedError


async def plug(monitor: Monitor, disk: Disk) -> None:
    """Add a SCSI disk to a running VM. On failure the VM is as before. Raises HypervisorError."""
    await unplug(monitor, disk)  # an owner that was killed before it saved may have left one there
    try:
        await monitor.execute("blockdev-add", arguments=disk.backend)
        await monitor.execute("device_add", arguments=disk.device)
    except BaseException:
        with suppress(HypervisorError):
            await unplug(monitor, disk)
        raise


async def unplug(monitor: Monitor, disk: Disk) -> None:
    """Remove a SCSI disk from a VM and close its file. No error if the VM has no such disk. Raises HypervisorError."""
    present = await monitor.remove_device(disk.name)
    try:
        await monitor.execute("blockdev-del", arguments={"node-name": disk.name})
    except RefusedError:
        if present:
            raise
