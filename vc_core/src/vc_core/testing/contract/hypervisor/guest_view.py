"""What the guest gets of what was asked for: the tests look at one VM, observed through its probing guest."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from vc_core.driver.context import Boot, PodContext
from vc_core.testing.contract.hypervisor.base import LATE, MAC, HypervisorFixtures, Make
from vc_core.testing.contract.hypervisor.observation import WORD, Observed, observe
from vc_core.testing.contract.hypervisor.scene import GREETING, LATE_DISK, PORT, Scene, start_of
from vc_core.testing.contract.running import promise, run
from vc_core.testing.slowness import scaled

#: The part of its memory that a guest's kernel keeps for itself at most, in MiB.
_KERNEL = 128

_SCENE, _OBSERVED = pytest.StashKey[Scene](), pytest.StashKey[Observed]()


class GuestView(HypervisorFixtures):
    """What the guest gets of what was asked for."""

    @pytest.fixture
    def observed(
        self,
        request: pytest.FixtureRequest,
        make: Make,
        pod: PodContext,
        probing_boot: Boot,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> Observed:
        """What was seen of the VM with all devices, which the first test that needs it has booted."""
        stash = request.node.getparent(pytest.Class).stash
        if _OBSERVED not in stash:
            stash[_SCENE] = scene = Scene(tmp_path_factory.mktemp("scene"))
            boot = replace(probing_boot, params=(*probing_boot.params, WORD))
            stash[_OBSERVED] = run(
                observe(
                    lambda resources: make(pod=replace(pod, boot=boot, resources=resources)), scene, self.boot_timeout
                ),
                self.boot_timeout + scaled(120.0),
            )
        observed: Observed = stash[_OBSERVED]
        return observed

    @pytest.fixture
    def scene(self, request: pytest.FixtureRequest, observed: Observed) -> Scene:
        """The files of the VM's shares and disks, after its end."""
        made: Scene = request.node.getparent(pytest.Class).stash[_SCENE]
        return made

    def test_start_runs_the_guest(self, observed: Observed) -> None:
        observed.part("start")

    def test_a_guest_has_the_memory_that_was_asked_for(self, observed: Observed) -> None:
        facts = observed.part("resources")
        wanted, memory = facts["wanted"].memory, int(facts["memory"].text)
        promise(
            wanted - _KERNEL <= memory <= wanted,
            f"Resources.memory is ignored: {wanted} MiB were asked for, and the guest has {memory} MiB",
        )

    def test_a_guest_has_the_cpus_that_were_asked_for(self, observed: Observed) -> None:
        facts = observed.part("resources")
        wanted, cpus = facts["wanted"].vcpus, int(facts["cpus"].text)
        promise(cpus == wanted, f"Resources.vcpus is ignored: {wanted} were asked for, and the guest has {cpus}")

    def test_the_kernel_is_given_the_parameters_of_the_boot_in_their_order(
        self, observed: Observed, probing_boot: Boot
    ) -> None:
        words = observed.part("resources")["cmdline"].text.split()
        wanted = [*probing_boot.params, WORD]
        found = iter(words)
        promise(
            all(word in found for word in wanted),
            f"Boot.params is ignored: {' '.join(wanted)!r} is not on the kernel's command line {' '.join(words)!r}",
        )

    def test_each_channel_leads_to_the_port_of_its_name(self, observed: Observed) -> None:
        for opened, name in observed.part("channels").items():
            promise(
                opened == name,
                f"a channel leads to another one: {opened!r} was opened, and the guest's end is {name!r}",
            )

    def test_a_channel_with_a_host_path_is_a_socket_there(self, observed: Observed) -> None:
        facts = observed.part("host path")
        promise(
            facts["name"] == facts["wanted"],
            f"Channel.host_path is ignored: a connection to the socket there leads to {facts['name']}, and not to "
            f"channel {facts['wanted']!r}",
        )

    def test_a_guest_reads_a_shared_directory_and_cannot_write_to_it(self, observed: Observed, scene: Scene) -> None:
        facts = observed.part("share")
        promise(
            facts["mount"].ok and facts["marker"].text == "shared",
            "a shared directory is not in the guest by its tag: "
            f"mounting it: {facts['mount'].text!r}, reading a file of it: {facts['marker'].text!r}",
        )
        found = sorted(one.name for one in scene.shared.iterdir())
        promise(found == ["marker"], f"a read-only share was written to by the guest: the directory now has {found}")

    def test_a_guest_writes_to_a_writable_shared_directory(self, observed: Observed, scene: Scene) -> None:
        facts = observed.part("writable share")
        written = scene.writable / "written"
        promise(
            facts["write"].ok and written.is_file() and written.read_text(encoding="utf-8") == "by-the-guest",
            f"a writable share is not writable: the guest's attempt ended with {facts['write'].text!r}",
        )

    def test_a_guest_makes_no_set_user_id_program_or_device_of_the_host(self, observed: Observed, scene: Scene) -> None:
        observed.part("writable share")
        for path in scene.writable.iterdir():
            mode = path.lstat().st_mode
            promise(
                not mode & (stat.S_ISUID | stat.S_ISGID),
                f"a set-user-id program was planted through a writable share: {path.name!r} has mode {mode:o} here",
            )
            promise(
                stat.S_ISREG(mode), f"a device was planted through a writable share: {path.name!r} has mode {mode:o}"
            )

    def test_what_a_guest_makes_in_a_share_with_owners_is_on_the_host_as_the_guest_made_it(
        self, observed: Observed, scene: Scene
    ) -> None:
        facts = observed.part("owned share")
        written = scene.owned / "written"
        promise(
            facts["write"].ok and written.is_file() and written.read_text(encoding="utf-8") == "by-the-guest",
            f"a share with owners is not writable: the guest's attempt ended with {facts['write'].text!r}",
        )
        status = written.lstat()
        promise(
            (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o644, 0, 0) or os.geteuid() != 0,
            f"SharedDirectory.owners is ignored: a file that the guest's root made with mode 644 has mode "
            f"{stat.S_IMODE(status.st_mode):o} and the owner {status.st_uid}:{status.st_gid} on the host",
        )

    def test_a_guest_makes_no_set_user_id_program_or_device_in_a_share_with_owners(
        self, observed: Observed, scene: Scene
    ) -> None:
        observed.part("owned share")
        for path in scene.owned.iterdir():
            mode = path.lstat().st_mode
            promise(
                not mode & (stat.S_ISUID | stat.S_ISGID),
                f"a set-user-id program was planted through a share with owners: {path.name!r} has mode {mode:o} here",
            )
            promise(
                stat.S_ISREG(mode),
                f"a device was planted through a share with owners: {path.name!r} has mode {mode:o} here",
            )

    def test_a_disk_is_at_its_location_in_the_guest(self, observed: Observed, scene: Scene) -> None:
        facts = observed.part("disks")
        for disk in (scene.disk, scene.writable_disk):
            # The guest has read the writable disk before it wrote there.
            start = disk.name.encode().ljust(16, b"\0").hex()
            found = facts[disk.name].text.split()
            promise(
                found[0] == str(disk.stat().st_size) and found[-1] == start,
                f"disk_location({disk.name!r}) leads to another place: the guest finds {facts[disk.name].text!r} "
                f"there, not {disk.stat().st_size} bytes that begin with {start}",
            )

    def test_a_read_only_disk_is_read_only_for_the_guest_and_others_are_not(
        self, observed: Observed, scene: Scene
    ) -> None:
        facts = observed.part("disks")
        kept = scene.disk.read_bytes().startswith(scene.disk.name.encode())
        promise(
            kept and facts[scene.disk.name].text.split()[1] == "1" and not facts[f"write {scene.disk.name}"].ok,
            "BlockDevice.read_only is ignored: the guest sees a disk that can be written to, or wrote to it",
        )
        promise(
            scene.writable_disk.read_bytes().startswith(b"by-the-guest"),
            "a disk with read_only=False is not writable: what the guest wrote is not in the file",
        )

    def test_a_disk_is_never_interpreted_as_an_image_format(self, observed: Observed, scene: Scene) -> None:
        found = observed.part("format")["image"].text.split()
        promise(
            found[0] == str(scene.image.stat().st_size) and found[-1] == start_of(scene.image),
            "a disk's format is guessed from its bytes: a raw disk that begins like a qcow2 image has "
            f"{found[0]} bytes in the guest instead of {scene.image.stat().st_size}, or other contents",
        )

    def test_a_disk_that_is_attached_is_in_the_guest_and_gone_once_it_is_detached(
        self, observed: Observed, scene: Scene
    ) -> None:
        facts = observed.part("hotplug")
        promise(
            facts["attached"].text.endswith(start_of(scene.late_disk)),
            f"attach() has no effect: where disk {LATE_DISK!r} should be the guest finds {facts['attached'].text!r}",
        )
        promise(not facts["detached"].ok, f"detach() has no effect: the guest still has disk {LATE_DISK!r}")
        promise(not facts["held"], f"detach() has no effect on the host: the VM still has disk {LATE_DISK!r} open")

    def test_a_guest_has_the_interface_that_was_asked_for(self, observed: Observed) -> None:
        links = observed.part("network")["links"].text
        promise(
            f"eth0 {MAC}" in links,
            f"the MAC address of a network interface is ignored: eth0 was to have {MAC}, the guest has {links!r}",
        )

    def test_a_forwarded_port_leads_into_the_guest_from_the_loopback_address_only(self, observed: Observed) -> None:
        facts = observed.part("network")
        (forward,) = facts["forwards"]
        promise(
            (forward.guest_port, forward.protocol) == (PORT, "tcp"),
            f"forwards() returns {forward}, and port {PORT} of the guest was to be forwarded",
        )
        promise(
            facts["greeting"] == GREETING,
            f"a forwarded port does not lead to the guest's: a client on the host reads {facts['greeting']!r}",
        )
        promise(
            facts["elsewhere"] == "",
            "a port is forwarded on all addresses of the host: it must be open on 127.0.0.1 only, and 127.0.0.2 led "
            "into the guest",
        )

    def test_a_guest_in_an_unrestricted_network_reaches_the_host(self, observed: Observed) -> None:
        answer = observed.part("network")["connect"]
        promise(
            answer.ok,
            f"a user network without restrict does not work: a connection to its gateway ended: {answer.text}",
        )

    def test_a_guest_port_leads_to_the_port_of_the_guest(self, observed: Observed) -> None:
        greeting = observed.part("guest port")["greeting"]
        promise(greeting == GREETING, f"a GuestPort leads to another place: a client there reads {greeting!r}")

    def test_a_paused_guest_does_not_run_until_it_is_resumed(self, observed: Observed) -> None:
        facts = observed.part("pause")
        promise(facts["paused"] is None, "pause() has no effect: the guest answered while it was paused")
        promise(facts["resumed"] is not None, "resume() has no effect: the guest does not answer after it")

    def test_hardware_isolation_is_claimed_only_where_the_hardware_isolates(self, observed: Observed) -> None:
        facts = observed.part("isolation")
        promise(
            facts["isolation"] in ("hardware", "none"),
            f"isolation is {facts['isolation']!r}; it must be 'hardware' or 'none'",
        )
        if facts["isolation"] == "hardware":
            promise(
                facts["kvm"] and "TCG" not in facts["signature"],
                "isolation 'hardware' is claimed, but the VM's process uses no KVM, or the guest's CPU is one that "
                f"QEMU emulates (its signature is {facts['signature']!r})",
            )

    def test_wait_returns_as_soon_as_a_guest_has_powered_off(self, observed: Observed) -> None:
        facts = observed.part("end")
        promise(facts.get("ended", True), "a guest that powers off does not end its VM: the process is still there")
        promise(
            facts["exit"] is not None and facts["late"] < LATE,
            f"wait() is late: it returned {facts['late']:.1f} s after the VM's process ended, or not at all",
        )
        promise(not facts["exit"].expected and facts["exit"].reason, f"VMExit is {facts['exit']}; nobody called stop()")

    def test_the_file_of_a_channel_is_removed_with_its_vm(self, observed: Observed, scene: Scene) -> None:
        observed.part("host path")
        promise(not Path(scene.socket).exists(), "the socket at Channel.host_path is still there after stop()")
