"""Real hypervisors with faults, each of which breaks one promise, and the contract of each: for tests of the kit.

Faults that do not disturb each other share one hypervisor, so that few VMs boot. ``test_hypervisor_faults.py`` runs
this module with pytest in a process of its own, and has the sentence that the contract must find for each fault.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import pytest

from vc_core.driver import (
    BlockDevice,
    Channel,
    Device,
    DiskLocation,
    NetworkInterface,
    NetworkMode,
    PodContext,
    ProcessIdentity,
    SharedDirectory,
    VMExit,
    hookimpl,
    vm_process,
)
from vc_core.testing import HypervisorContract
from vc_hypervisor_qemu import cmdline, disks, network
from vc_hypervisor_qemu.config import LANDLOCK, QemuConfig
from vc_hypervisor_qemu.disks import Disk
from vc_hypervisor_qemu.hypervisor import QemuHypervisor
from vc_hypervisor_qemu.jail import launcher
from vc_hypervisor_qemu.plugin import QemuPlugin
from vc_hypervisor_qemu.rundir import RunDir

#: In place of the launcher (``drivers/qemu/launcher``): becomes QEMU, and reports only that, by the end of its reports.
WITHOUT_JAIL = """\
#!/bin/bash
while [ "$1" != -- ]; do
    [ "$1" != --report ] || exec {report}>&"$2"-
    shift
done
shift
exec {report}>&-
exec "$@"
"""


class Faulty(QemuHypervisor):
    """Changes the pod, and each device, before the driver sees it; the faults say how."""

    def __init__(self, pod: PodContext, config: QemuConfig, saved: Mapping[str, object] | None) -> None:
        super().__init__(self.pod(pod), config, saved)

    def pod(self, pod: PodContext) -> PodContext:
        return pod

    def device(self, device: Device) -> Device:
        return device

    def add_device(self, device: Device) -> None:
        super().add_device(self.device(device))


class StartsNothing(Faulty):
    async def start(self, timeout: float) -> None:
        pass


class IgnoresResources(Faulty):
    def pod(self, pod: PodContext) -> PodContext:
        return replace(super().pod(pod), resources=replace(pod.resources, memory=0, vcpus=0))


class IgnoresParams(Faulty):
    def pod(self, pod: PodContext) -> PodContext:
        pod = super().pod(pod)
        return replace(pod, boot=pod.boot and replace(pod.boot, params=()))


class MistakesDisks(Faulty):
    def disk_location(self, device_id: str) -> DiskLocation:
        return super().disk_location("disk" if device_id == "writable-disk" else device_id)


class HasOneChannel(Faulty):
    async def open_channel(self, name: str) -> Any:
        assert self._record is not None
        return await super().open_channel(name if name in self._record.ports else min(self._record.channels))


class PlacesNoSocket(Faulty):
    def device(self, device: Device) -> Device:
        device = super().device(device)
        return replace(device, host_path=None) if isinstance(device, Channel) else device


class SharesForWriting(Faulty):
    def device(self, device: Device) -> Device:
        device = super().device(device)
        return replace(device, read_only=False) if isinstance(device, SharedDirectory) else device


class PassesModesOn(Faulty):
    """Runs QEMU without a jail, which would refuse the modes all the same."""

    def __init__(self, pod: PodContext, config: QemuConfig, saved: Mapping[str, object] | None) -> None:
        super().__init__(pod, replace(config, jail=LANDLOCK), saved)

    def device(self, device: Device) -> Device:
        device = super().device(device)
        # With owners the driver would refuse a VM without a jail; all shares have them here.
        return replace(device, owners=False) if isinstance(device, SharedDirectory) else device

    async def _launch(self, *arguments: Any) -> Any:
        def share(device: SharedDirectory, request: cmdline.Request) -> dict[str, str]:
            return {"path": str(request.path(device.host_path)), "security_model": "none", "multidevs": "remap"}

        program = Path(__file__).with_name("without-jail")
        program.write_text(WITHOUT_JAIL, encoding="utf-8")
        program.chmod(0o755)
        with patch.object(cmdline, "_share", share), patch.object(launcher, "LAUNCHER", program):
            return await super()._launch(*arguments)


class GuessesFormats(Faulty):
    async def _launch(self, *arguments: Any) -> Any:
        def backend(disk: Disk) -> dict[str, object]:
            right = disks.backend(disk.name, disk.driver, disk.file, disk.read_only)
            is_image = Path(disk.path).read_bytes().startswith(b"QFI\xfb")
            return {**right, "driver": "qcow2"} if is_image else right

        with patch.object(Disk, "backend", property(backend)):
            return await super()._launch(*arguments)


class WritesToAnyDisk(Faulty):
    def device(self, device: Device) -> Device:
        device = super().device(device)
        return replace(device, read_only=False) if isinstance(device, BlockDevice) else device


class PausesNothing(Faulty):
    async def pause(self) -> None:
        pass


class DetachesNothing(Faulty):
    async def detach(self, device_id: str, timeout: float) -> None:
        if self._record is not None:
            self._record.disks.pop(device_id, None)


class RestrictsNothing(Faulty):
    def device(self, device: Device) -> Device:
        device = super().device(device)
        if isinstance(device, NetworkInterface):
            return replace(device, config=replace(device.config, restrict=False))
        return device


class ForwardsEverywhere(Faulty):
    async def prepare(self, timeout: float) -> None:
        pattern = network._FORWARD.replace(re.escape(network.LOOPBACK), r"\*")  # as QEMU prints it
        with patch.object(network, "LOOPBACK", "0.0.0.0"), patch.object(network, "_FORWARD", pattern):
            await super().prepare(timeout)


class IgnoresTheMac(Faulty):
    def device(self, device: Device) -> Device:
        device = super().device(device)
        return replace(device, mac="52:54:00:00:00:01") if isinstance(device, NetworkInterface) else device


class IgnoresTheTapDevice(Faulty):
    def device(self, device: Device) -> Device:
        device = super().device(device)
        if isinstance(device, NetworkInterface) and device.config.device:
            return replace(device, config=replace(device.config, mode=NetworkMode.USER, device=""))
        return device


class DropsFurtherInterfaces(Faulty):
    def add_device(self, device: Device) -> None:
        if not (isinstance(device, NetworkInterface) and network.tap_interfaces(self._devices)):
            super().add_device(device)


class NoticesTheEndLate(Faulty):
    async def wait(self) -> VMExit:
        exit_ = await super().wait()
        await asyncio.sleep(9)  # an eighth counts on a busy host
        return exit_


class TrustsAPid(Faulty):
    def identity(self) -> ProcessIdentity | None:
        its = super().identity()
        return its and ProcessIdentity.of(its.pid)


class TrustsAStartTime(Faulty):
    def identity(self) -> ProcessIdentity | None:
        its = super().identity()
        now = its and ProcessIdentity.of(its.pid)
        return now if now and its and now.start_time == its.start_time else its


class LeavesTheNamespace(Faulty):
    async def _launch(self, *arguments: Any) -> Any:
        spawn = vm_process.spawn

        def elsewhere(argv: Sequence[str], directory: Path, *others: Any) -> tuple[int, int]:
            enter = ("nsenter", f"--mount=/proc/{os.getppid()}/ns/mnt", f"--wdns={directory}")
            return spawn([*enter, *argv], directory, *others)

        with patch.object(vm_process, "spawn", elsewhere):
            return await super()._launch(*arguments)


class CannotBeFound(Faulty):
    def pod(self, pod: PodContext) -> PodContext:
        return replace(super().pod(pod), uuid="00000000-0000-4000-8000-000000000000")


class LogsAllConsolesTogether(Faulty):
    def __init__(self, pod: PodContext, config: QemuConfig, saved: Mapping[str, object] | None) -> None:
        super().__init__(pod, config, saved)

        class Files(RunDir):
            console_log = Path(__file__).with_name("all-consoles.log")

        self._files = Files(pod.run_dir)


class ClaimsHardware(Faulty):
    isolation, acceleration = "hardware", "kvm"


class _Contract(HypervisorContract):
    faults: ClassVar[Collection[type[Faulty]]]

    @pytest.fixture
    def options(self) -> Mapping[str, object]:
        return {"accel": "tcg"}

    @pytest.fixture
    def driver(self) -> Any:
        hypervisor = type("Hypervisor", tuple(self.faults), {})

        class Plugin(QemuPlugin):
            @hookimpl
            def vc_hypervisor_create(
                self, pod: PodContext, config: object, saved: Mapping[str, object] | None
            ) -> QemuHypervisor:
                made: QemuHypervisor = hypervisor(pod, config, saved)
                return made

        return self.injected(Plugin())


class TestManyFaults(_Contract):
    faults = (
        *(IgnoresResources, IgnoresParams, MistakesDisks, HasOneChannel, PlacesNoSocket, SharesForWriting),
        *(PassesModesOn, GuessesFormats, WritesToAnyDisk, PausesNothing, DetachesNothing, RestrictsNothing),
        *(ForwardsEverywhere, IgnoresTheMac, NoticesTheEndLate, LeavesTheNamespace, LogsAllConsolesTogether),
        ClaimsHardware,
    )


class TestStartsNothing(_Contract):
    faults = (StartsNothing,)
    boot_timeout = 3.0


class TestTapAndStartTime(_Contract):
    faults = (IgnoresTheTapDevice, TrustsAStartTime)


class TestFurtherInterfaces(_Contract):
    faults = (DropsFurtherInterfaces,)


class TestPidAndUuid(_Contract):
    faults = (TrustsAPid, CannotBeFound)
