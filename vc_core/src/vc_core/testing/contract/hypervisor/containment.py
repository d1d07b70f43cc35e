"""What a VM must not reach or show: processes that are not its own, other pods, the host's network and mounts."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from vc_core.config.network import NetworkConfig, NetworkMode
from vc_core.config.pod import PodConfig
from vc_core.driver.context import Boot, PodContext
from vc_core.driver.devices import Channel, NetworkInterface
from vc_core.driver.hypervisor import Hypervisor, HypervisorCapability
from vc_core.driver.process import ProcessIdentity
from vc_core.errors import ConfigError, NotSupportedError, VCError
from vc_core.host.processes import find_vms
from vc_core.testing.contract.hypervisor.base import MAC, STOP, HypervisorFixtures, Make, running_vm, saved_state
from vc_core.testing.contract.hypervisor.guest_view import GuestView
from vc_core.testing.contract.hypervisor.neighbour import MARK, observe_neighbour
from vc_core.testing.contract.hypervisor.observation import Observed
from vc_core.testing.contract.hypervisor.scene import MAIN
from vc_core.testing.contract.hypervisor.tap import tap_device
from vc_core.testing.contract.running import TIMEOUT, promise, run, run_elsewhere
from vc_core.testing.probe import ProbingGuest
from vc_core.testing.slowness import scaled

#: A boot of no host: boot ids are random (RFC 4122, version 4).
_OTHER_BOOT = "00000000-0000-4000-8000-000000000000"

#: Of a second interface.
_FURTHER_MAC = "52:54:00:12:34:57"

#: Addresses of the guest, and of no interface, in the network of the tap device.
_TAP_ADDRESS, _TAP_PEER = "10.9.1.15", "10.9.1.1"

_NEIGHBOUR = pytest.StashKey[Mapping[str, Any]]()


class SavedState(HypervisorFixtures):
    """A process is the VM's only if pid, start time and boot are: pids are reused."""

    @pytest.mark.parametrize("reused", ["in this boot", "in another boot"])
    def test_a_process_that_has_the_pid_of_a_vm_that_ended_is_left_alone(
        self, make: Make, able: Callable[[HypervisorCapability], None], reused: str
    ) -> None:
        able(HypervisorCapability.PROCESS)

        async def ended() -> tuple[Mapping[str, object], ProcessIdentity]:
            vm = make()
            try:
                await vm.prepare(TIMEOUT)
                identity = vm.identity()
                assert identity is not None
                return saved_state(vm), identity
            finally:
                await vm.stop(STOP)
                await vm.aclose()

        async def control(saved: Mapping[str, object]) -> None:
            with suppress(VCError):
                heir = make(saved)
                await heir.stop(STOP)
                await heir.aclose()

        saved, gone = run(ended())
        bystander = _bystander(gone)
        forged: dict[object, object] = {gone.pid: bystander.pid, str(gone.pid): str(bystander.pid)}
        if reused == "in another boot":
            forged |= {gone.start_time: bystander.start_time, gone.boot_id: _OTHER_BOOT}
        try:
            run(control(_replaced(saved, forged)))
            promise(
                bystander.alive(),
                f"a saved pid is trusted alone: another process that had got it {reused} was killed; compare the "
                "start time and the boot id as well",
            )
        finally:
            bystander.kill(STOP)

    def test_a_vm_whose_owner_was_killed_before_it_recorded_it_is_found(
        self, make: Make, pod: PodContext, able: Callable[[HypervisorCapability], None]
    ) -> None:
        able(HypervisorCapability.PROCESS)
        if HypervisorCapability.DISCARD in make().capabilities:
            pytest.skip("the hypervisor claims to have discard")  # it finds its VMs itself

        async def own() -> Mapping[str, object]:
            vm = make()
            await vm.prepare(TIMEOUT)
            identity = vm.identity()
            return {"identity": identity and identity.to_mapping()}

        identity = ProcessIdentity.from_mapping(run_elsewhere(own)["identity"])

        async def found() -> bool:
            with suppress(TimeoutError):
                async with asyncio.timeout(scaled(2)):
                    while identity.alive() and identity not in find_vms(pod.run_dir, pod.uuid):  # noqa: ASYNC110
                        await asyncio.sleep(0)
                    return True
            return False

        try:
            promise(
                run(found()),
                "a VM is lost when its owner is killed between prepare and the record: its process runs on without the "
                "pod's run directory as its working directory, or without the pod's UUID as an argument",
            )
        finally:
            identity.kill(STOP)


def _bystander(gone: ProcessIdentity) -> ProcessIdentity:
    """Start a process that sleeps, is no child of this one, and did not start in the same tick as ``gone``."""
    while True:
        command = ["sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True)
        started = ProcessIdentity.of(int(done.stdout))
        assert started is not None
        if started.start_time != gone.start_time:
            return started
        started.kill(STOP)


def _replaced(value: object, replacements: Mapping[object, object]) -> Any:
    """Return JSON-able data with every number and string that is a key of ``replacements`` replaced."""
    if isinstance(value, Mapping):
        return {key: _replaced(one, replacements) for key, one in value.items()}
    if isinstance(value, list):
        return [_replaced(one, replacements) for one in value]
    return replacements.get(value, value)


class Containment(GuestView):
    """What a VM must not reach or show of the host and of other pods."""

    @pytest.fixture
    def neighbour(
        self,
        request: pytest.FixtureRequest,
        make: Make,
        pod: PodContext,
        probing_boot: Boot,
        observed: Observed,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> Mapping[str, Any]:
        """What the guest of a second pod reported, whose VM is in another mount namespace if the tests run as root.

        Its console has printed MARK; with it is what the console of the first VM, ``observed``, seemed to be then.
        """
        stash = request.node.getparent(pytest.Class).stash
        if _NEIGHBOUR not in stash:
            top = tmp_path_factory.mktemp("neighbour")
            run_dir, late = top / "run", top / "late"
            for folder in (run_dir, run_dir / "share", late):
                folder.mkdir(mode=0o700)
            (late / "marker").write_text("bound-later\n", encoding="utf-8")
            config = PodConfig(id="contract-2", hypervisor_config=pod.hypervisor_config)
            second = PodContext.of(config, run_dir, probing_boot)
            facts = run_elsewhere(lambda: observe_neighbour(make, second, late, self.boot_timeout))
            stash[_NEIGHBOUR] = {**facts, "other console": observed.console_tail()}
        noted: Mapping[str, Any] = stash[_NEIGHBOUR]
        if "failed" in noted:
            pytest.fail(noted["failed"], pytrace=False)
        return noted

    def test_a_vm_is_in_the_mount_namespace_of_its_pod(self, neighbour: Mapping[str, Any]) -> None:
        if os.geteuid() != 0:
            pytest.skip("needs root, for a mount namespace")
        promise(
            neighbour.get("same namespace", True),
            "the VM's process is not in the mount namespace of the process that prepared it, which is the pod's",
        )
        if "late" in neighbour:
            promise(
                neighbour["late"] == "bound-later",
                "a directory that is bound into a share in the pod's mount namespace is not in the guest, which reads "
                f"{neighbour['late']!r}: the VM is in another mount namespace",
            )

    def test_a_guest_in_a_restricted_network_reaches_nothing(self, neighbour: Mapping[str, Any]) -> None:
        if "reached" not in neighbour:
            pytest.skip(neighbour["no network"])
        promise(
            not neighbour["reached"],
            "NetworkConfig.restrict is ignored: the guest opened a connection to a port of the host",
        )

    def test_the_console_of_one_pod_is_not_in_the_log_of_another(self, neighbour: Mapping[str, Any]) -> None:
        promise(
            MARK not in neighbour["other console"],
            "all pods have one console log: what the guest of another pod printed is in console_tail() of this one",
        )

    def test_a_tap_device_gets_the_frames_of_the_guest(
        self, make: Make, pod: PodContext, probing_boot: Boot, able: Callable[[HypervisorCapability], None]
    ) -> None:
        able(HypervisorCapability.NETWORK)
        with tap_device() as (device, frames):
            config = NetworkConfig(mode=NetworkMode.TAP, device=device, addresses=[f"{_TAP_ADDRESS}/24"])
            interface = NetworkInterface.of(config, MAC)
            try:
                make().add_device(interface)
            except (ConfigError, NotSupportedError) as error:
                pytest.skip(f"the hypervisor refuses a device: {error}")
            promise(
                self._sends(lambda: make(pod=replace(pod, boot=probing_boot)), [interface], "eth0", frames),
                f"a tap device is ignored: what the guest sends does not arrive at the host's {device!r}",
            )

    def test_a_further_interface_is_on_its_own_tap_device(
        self, make: Make, pod: PodContext, probing_boot: Boot, able: Callable[[HypervisorCapability], None]
    ) -> None:
        able(HypervisorCapability.INTERFACES)
        with tap_device() as (first, _), tap_device("2") as (second, frames):
            interfaces = [
                NetworkInterface.of(NetworkConfig(mode=NetworkMode.TAP, device=device), mac)
                for device, mac in ((first, MAC), (second, _FURTHER_MAC))
            ]
            promise(
                self._sends(lambda: make(pod=replace(pod, boot=probing_boot)), interfaces, "eth1", frames),
                f"a second NetworkInterface is ignored: what the guest sends by eth1 does not arrive at {second!r}",
            )

    def _sends(
        self,
        make: Callable[[], Hypervisor],
        interfaces: Sequence[NetworkInterface],
        name: str,
        frames: socket.socket,
    ) -> bool:
        """Return whether what a guest sends by the last of its interfaces, which it calls ``name``, arrives."""

        async def main() -> bool:
            async with running_vm(make, Channel("main", MAIN), *interfaces) as vm:
                with await vm.open_channel(MAIN) as channel:
                    guest = ProbingGuest(channel)
                    await guest.reach(self.boot_timeout)
                    await guest.ask("up", name, _TAP_ADDRESS)
                    asking = asyncio.create_task(guest.ask("connect", _TAP_PEER, 9))  # it asks who has the address
                    try:
                        return await _has_frame_from(frames, interfaces[-1].mac)
                    finally:
                        await asking

        return run(main(), self.boot_timeout + TIMEOUT)


async def _has_frame_from(frames: socket.socket, mac: str) -> bool:
    """Return whether a frame with this source comes within a few seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(scaled(3.0)):
            while True:
                frame = await asyncio.get_running_loop().sock_recv(frames, 2048)
                if frame[6:12].hex(":") == mac:  # Ethernet: six bytes of destination, six of source
                    return True
    return False
