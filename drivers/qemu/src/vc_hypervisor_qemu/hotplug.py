"""Disks that come and go while a VM runs."""

from __future__ import annotations

from contextlib import suppress

from vc_core.errors import HypervisorError
from vc_hypervisor_qemu.disks import Disk
from vc_hypervisor_qemu.monitor import Monitor, RefusedError


async def plug(monitor: Monitor, disk: Disk) -> None:
    """Give a SCSI disk to a VM. On failure nothing of it is left. Raises HypervisorError."""
    await unplug(monitor, disk)  # what an owner left there that was killed before it could save
    try:
        await monitor.execute("blockdev-add", arguments=disk.backend)
        await monitor.execute("device_add", arguments=disk.device)
    except BaseException:
        with suppress(HypervisorError):
            await unplug(monitor, disk)
        raise


async def unplug(monitor: Monitor, disk: Disk) -> None:
    """Take a SCSI disk from a VM; its file is free then. One that is not there is no error. Raises HypervisorError."""
    there = await monitor.remove_device(disk.name)
    try:
        await monitor.execute("blockdev-del", arguments={"node-name": disk.name})
    except RefusedError:
        if there:
            raise
