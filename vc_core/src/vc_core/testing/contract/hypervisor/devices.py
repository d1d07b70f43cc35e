"""Devices, each kind tested if the hypervisor claims its capability."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from vc_core.driver.devices import BlockDevice
from vc_core.driver.hypervisor import HypervisorCapability
from vc_core.errors import ConfigError, HypervisorError, NotSupportedError
from vc_core.testing.contract.hypervisor.base import HypervisorFixtures, Make, running_vm, sample_devices, saved_state
from vc_core.testing.contract.running import TIMEOUT, run, unwritten_methods_fail

#: The capabilities that each allow one kind of device.
_FOR_DEVICES = (
    HypervisorCapability.CHANNELS,
    HypervisorCapability.SHARED_DIRECTORIES,
    HypervisorCapability.BLOCK_DEVICES,
    HypervisorCapability.NETWORK,
    HypervisorCapability.GUEST_PORTS,
)


class Devices(HypervisorFixtures):
    """Devices, each kind tested if the hypervisor claims its capability."""

    @pytest.mark.parametrize("capability", _FOR_DEVICES)
    def test_a_device_is_accepted_if_its_capability_is_claimed_and_else_refused(
        self, make: Make, tmp_path: Path, capability: HypervisorCapability
    ) -> None:
        device = sample_devices(tmp_path)[capability]
        vm = make()
        with unwritten_methods_fail():
            if capability in vm.capabilities:
                vm.add_device(device)
            else:
                with pytest.raises((ConfigError, NotSupportedError)):
                    vm.add_device(device)

    def test_a_channel_is_a_connected_socket_that_does_not_block(
        self, make: Make, able: Callable[[HypervisorCapability], None], tmp_path: Path
    ) -> None:
        able(HypervisorCapability.CHANNELS)

        async def main() -> None:
            async with running_vm(make, sample_devices(tmp_path)[HypervisorCapability.CHANNELS]) as vm:
                for _ in range(2):
                    with await vm.open_channel("org.contract.0") as channel:
                        assert channel.gettimeout() == 0
                        assert channel.getpeername() is not None
                with pytest.raises(HypervisorError, match="no-such-channel"):
                    await vm.open_channel("no-such-channel")

        run(main())

    def test_a_disk_has_a_location_in_the_guest(
        self, make: Make, able: Callable[[HypervisorCapability], None], tmp_path: Path
    ) -> None:
        able(HypervisorCapability.BLOCK_DEVICES)

        async def main() -> None:
            async with running_vm(make, sample_devices(tmp_path)[HypervisorCapability.BLOCK_DEVICES]) as vm:
                place = vm.disk_location("contract")
                assert bool(place.name) != bool(place.scsi), "give either a name or a SCSI address"
                assert make(saved_state(vm)).disk_location("contract") == place

        run(main())

    def test_a_disk_comes_to_and_goes_from_a_vm_that_runs(
        self, make: Make, able: Callable[[HypervisorCapability], None], tmp_path: Path
    ) -> None:
        able(HypervisorCapability.HOTPLUG)
        disk = sample_devices(tmp_path)[HypervisorCapability.BLOCK_DEVICES]
        assert isinstance(disk, BlockDevice)
        content = disk.host_path.read_bytes()

        async def main() -> None:
            async with running_vm(make, replace(disk, id="other")) as vm:
                for _ in range(2):
                    await vm.attach(disk, TIMEOUT)
                assert vm.disk_location("contract") != vm.disk_location("other")
                for _ in range(2):
                    await vm.detach("contract", TIMEOUT)
                await vm.detach("no-such-disk", TIMEOUT)
                await vm.attach(disk, TIMEOUT)
                assert make(saved_state(vm)).disk_location("contract") == vm.disk_location("contract")

        run(main())
        assert disk.host_path.read_bytes() == content

    def test_a_port_of_the_guest_is_a_channel_or_raises_a_hypervisor_error(
        self, make: Make, able: Callable[[HypervisorCapability], None], tmp_path: Path
    ) -> None:
        able(HypervisorCapability.GUEST_PORTS)

        async def main() -> None:
            async with running_vm(make, sample_devices(tmp_path)[HypervisorCapability.GUEST_PORTS]) as vm:
                with suppress(HypervisorError):  # nothing listens in a guest that has not booted
                    (await vm.open_channel("contract-port")).close()

        run(main())
