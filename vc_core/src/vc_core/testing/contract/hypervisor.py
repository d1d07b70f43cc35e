"""What a hypervisor promises."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import vc_core
from vc_core.config.network import NetworkConfig, NetworkMode, PortForward
from vc_core.config.pod import HypervisorConfig, PodConfig
from vc_core.driver.context import Boot, PodContext, context
from vc_core.driver.devices import BlockDevice, Channel, Device, GuestPort, NetworkInterface, SharedDirectory
from vc_core.driver.hypervisor import Hypervisor, HypervisorCapability, VMExit
from vc_core.driver.kinds import PluginKind
from vc_core.driver.process import ProcessIdentity
from vc_core.errors import ConfigError, HypervisorError, NotSupportedError, VCError
from vc_core.host.processes import find_supervisors, find_vms
from vc_core.plugins.drivers import HypervisorDriver
from vc_core.store.roots import ROOT_VARIABLE, Roots
from vc_core.supervisor.wire import LOG_NAME
from vc_core.testing.contract.plugin import PluginContract
from vc_core.testing.contract.running import TIMEOUT, run, run_elsewhere, unwritten_methods_fail
from vc_core.testing.slowness import scaled

#: Seconds that a VM gets to end; a driver may use all of them only for one that resists.
STOP = scaled(10.0)

MAC = "52:54:00:12:34:56"

Make = Callable[..., Hypervisor]

#: The capabilities of which each allows one kind of device.
_FOR_DEVICES = (
    HypervisorCapability.CHANNELS,
    HypervisorCapability.SHARED_DIRECTORIES,
    HypervisorCapability.BLOCK_DEVICES,
    HypervisorCapability.NETWORK,
    HypervisorCapability.GUEST_PORTS,
)


def _devices(directory: Path) -> Mapping[HypervisorCapability, Device]:
    """Return a device of each kind by the capability that it needs; ``directory`` holds what they show."""
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


#: What each capability allows, for a hypervisor that was only just made.
_OPERATIONS: Mapping[HypervisorCapability, Callable[[Hypervisor], Awaitable[object]]] = {
    HypervisorCapability.PAUSE: lambda vm: vm.pause(),
    HypervisorCapability.CHANNELS: lambda vm: vm.open_channel("org.contract.0"),
    HypervisorCapability.BLOCK_DEVICES: lambda vm: asyncio.to_thread(vm.disk_location, "contract"),
    HypervisorCapability.HOTPLUG: lambda vm: vm.attach(BlockDevice("contract", Path("/dev/null")), 1),
    HypervisorCapability.NETWORK: lambda vm: vm.forwards(),
}


@asynccontextmanager
async def _running(make: Make, *devices: Device) -> AsyncIterator[Hypervisor]:
    """Give a VM that was started; end it whatever happens."""
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


def _saved(vm: Hypervisor) -> Any:
    """Return what a VM's owner saves, as another process reads it."""
    return json.loads(json.dumps(dict(vm.save())))


class HypervisorContract(PluginContract):
    """Subclass this for a hypervisor, and set ``driver_name``.

    Override :meth:`boot` if it boots anything; a kernel that halts at once is enough. Most tests make a VM of their
    own. A hypervisor with the capability PROCESS is also tried through the whole product, with the pod of
    :meth:`pod_config`; that needs root, a distribution that offers the driver, and the agent ``noop``.
    """

    kind = PluginKind.HYPERVISOR

    @pytest.fixture
    def boot(self) -> Boot | None:
        """What the VMs boot."""
        return None

    @pytest.fixture
    def hypervisor_config(self, options: Mapping[str, object]) -> HypervisorConfig:
        """The configuration of the VMs; its ``options`` are the driver's."""
        return HypervisorConfig(options=options)

    @pytest.fixture
    def pod(self, tmp_path: Path, boot: Boot | None, hypervisor_config: HypervisorConfig) -> PodContext:
        """The pod whose VM is made, with its directories."""
        run_dir = tmp_path / "run" / "contract"
        (run_dir / "share").mkdir(parents=True)
        run_dir.chmod(0o700)
        return context(PodConfig(id="contract", hypervisor_config=hypervisor_config), run_dir, boot)

    @pytest.fixture
    def make(self, driver: HypervisorDriver, pod: PodContext) -> Make:
        """A function that makes the object for the pod's VM: a new one, or with ``saved`` of one that is there."""

        def make(saved: Mapping[str, object] | None = None, pod: PodContext = pod) -> Hypervisor:
            config = driver.config(pod.hypervisor_config.options)
            return driver.create(pod if saved is None else replace(pod, boot=None), config, saved)

        return make

    @pytest.fixture
    def able(self, make: Make) -> Callable[[HypervisorCapability], None]:
        """A function that skips the test of a hypervisor without a capability."""

        def able(capability: HypervisorCapability) -> None:
            if capability not in make().capabilities:
                pytest.skip(f"it does not claim to have {capability}")

        return able

    # -- before there is a VM --------------------------------------------------------------------------------------

    def test_a_vm_that_never_was_can_be_stopped(self, make: Make) -> None:
        async def main() -> None:
            vm = make()
            await vm.stop(STOP)
            await vm.stop(STOP)
            await vm.aclose()

        run(main())

    @pytest.mark.parametrize("capability", _OPERATIONS)
    def test_what_it_does_not_claim_is_not_supported(self, make: Make, capability: HypervisorCapability) -> None:
        async def main() -> None:
            vm = make()
            if capability in vm.capabilities:
                pytest.skip(f"it claims to have {capability}")
            with pytest.raises(NotSupportedError):
                await _OPERATIONS[capability](vm)

        run(main())

    @pytest.mark.parametrize("capability", _FOR_DEVICES)
    def test_a_device_is_taken_if_it_claims_so_and_else_refused(
        self, make: Make, tmp_path: Path, capability: HypervisorCapability
    ) -> None:
        device = _devices(tmp_path)[capability]
        vm = make()
        with unwritten_methods_fail():
            if capability in vm.capabilities:
                vm.add_device(device)
            else:
                with pytest.raises((ConfigError, NotSupportedError)):
                    vm.add_device(device)

    def test_it_claims_no_isolation_under_emulation(self, make: Make) -> None:
        async def main() -> None:
            async with _running(make) as vm:
                assert vm.isolation in ("hardware", "none")
                if vm.acceleration in ("tcg", "none"):
                    assert vm.isolation == "none"

        run(main())

    def test_its_process_is_found_by_the_run_directory_and_the_uuid_of_the_pod(
        self, make: Make, pod: PodContext, able: Callable[[HypervisorCapability], None]
    ) -> None:
        able(HypervisorCapability.PROCESS)

        async def main() -> None:
            async with _running(make) as vm:
                assert vm.identity() in find_vms(pod.run_dir, pod.uuid)
                assert find_vms(pod.run_dir.parent, pod.uuid) == []

        run(main())

    # -- one life --------------------------------------------------------------------------------------------------

    def test_a_vm_runs_until_it_is_stopped_and_whoever_waits_is_told(self, make: Make) -> None:
        async def main() -> None:
            async with _running(make) as vm:
                waiting = [asyncio.create_task(vm.wait()) for _ in range(2)]
                done, _ = await asyncio.wait(waiting, timeout=0.1)
                assert not done, "it was said to have ended while it ran"
                await vm.stop(STOP)
                for exit_ in [*await asyncio.gather(*waiting), await vm.wait()]:
                    assert isinstance(exit_, VMExit)
                    assert exit_.expected
                    assert exit_.reason
                await vm.stop(STOP)

        run(main())

    def test_its_process_is_known_from_prepare_on_and_gone_after_stop(self, make: Make) -> None:
        async def main() -> None:
            vm = make()
            try:
                await vm.prepare(TIMEOUT)
                identity = vm.identity()
                assert (identity is not None) == (HypervisorCapability.PROCESS in vm.capabilities)
                assert identity is None or identity.alive()
                assert _saved(vm) == json.loads(json.dumps(_saved(vm)))
                await vm.start(TIMEOUT)
                assert vm.identity() == identity
            finally:
                await vm.stop(STOP)
                await vm.aclose()
            assert identity is None or not identity.alive()

        run(main())

    def test_steps_out_of_order_are_errors_of_ours_and_do_no_harm(self, make: Make, tmp_path: Path) -> None:
        async def main() -> None:
            vm = make()
            with pytest.raises(VCError):
                await vm.start(STOP)
            async with _running(make) as vm:
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

    def test_the_death_of_its_process_is_noticed_at_once(
        self, make: Make, able: Callable[[HypervisorCapability], None]
    ) -> None:
        able(HypervisorCapability.PROCESS)

        async def main() -> None:
            async with _running(make) as vm:
                waiting = asyncio.create_task(vm.wait())
                await asyncio.sleep(0)
                identity = vm.identity()
                assert identity is not None
                identity.send(signal.SIGKILL)
                async with asyncio.timeout(scaled(5)):
                    exit_ = await waiting
                assert not exit_.expected
                assert exit_.reason

        run(main())

    def test_it_can_be_paused_and_resumed_by_whoever_controls_it(
        self, make: Make, able: Callable[[HypervisorCapability], None]
    ) -> None:
        able(HypervisorCapability.PAUSE)

        async def main() -> None:
            async with _running(make) as vm:
                await vm.pause()
                await vm.resume()
                await vm.pause()
                saved = _saved(vm)
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

    # -- failures --------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("seconds", [0.0, 0.02, 0.2])
    def test_a_preparation_that_is_cancelled_leaves_nothing(self, make: Make, seconds: float) -> None:
        async def main() -> None:
            vm = make()
            preparing = asyncio.create_task(vm.prepare(TIMEOUT))
            await asyncio.wait({preparing}, timeout=seconds)
            preparing.cancel()
            with suppress(asyncio.CancelledError, VCError):
                await preparing
            await vm.stop(STOP)
            identity = vm.identity()
            assert identity is None or not identity.alive()
            await vm.aclose()

        run(main())

    def test_a_timeout_that_is_too_short_is_kept_and_leaves_nothing(self, make: Make) -> None:
        async def main() -> None:
            vm = make()
            try:
                async with asyncio.timeout(scaled(10)):
                    with suppress(VCError):  # a hypervisor may be that fast
                        await vm.prepare(0.001)
            finally:
                await vm.stop(STOP)
                await vm.aclose()
            identity = vm.identity()
            assert identity is None or not identity.alive()

        run(main())

    def test_what_it_cannot_boot_is_an_error_of_ours_and_leaves_nothing(
        self, make: Make, pod: PodContext, tmp_path: Path
    ) -> None:
        if pod.boot is None:
            pytest.skip("it boots nothing")
        boot = replace(pod.boot, kernel=tmp_path / "no-such-kernel")

        async def main() -> None:
            vm = make(pod=replace(pod, boot=boot))
            try:
                with pytest.raises(VCError):
                    await vm.prepare(TIMEOUT)
            finally:
                await vm.stop(STOP)
                await vm.aclose()

        run(main())

    @pytest.mark.parametrize(
        "saved", [{"contract": 1}, {"process": None}, {"process": {"pid": "x"}}, {"version": 10**9}], ids=str
    )
    def test_facts_that_another_version_saved_are_at_worst_an_error_of_ours(
        self, make: Make, saved: Mapping[str, object]
    ) -> None:
        async def main() -> None:
            with suppress(VCError):
                vm = make(saved)
                await vm.stop(STOP)
                await vm.aclose()

        run(main())

    # -- another process -------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("step", ["prepared", "started"])
    def test_the_vm_of_an_owner_that_was_killed_is_controlled_through_what_it_saved(
        self, make: Make, tmp_path: Path, step: str
    ) -> None:
        channel = _devices(tmp_path)[HypervisorCapability.CHANNELS]

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
                assert _saved(vm) is not None
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

    def test_an_owner_that_lets_go_leaves_the_vm_running(
        self, make: Make, able: Callable[[HypervisorCapability], None]
    ) -> None:
        able(HypervisorCapability.PROCESS)

        async def main() -> None:
            async with _running(make) as vm:
                identity = vm.identity()
                await vm.aclose()
                assert identity is not None
                assert identity.alive()
                heir = make(_saved(vm))
                try:
                    assert heir.identity() == identity
                finally:
                    await heir.stop(STOP)
                    await heir.aclose()
                assert not identity.alive()

        run(main())

    # -- devices ---------------------------------------------------------------------------------------------------

    def test_a_channel_is_a_connected_socket_that_does_not_block(
        self, make: Make, able: Callable[[HypervisorCapability], None], tmp_path: Path
    ) -> None:
        able(HypervisorCapability.CHANNELS)

        async def main() -> None:
            async with _running(make, _devices(tmp_path)[HypervisorCapability.CHANNELS]) as vm:
                for _ in range(2):
                    with await vm.open_channel("org.contract.0") as channel:
                        assert channel.gettimeout() == 0
                        assert channel.getpeername() is not None
                with pytest.raises(HypervisorError, match="no-such-channel"):
                    await vm.open_channel("no-such-channel")

        run(main())

    def test_a_disk_has_a_place_in_the_guest(
        self, make: Make, able: Callable[[HypervisorCapability], None], tmp_path: Path
    ) -> None:
        able(HypervisorCapability.BLOCK_DEVICES)

        async def main() -> None:
            async with _running(make, _devices(tmp_path)[HypervisorCapability.BLOCK_DEVICES]) as vm:
                place = vm.disk_location("contract")
                assert bool(place.name) != bool(place.scsi), "give either a name or a SCSI address"
                assert make(_saved(vm)).disk_location("contract") == place

        run(main())

    def test_a_disk_comes_to_and_goes_from_a_vm_that_runs(
        self, make: Make, able: Callable[[HypervisorCapability], None], tmp_path: Path
    ) -> None:
        able(HypervisorCapability.HOTPLUG)
        disk = _devices(tmp_path)[HypervisorCapability.BLOCK_DEVICES]
        assert isinstance(disk, BlockDevice)
        content = disk.host_path.read_bytes()

        async def main() -> None:
            async with _running(make, replace(disk, id="other")) as vm:
                for _ in range(2):
                    await vm.attach(disk, TIMEOUT)
                assert vm.disk_location("contract") != vm.disk_location("other")
                for _ in range(2):
                    await vm.detach("contract", TIMEOUT)
                await vm.detach("no-such-disk", TIMEOUT)
                await vm.attach(disk, TIMEOUT)
                assert make(_saved(vm)).disk_location("contract") == vm.disk_location("contract")

        run(main())
        assert disk.host_path.read_bytes() == content

    def test_a_forwarded_port_is_told_and_open_on_this_host(
        self, make: Make, able: Callable[[HypervisorCapability], None], tmp_path: Path
    ) -> None:
        able(HypervisorCapability.NETWORK)
        interface = _devices(tmp_path)[HypervisorCapability.NETWORK]

        async def main() -> None:
            try:
                make().add_device(interface)
            except (ConfigError, NotSupportedError):
                pytest.skip("it has no user network")
            async with _running(make, interface) as vm:
                (forward,) = await vm.forwards()
                assert (forward.guest_port, forward.protocol) == (80, "tcp")
                assert forward.host_port
                _, writer = await asyncio.open_connection("127.0.0.1", forward.host_port)
                writer.close()

        run(main())

    def test_a_port_of_the_guest_is_a_channel_or_an_error_of_ours(
        self, make: Make, able: Callable[[HypervisorCapability], None], tmp_path: Path
    ) -> None:
        able(HypervisorCapability.GUEST_PORTS)

        async def main() -> None:
            async with _running(make, _devices(tmp_path)[HypervisorCapability.GUEST_PORTS]) as vm:
                with suppress(HypervisorError):  # nobody listens in a guest that has not booted
                    (await vm.open_channel("contract-port")).close()

        run(main())

    # -- the whole product -----------------------------------------------------------------------------------------

    @pytest.fixture
    def pod_config(self, tmp_path: Path, boot: Boot | None, hypervisor_config: HypervisorConfig) -> PodConfig:
        """A pod of this hypervisor, to be run through the API; here with the agent ``noop`` and no containers."""
        kernel, image = (boot.kernel, boot.image) if boot else (tmp_path / "kernel", tmp_path / "image")
        for file in (kernel, image):
            file.touch()
        given = replace(hypervisor_config, kernel_path=str(kernel), image_path=str(image))
        return PodConfig(id="contract", hypervisor_type=self.driver_name, agent_type="noop", hypervisor_config=given)

    def test_a_pod_survives_the_death_of_its_supervisor(
        self,
        make: Make,
        able: Callable[[HypervisorCapability], None],
        pod_config: PodConfig,
        tmp_path_factory: pytest.TempPathFactory,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        able(HypervisorCapability.PROCESS)
        if not self.driver_name or os.geteuid() != 0:
            pytest.skip("it needs root, and a driver that is installed")
        monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path_factory.mktemp("root")))
        log = Roots.from_environment().pod_run_dir(pod_config.id) / LOG_NAME
        pod = vc_core.run_pod(pod_config)
        try:
            before = pod.status()
            supervisors = find_supervisors(pod.id, log)
            assert supervisors, "it has none"
            for supervisor in supervisors:
                assert supervisor.kill(STOP)
            status = pod.status()
            assert (status.state, status.reason) == (before.state, before.reason)
            assert [one.state for one in status.containers] == [one.state for one in before.containers]
            pod.stop()
            assert pod.status().state == "stopped"
        finally:
            pod.delete(force=True)
