"""Adds disks to a running VM, and removes them."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from vc_core.driver import BlockDevice
from vc_core.errors import HypervisorError
from vc_hypervisor_qemu import disks
from vc_hypervisor_qemu.commands import RefusedError
from vc_hypervisor_qemu.disks import Disk

if TYPE_CHECKING:
    from vc_hypervisor_qemu.monitor import Monitor


async def plug(monitor: Monitor, disk: Disk, device: BlockDevice) -> Disk:
    """Add a SCSI disk to a running VM, and return it as QEMU has it. On failure the VM is as before.

    Raises ConfigError, HypervisorError.
    """
    await unplug(monitor, disk)  # an owner that was killed before it saved may have left one there
    descriptor = disks.open_file(disk, device)
    try:
        disk = replace(disk, descriptors=await monitor.add_descriptor(disk.name, descriptor))
        await monitor.execute("blockdev-add", arguments=disk.backend)
        await monitor.execute("device_add", arguments=disk.device)
    except BaseException as error:
        with suppress(HypervisorError):
            await unplug(monitor, disk)
        if isinstance(error, RefusedError):
            raise RefusedError(str(error).replace(disk.file, disk.path)) from error
        raise
    finally:
        os.close(descriptor)
    return disk


async def unplug(monitor: Monitor, disk: Disk) -> None:
    """Remove a SCSI disk from a VM and close its file, in a VM that is paused once that runs again.

    No error if the VM has no such disk. Raises HypervisorError.
    """
    present = await monitor.remove_device(disk.name)
    try:
        await monitor.execute("blockdev-del", arguments={"node-name": disk.name})
    except RefusedError:
        if present:
            raise
    await monitor.remove_descriptors(disk.name)
