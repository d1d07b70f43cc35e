"""The life of a VM, from before it is prepared to its end."""

from __future__ import annotations

import asyncio
import json
import signal
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from vc_core.driver.context import PodContext
from vc_core.driver.devices import BlockDevice, SharedDirectory
from vc_core.driver.hypervisor import Hypervisor, HypervisorCapability, VMExit
from vc_core.errors import NotSupportedError, VCError
from vc_core.host.processes import find_vms
from vc_core.testing.contract.hypervisor.base import LATE, STOP, HypervisorFixtures, Make, running_vm, saved_state
from vc_core.testing.contract.running import TIMEOUT, promise, run
from vc_core.testing.slowness import Stopwatch, scaled

#: An operation that needs each capability, called on a hypervisor whose VM was not prepared.
_OPERATIONS: Mapping[HypervisorCapability, Callable[[Hypervisor], Awaitable[object]]] = {
    HypervisorCapability.PAUSE: lambda vm: vm.pause(),
    HypervisorCapability.CHANNELS: lambda vm: vm.open_channel("org.contract.0"),
    HypervisorCapability.BLOCK_DEVICES: lambda vm: asyncio.to_thread(vm.disk_location, "contract"),
    HypervisorCapability.HOTPLUG: lambda vm: vm.attach(BlockDevice("contract", Path("/dev/null")), 1),
    HypervisorCapability.NETWORK: lambda vm: vm.forwards(),
    HypervisorCapability.DISCARD: lambda vm: vm.discard(1),
    HypervisorCapability.TEMPLATES: lambda vm: vm.kind(1),
    HypervisorCapability.CONSOLE: lambda vm: vm.write_console(b"x", 1),
}


async def _discard(make: Make, pod: PodContext) -> None:
    """Discard a VM with a new object, as the core does after an interrupted start."""
    finder = make(pod=pod)
    await finder.discard(TIMEOUT)
    await finder.aclose()


class Lifecycle(HypervisorFixtures):
    """The life of a VM, from before it is prepared to its end."""

    def test_a_vm_that_was_never_prepared_can_be_stopped(self, make: Make) -> None:
        async def main() -> None:
            vm = make()
            await vm.stop(STOP)
            await vm.stop(STOP)
            await vm.aclose()

        run(main())

    @pytest.mark.parametrize("capability", _OPERATIONS)
    def test_an_operation_without_its_capability_is_not_supported(
        self, make: Make, capability: HypervisorCapability
    ) -> None:
        async def main() -> None:
            vm = make()
            if capability in vm.capabilities:
                pytest.skip(f"the hypervisor claims to have {capability}")
            with pytest.raises(NotSupportedError):
                await _OPERATIONS[capability](vm)

        run(main())

    def test_no_isolation_is_claimed_under_emulation(self, make: Make) -> None:
        async def main() -> None:
            async with running_vm(make) as vm:
                assert vm.isolation in ("hardware", "none")
                if vm.acceleration in ("tcg", "none"):
                    assert vm.isolation == "none"

        run(main())

    def test_the_process_of_a_vm_is_found_by_the_run_directory_and_the_uuid_of_the_pod(
        self, make: Make, pod: PodContext, able: Callable[[HypervisorCapability], None]
    ) -> None:
        able(HypervisorCapability.PROCESS)
        if HypervisorCapability.DISCARD in make().capabilities:
            pytest.skip("the hypervisor claims to have discard")  # it finds its VMs itself

        async def main() -> None:
            async with running_vm(make) as vm:
                async with asyncio.timeout(scaled(2)):
                    # A program that changes its directory or runs another one first may be seen before that.
                    while vm.identity() not in find_vms(pod.run_dir, pod.uuid):  # noqa: ASYNC110 - there is no event
                        await asyncio.sleep(0)
                assert find_vms(pod.run_dir.parent, pod.uuid) == []

        run(main())

    def test_a_vm_that_an_earlier_process_made_and_did_not_record_is_discarded(
        self, make: Make, pod: PodContext, able: Callable[[HypervisorCapability], None]
    ) -> None:
        able(HypervisorCapability.DISCARD)

        async def main() -> None:
            vm = make()
            try:
                await vm.prepare(TIMEOUT)
                await _discard(make, replace(pod, boot=None))
                identity = vm.identity()
                assert identity is None or not identity.alive()
                assert not (await asyncio.wait_for(vm.wait(), STOP)).expected
                await _discard(make, replace(pod, boot=None))  # where there is nothing
            finally:
                await vm.stop(STOP)
                await vm.aclose()
            again = make()  # the next start of the pod
            try:
                await again.prepare(TIMEOUT)
                await _discard(make, replace(pod, uuid=str(uuid.uuid4()), boot=None))
                identity = again.identity()
                assert identity is None or identity.alive(), "discard ended the VM of another pod"
            finally:
                await again.stop(STOP)
                await again.aclose()

        run(main())

    def test_a_vm_runs_until_it_is_stopped_and_then_every_wait_returns(self, make: Make) -> None:
        async def main() -> None:
            async with running_vm(make) as vm:
                waiting = [asyncio.create_task(vm.wait()) for _ in range(2)]
                done, _ = await asyncio.wait(waiting, timeout=0.1)
                assert not done, "wait() returned while the VM ran"
                await vm.stop(STOP)
                for exit_ in [*await asyncio.gather(*waiting), await vm.wait()]:
                    assert isinstance(exit_, VMExit)
                    assert exit_.expected
                    assert exit_.reason
                await vm.stop(STOP)

        run(main())

    def test_the_process_of_a_vm_exists_from_prepare_on_and_is_gone_after_stop(self, make: Make) -> None:
        async def main() -> None:
            vm = make()
            try:
                await vm.prepare(TIMEOUT)
                identity = vm.identity()
                assert (identity is not None) == (HypervisorCapability.PROCESS in vm.capabilities)
                assert identity is None or identity.alive()
                assert saved_state(vm) == json.loads(json.dumps(saved_state(vm)))
                await vm.start(TIMEOUT)
                assert vm.identity() == identity
            finally:
                await vm.stop(STOP)
                await vm.aclose()
            assert identity is None or not identity.alive()

        run(main())

    def test_steps_out_of_order_raise_a_vc_error_and_do_no_harm(self, make: Make, tmp_path: Path) -> None:
        async def main() -> None:
            vm = make()
            with pytest.raises(VCError):
                await vm.start(STOP)
            async with running_vm(make) as vm:
                with pytest.raises(VCError):
                    await vm.prepare(STOP)
                with pytest.raises(VCError):
                    vm.add_device(SharedDirectory("late", tmp_path))
                identity = vm.identity()
                assert identity is None or identity.alive()
            for step in (vm.start(STOP), vm.prepare(STOP)):
                with pytest.raises(VCError):
                    await step

        run(main())

    def test_the_death_of_the_process_of_a_vm_is_noticed_at_once(
        self, make: Make, able: Callable[[HypervisorCapability], None]
    ) -> None:
        able(HypervisorCapability.PROCESS)

        async def main() -> None:
            async with running_vm(make) as vm:
                waiting = asyncio.create_task(vm.wait())
                await asyncio.sleep(0)
                identity = vm.identity()
                assert identity is not None
                identity.send(signal.SIGKILL)
                assert await asyncio.to_thread(identity.wait, STOP)
                watch = Stopwatch()
                await asyncio.wait({waiting}, timeout=STOP)
                late = watch.seconds()
                promise(
                    waiting.done() and late < LATE,
                    f"wait() is late: it returned {late:.1f} s after the VM's process ended, or not at all",
                )
                exit_ = await waiting
                assert not exit_.expected
                assert exit_.reason

        run(main())

    def test_a_vm_can_be_paused_and_resumed_also_by_its_next_owner(
        self, make: Make, able: Callable[[HypervisorCapability], None]
    ) -> None:
        able(HypervisorCapability.PAUSE)

        async def main() -> None:
            async with running_vm(make) as vm:
                await vm.pause()
                await vm.resume()
                await vm.pause()
                saved = saved_state(vm)
                await vm.aclose()
                heir = make(saved)
                try:
                    await heir.resume()
                    identity = heir.identity()
                    assert identity is None or identity.alive()
                finally:
                    await heir.stop(STOP)
                    await heir.aclose()

        run(main())
