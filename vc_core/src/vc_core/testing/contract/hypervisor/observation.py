"""One VM with every device that the hypervisor takes, and what its probing guest reports of it.

The contract boots it once for each class of tests, in the first test that needs it, and ends it there: the tests check
what was noted, each the part that its promise is about.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from vc_core.config.network import NetworkConfig, NetworkMode, PortForward
from vc_core.config.pod import Resources
from vc_core.driver.devices import BlockDevice, Channel, Device, GuestPort, NetworkInterface, SharedDirectory
from vc_core.driver.hypervisor import Hypervisor, HypervisorCapability
from vc_core.errors import ConfigError, NotSupportedError, VCError
from vc_core.testing.contract.hypervisor.base import MAC, STOP, saved_state
from vc_core.testing.contract.hypervisor.scene import (
    ADDRESS,
    GATEWAY,
    GREETING,
    LATE_DISK,
    MAIN,
    PORT,
    Scene,
    connected,
    greeting_at,
    held_open,
)
from vc_core.testing.contract.running import TIMEOUT
from vc_core.testing.probe import Answer, ProbingGuest
from vc_core.testing.slowness import Stopwatch, scaled

#: MiB and CPUs of the VM: amounts that no hypervisor has by default. Some hypervisors have one CPU only.
RESOURCES = Resources(memory=320, vcpus=2), Resources(memory=320, vcpus=1)

#: A kernel parameter of the VM.
WORD = "probe.word=7b1d"

#: Seconds in which a guest that has booted answers on another channel.
_BOOTED = scaled(10.0)

#: Seconds in which a paused guest must not answer, and in which a disk must come or go.
_PAUSED, _PLUGGED = 0.5, scaled(10.0)

_OTHER, _PLACED = "org.contract.1", "org.contract.2"


@dataclass
class Observed:
    """What was seen of a VM, in parts; a part that could not be seen has a reason to skip its tests or to fail them."""

    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    console_tail: Callable[[], str] = str

    def part(self, name: str) -> dict[str, Any]:
        """Return the facts of one part; skip or fail the test that needs it if there are none."""
        if name in self.failed:
            pytest.fail(self.failed[name], pytrace=False)
        if name in self.skipped:
            pytest.skip(self.skipped[name])
        return self.facts[name]


def devices_of(scene: Scene) -> Mapping[str, tuple[HypervisorCapability, list[Device]]]:
    """Return the devices of the VM, by the part of the observation that is about them."""
    forwards = [PortForward(PORT)]
    network = NetworkConfig(
        mode=NetworkMode.USER, restrict=False, addresses=[f"{ADDRESS}/24"], gateway=GATEWAY, forwards=forwards
    )
    disks = [BlockDevice(one.name, one, one != scene.writable_disk) for one in (scene.disk, scene.writable_disk)]
    return {
        "channels": (HypervisorCapability.CHANNELS, [Channel("main", MAIN), Channel("other", _OTHER)]),
        "host path": (HypervisorCapability.CHANNELS, [Channel("placed", _PLACED, scene.socket)]),
        "share": (HypervisorCapability.SHARED_DIRECTORIES, [SharedDirectory("shared", scene.shared)]),
        "writable share": (
            HypervisorCapability.SHARED_DIRECTORIES,
            [SharedDirectory("writable", scene.writable, read_only=False)],
        ),
        "owned share": (HypervisorCapability.OWNERS, [SharedDirectory("owned", scene.owned, False, owners=True)]),
        "disks": (HypervisorCapability.BLOCK_DEVICES, list(disks)),
        "format": (HypervisorCapability.BLOCK_DEVICES, [BlockDevice("image", scene.image, read_only=False)]),
        "network": (HypervisorCapability.NETWORK, [NetworkInterface(network, MAC)]),
        "guest port": (HypervisorCapability.GUEST_PORTS, [GuestPort("contract-port", PORT)]),
    }


async def observe(make: Callable[[Resources], Hypervisor], scene: Scene, boot_timeout: float) -> Observed:
    """Make the VM of the scene, boot it, look at it through its guest, and end it.

    ``make`` returns the hypervisor object of a VM with these resources; its pod boots the probing guest with WORD.
    """
    observed = Observed()
    vm = await _made(make, observed)
    if vm is None:
        return observed
    observed.console_tail = vm.console_tail
    for part, (capability, devices) in devices_of(scene).items():
        if capability not in vm.capabilities:
            observed.skipped[part] = f"the hypervisor does not claim to have {capability}"
            continue
        try:
            for device in devices:
                vm.add_device(device)
        except (ConfigError, NotSupportedError) as error:
            observed.skipped[part] = f"the hypervisor refuses a device: {error}"
    observed.skipped |= {
        str(one): f"the hypervisor does not claim to have {one}"
        for one in (HypervisorCapability.PAUSE, HypervisorCapability.HOTPLUG)
        if one not in vm.capabilities
    }
    try:
        await _Observer(vm, scene, observed, boot_timeout).look()
    finally:
        with suppress(VCError):  # other tests find out why
            await vm.stop(STOP)
        await vm.aclose()
    return observed


async def _made(make: Callable[[Resources], Hypervisor], observed: Observed) -> Hypervisor | None:
    for resources in RESOURCES:
        try:
            vm = make(resources)
        except ConfigError:
            continue
        observed.facts["resources"] = {"wanted": resources}
        return vm
    observed.skipped = dict.fromkeys(_Observer.PARTS, "the hypervisor refuses VMs of 320 MiB")
    return None


class _Observer:
    """Looks at one VM; each method notes one part."""

    PARTS = (
        *("start", "resources", "channels", "host path", "share", "writable share", "owned share", "disks", "format"),
        *("network", "guest port", "hotplug", "pause", "isolation", "end"),
    )

    def __init__(self, vm: Hypervisor, scene: Scene, observed: Observed, boot_timeout: float) -> None:
        self._vm, self._scene, self._observed, self._boot_timeout = vm, scene, observed, boot_timeout
        self._guest: ProbingGuest

    async def look(self) -> None:
        """Boot the VM and note all parts, or why there is nothing to note."""
        try:
            await self._vm.prepare(TIMEOUT)
            await self._vm.start(TIMEOUT)
            channel = await self._vm.open_channel(MAIN)
        except VCError as error:
            self._fail_all(f"the VM with all devices that the hypervisor takes does not start: {error}")
            return
        with channel:
            self._guest = ProbingGuest(channel)
            try:
                name = await self._guest.reach(self._boot_timeout)
                self._observed.facts["start"] = {}
            except (TimeoutError, ConnectionError):
                console = self._vm.console_tail() or "empty"
                self._fail_all(
                    f"start() ran no guest: the probing guest does not answer on channel {MAIN!r} after "
                    f"{self._boot_timeout:g} s; its console is: {console}"
                )
                return
            for part, method in {
                "resources": self._resources,
                "channels": lambda: self._channels(name),
                "host path": self._host_path,
                "share": lambda: self._share("shared"),
                "writable share": lambda: self._share("writable"),
                "owned share": lambda: self._share("owned"),
                "disks": self._disks,
                "format": lambda: self._ask("format", image=self._disk("image")),
                "network": self._network,
                "guest port": self._guest_port,
                "hotplug": self._hotplug,
                "pause": self._pause,
                "isolation": self._isolation,
                "end": self._end,
            }.items():
                await self._note(part, method)

    def _fail_all(self, why: str) -> None:
        self._observed.failed = dict.fromkeys(self.PARTS, why)

    async def _note(self, part: str, method: Callable[[], Awaitable[None]]) -> None:
        if part in self._observed.skipped:
            return
        self._observed.facts.setdefault(part, {})
        try:
            await method()
        except Exception as error:  # whatever a driver raises or returns, the other parts are looked at
            self._observed.failed[part] = f"what is about {part} could not be seen: {error!r}"

    async def _ask(self, part: str, **asked: Awaitable[object]) -> None:
        for name, question in asked.items():
            self._observed.facts[part][name] = await question

    def _disk(self, device_id: str) -> Awaitable[Answer]:
        location = self._vm.disk_location(device_id)
        return self._guest.ask("disk", location.name or location.scsi)

    async def _resources(self) -> None:
        ask = self._guest.ask
        await self._ask("resources", cmdline=ask("cmdline"), memory=ask("memory"), cpus=ask("cpus"))

    async def _channels(self, name: str) -> None:
        facts = self._observed.facts["channels"]
        facts |= {MAIN: name, _OTHER: "nothing that answers"}
        with await self._vm.open_channel(_OTHER) as channel, suppress(TimeoutError, ConnectionError):
            facts[_OTHER] = await ProbingGuest(channel).reach(_BOOTED)

    async def _host_path(self) -> None:
        facts = self._observed.facts["host path"]
        try:
            with connected(self._scene.socket) as channel:
                facts["name"] = await ProbingGuest(channel).reach(_BOOTED)
        except (OSError, TimeoutError) as error:
            facts["name"] = repr(error)
        facts["wanted"] = _PLACED

    async def _share(self, tag: str) -> None:
        ask, top = self._guest.ask, f"/share/{tag}"
        part = "share" if tag == "shared" else f"{tag} share"
        await self._ask(part, mount=ask("mount", tag), marker=ask("read", f"{top}/marker"))
        await self._ask(part, write=ask("write", f"{top}/written", "by-the-guest"))
        await self._ask(part, program=ask("plant-program", f"{top}/program"))
        await self._ask(part, device=ask("plant-device", f"{top}/device"))

    async def _disks(self) -> None:
        facts, scene = self._observed.facts["disks"], self._scene
        for disk in (scene.disk, scene.writable_disk):
            location = self._vm.disk_location(disk.name)
            place = location.name or location.scsi
            facts[disk.name] = await self._guest.ask("disk", place)
            facts[f"write {disk.name}"] = await self._guest.ask("write-disk", place, "by-the-guest")

    async def _network(self) -> None:
        facts, ask = self._observed.facts["network"], self._guest.ask
        facts["links"] = await ask("links")
        facts["up"] = await ask("up", "eth0", ADDRESS)
        await ask("listen", PORT, GREETING)
        (forward,) = facts["forwards"] = await self._vm.forwards()
        facts["greeting"] = await greeting_at("127.0.0.1", forward.host_port)
        facts["elsewhere"] = await greeting_at("127.0.0.2", forward.host_port)
        with socket.create_server(("127.0.0.1", 0)) as server:
            facts["connect"] = await ask("connect", GATEWAY, server.getsockname()[1])

    async def _guest_port(self) -> None:
        if "network" in self._observed.skipped:
            self._observed.skipped["guest port"] = self._observed.skipped["network"]
            return
        with await self._vm.open_channel("contract-port") as channel:
            async with asyncio.timeout(scaled(5.0)):
                data = await asyncio.get_running_loop().sock_recv(channel, 100)
        self._observed.facts["guest port"]["greeting"] = data.decode().strip()

    async def _hotplug(self) -> None:
        facts, disk = self._observed.facts["hotplug"], self._scene.late_disk
        await self._vm.attach(BlockDevice(LATE_DISK, disk), TIMEOUT)
        location = self._vm.disk_location(LATE_DISK)
        place = location.name or location.scsi
        facts["attached"] = await self._disk_until(place, present=True)
        await self._vm.detach(LATE_DISK, TIMEOUT)
        facts["detached"] = await self._disk_until(place, present=False)
        identity = self._vm.identity()
        facts["held"] = identity is not None and held_open(identity.pid, disk)

    async def _disk_until(self, place: str, present: bool) -> Answer:
        end = time.monotonic() + _PLUGGED
        while True:
            answer = await self._guest.ask("disk", place)
            if answer.ok == present or time.monotonic() > end:
                return answer

    async def _pause(self) -> None:
        facts = self._observed.facts["pause"]
        await self._vm.pause()
        try:
            facts["paused"] = await self._guest.ask("clock", timeout=_PAUSED)
        except TimeoutError:
            facts["paused"] = None
        await self._vm.resume()
        await self._vm.resume()
        try:
            facts["resumed"] = await self._guest.ask("clock")
        except TimeoutError:
            facts["resumed"] = None

    async def _isolation(self) -> None:
        vm, identity = self._vm, self._vm.identity()
        facts = self._observed.facts["isolation"]
        facts |= {"isolation": vm.isolation, "acceleration": vm.acceleration, "saved": saved_state(vm)}
        facts["signature"] = (await self._guest.ask("signature")).text
        facts["identity"] = identity
        facts["kvm"] = identity is None or held_open(identity.pid, Path("anon_inode:kvm-vm"))

    async def _end(self) -> None:
        """Let the guest power off, and note how long wait() takes from the end of the process on."""
        facts, identity = self._observed.facts["end"], self._vm.identity()
        await self._guest.ask("say", self._scene.mark)
        waiting = asyncio.create_task(self._vm.wait())
        with suppress(TimeoutError, ConnectionError, OSError):
            await self._guest.ask("power-off", timeout=1.0)
        if identity is not None:
            facts["ended"] = await asyncio.to_thread(identity.wait, STOP)
        watch = Stopwatch()
        await asyncio.wait({waiting}, timeout=STOP)
        facts["late"] = watch.seconds()
        facts["exit"] = waiting.result() if waiting.done() else None
        waiting.cancel()
