"""A VM outlives the process that controls it; another process takes it over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from vc_core.driver.hypervisor import HypervisorCapability
from vc_core.driver.process import ProcessIdentity
from vc_core.testing.contract.hypervisor.base import (
    STOP,
    HypervisorFixtures,
    Make,
    running_vm,
    sample_devices,
    saved_state,
)
from vc_core.testing.contract.running import TIMEOUT, run, run_elsewhere


class TakeOver(HypervisorFixtures):
    """A VM outlives the process that controls it; another process takes it over."""

    @pytest.mark.parametrize("step", ["prepared", "started"])
    def test_the_vm_of_an_owner_that_was_killed_is_controlled_through_what_it_saved(
        self, make: Make, tmp_path: Path, step: str
    ) -> None:
        channel = sample_devices(tmp_path)[HypervisorCapability.CHANNELS]

        async def own() -> Mapping[str, object]:
            vm = make()
            if HypervisorCapability.CHANNELS in vm.capabilities:
                vm.add_device(channel)
            await vm.prepare(TIMEOUT)
            if step == "started":
                await vm.start(TIMEOUT)
            identity = vm.identity()
            return {"saved": dict(vm.save()), "identity": identity and identity.to_mapping()}

        owned = run_elsewhere(own)

        async def take_over() -> None:
            vm = make(owned["saved"])
            try:
                identity = vm.identity()
                assert (identity and identity.to_mapping()) == owned["identity"]
                assert identity is None or identity.alive(), "the VM ended with its owner"
                if HypervisorCapability.CHANNELS in vm.capabilities:
                    (await vm.open_channel("org.contract.0")).close()
                if HypervisorCapability.PAUSE in vm.capabilities and step == "started":
                    await vm.pause()
                    await vm.resume()
                assert saved_state(vm) is not None
                waiting = asyncio.create_task(vm.wait())
                await vm.stop(STOP)
                assert (await waiting).expected
                assert identity is None or not identity.alive()
            finally:
                await vm.stop(STOP)
                await vm.aclose()

        try:
            run(take_over())
        finally:
            if owned["identity"] is not None:
                ProcessIdentity.from_mapping(owned["identity"]).kill(STOP)

    def test_a_vm_keeps_running_when_its_owner_closes(
        self, make: Make, able: Callable[[HypervisorCapability], None]
    ) -> None:
        able(HypervisorCapability.PROCESS)

        async def main() -> None:
            async with running_vm(make) as vm:
                identity = vm.identity()
                await vm.aclose()
                assert identity is not None
                assert identity.alive()
                heir = make(saved_state(vm))
                try:
                    assert heir.identity() == identity
                finally:
                    await heir.stop(STOP)
                    await heir.aclose()
                assert not identity.alive()

        run(main())
