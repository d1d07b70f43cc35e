"""Fixtures and helpers that the parts of a hypervisor's contract share."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from vc_core.config.network import NetworkConfig, NetworkMode, PortForward
from vc_core.config.pod import HypervisorConfig, PodConfig
from vc_core.driver.context import Boot, PodContext
from vc_core.driver.devices import BlockDevice, Channel, Device, GuestPort, NetworkInterface, SharedDirectory
from vc_core.driver.hypervisor import Hypervisor, HypervisorCapability
from vc_core.driver.kinds import PluginKind
from vc_core.errors import ConfigError, DriverError, GuestError
from vc_core.plugins.drivers import HypervisorDriver
from vc_core.testing.contract.plugin import PluginContract
from vc_core.testing.contract.running import TIMEOUT, unwritten_methods_fail
from vc_core.testing.probe import probing_guest
from vc_core.testing.slowness import scaled

#: Seconds in which a VM must stop; a driver may use all of them only if the VM does not react.
STOP = scaled(10.0)


#: Seconds from the end of a VM's process to the return of wait().
LATE = scaled(1.0)


MAC = "52:54:00:12:34:56"


Make = Callable[..., Hypervisor]


def sample_devices(directory: Path) -> Mapping[HypervisorCapability, Device]:
    """Return a device of each kind by the capability that it needs; their files are made in ``directory``."""
    disk = directory / "disk"
    disk.write_bytes(bytes(1 << 20))
    shared = directory / "shared"
    shared.mkdir()
    return {
        HypervisorCapability.CHANNELS: Channel("contract", "org.contract.0"),
        HypervisorCapability.SHARED_DIRECTORIES: SharedDirectory("contract", shared),
        HypervisorCapability.BLOCK_DEVICES: BlockDevice("contract", disk),
        HypervisorCapability.NETWORK: NetworkInterface(
            NetworkConfig(mode=NetworkMode.USER, forwards=[PortForward(80)]), MAC
        ),
        HypervisorCapability.GUEST_PORTS: GuestPort("contract-port", 22),
    }


@asynccontextmanager
async def running_vm(make: Make, *devices: Device) -> AsyncIterator[Hypervisor]:
    """Make a VM, attach the devices and start it; stop and close it at the end of the block, on an exception too."""
    vm = make()
    for device in devices:
        vm.add_device(device)
    try:
        await vm.prepare(TIMEOUT)
        await vm.start(TIMEOUT)
        yield vm
    finally:
        await vm.stop(STOP)
        await vm.aclose()


def saved_state(vm: Hypervisor) -> Any:
    """Return what ``vm.save()`` returns, through JSON, as another process reads it."""
    return json.loads(json.dumps(dict(vm.save())))


class HypervisorFixtures(PluginContract):
    """Fixtures of all parts; a subclass of :class:`HypervisorContract` overrides them."""

    kind = PluginKind.HYPERVISOR

    #: Seconds in which the probing guest boots under this hypervisor.
    boot_timeout: ClassVar[float] = scaled(60.0)

    @pytest.fixture
    def capabilities(
        self, driver: HypervisorDriver, options: Mapping[str, object], tmp_path: Path
    ) -> Collection[HypervisorCapability]:
        """What the hypervisor claims to be able to do."""
        pod = PodContext.of(PodConfig(id="contract"), tmp_path / "no-run-dir")
        with unwritten_methods_fail():
            return driver.create(pod, driver.config(options), None).capabilities

    @pytest.fixture
    def probing_boot(self, driver: HypervisorDriver, capabilities: Collection[HypervisorCapability]) -> Boot:
        """The probing guest, built by the guest driver that the hypervisor names; its tests need CHANNELS."""
        if HypervisorCapability.CHANNELS not in capabilities:
            pytest.skip(f"the hypervisor does not claim to have {HypervisorCapability.CHANNELS}")
        try:
            guest = probing_guest(driver.guest())
        except (ConfigError, DriverError, GuestError) as error:
            pytest.skip(f"the probing guest cannot be built: {error}")
        return Boot(guest.kernel, guest.initramfs, True, guest.kernel_params)

    @pytest.fixture
    def boot(
        self, request: pytest.FixtureRequest, capabilities: Collection[HypervisorCapability], tmp_path: Path
    ) -> Boot:
        """The kernel and image that the VMs boot: the probing guest, or for a hypervisor without channels empty files.

        Override it for a hypervisor that boots neither.
        """
        if HypervisorCapability.CHANNELS in capabilities:
            found: Boot = request.getfixturevalue("probing_boot")
            return found
        files = tmp_path / "empty-kernel", tmp_path / "empty-image"
        for file in files:
            file.touch()
        return Boot(*files, image_is_initramfs=True, params=())

    @pytest.fixture
    def hypervisor_config(self, options: Mapping[str, object]) -> HypervisorConfig:
        """The configuration of the VMs; its ``options`` are the driver's."""
        return HypervisorConfig(options=options)

    @pytest.fixture
    def pod(self, tmp_path: Path, boot: Boot, hypervisor_config: HypervisorConfig) -> PodContext:
        """The pod whose VM is made, with its directories."""
        run_dir = tmp_path / "run" / "contract"
        (run_dir / "share").mkdir(parents=True)
        run_dir.chmod(0o700)
        namespace = Path(f"/proc/{os.getpid()}/ns/mnt") if os.geteuid() == 0 else None  # setns(2) needs root
        return PodContext.of(PodConfig(id="contract", hypervisor_config=hypervisor_config), run_dir, boot, namespace)

    @pytest.fixture
    def make(self, driver: HypervisorDriver, pod: PodContext) -> Make:
        """A function that makes the hypervisor object of a new VM of the pod, or of the VM that ``saved`` describes."""

        def make(saved: Mapping[str, object] | None = None, pod: PodContext = pod) -> Hypervisor:
            config = driver.config(pod.hypervisor_config.options)
            return driver.create(pod if saved is None else replace(pod, boot=None), config, saved)

        return make

    @pytest.fixture
    def able(self, capabilities: Collection[HypervisorCapability]) -> Callable[[HypervisorCapability], None]:
        """A function that skips the test if the hypervisor does not claim a capability."""

        def able(capability: HypervisorCapability) -> None:
            if capability not in capabilities:
                pytest.skip(f"the hypervisor does not claim to have {capability}")

        return able
