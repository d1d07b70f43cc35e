"""Disks: in QEMU, in a guest, and added and removed while a VM runs."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from qemu_vms import ask, booted, live, pid_of

from vc_core.driver import BlockDevice, Boot, Channel, DiskLocation, HypervisorCapability
from vc_core.errors import ConfigError, HypervisorError, NotSupportedError, VMStartError
from vc_hypervisor_qemu import devices, disks
from vc_hypervisor_qemu.config import QemuConfig
from vc_hypervisor_qemu.hypervisor import QemuHypervisor

Make = Callable[..., QemuHypervisor]
MakeDisk = Callable[..., BlockDevice]


@pytest.fixture
def disk_of(tmp_path: Path) -> MakeDisk:
    """Make a disk of 1 MiB that begins with a line of text: its id."""

    def disk_of(id: str, read_only: bool = True) -> BlockDevice:
        path = tmp_path / f"{id}, a.img"
        if not path.exists():
            path.write_bytes(f"{id}\n".encode().ljust(1 << 20, b"\0"))
        return BlockDevice(id, path, read_only)

    return disk_of


@pytest.fixture
def loop_device(disk_of: MakeDisk) -> Iterator[BlockDevice]:
    """A block device of the host with such a disk in it."""
    image = disk_of("loop").host_path
    made = subprocess.run(["losetup", "--find", "--show", image], check=True, capture_output=True, encoding="utf-8")
    path = made.stdout.strip()
    try:
        yield BlockDevice("loop", Path(path))
    finally:
        subprocess.run(["losetup", "--detach", path], check=True)


def opened(pid: int, disk: BlockDevice) -> set[int]:
    """Return the access modes with which a process has a disk's file open."""
    modes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        if entry.exists() and entry.samefile(disk.host_path):
            flags = Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text(encoding="utf-8").split("flags:")[1].split()[0]
            modes.add(int(flags, 8) & os.O_ACCMODE)
    return modes


def locked(disk: BlockDevice) -> bool:
    """Return whether a QEMU holds one of its locks on a disk's file (RAW_LOCK_PERM_BASE of its block/file-posix.c)."""
    with disk.host_path.open("r+b") as file:
        wanted = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 100, 200, 0)
        found = fcntl.fcntl(file, fcntl.F_OFD_GETLK, wanted)
    return bool(struct.unpack_from("h", found)[0] != fcntl.F_UNLCK)


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("id", "path", "text"),
    [
        ("d", "relative", "must be absolute"),
        ("d", "/a\nb", "control character"),
        ("d", "/\udcff", "not in UTF-8"),
        ("1", "/a", "id '1' of .* is not valid"),
        ("c", "/a", "two devices have the id 'c'"),
    ],
)
def test_a_disk_with_an_id_or_path_that_qemu_cannot_read_is_refused(id: str, path: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        devices.check(BlockDevice(id, Path(path)), [Channel("c", "n")], QemuConfig())


def test_what_is_neither_file_nor_block_device_is_refused(make: Make, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, text in ((tmp_path, "neither a file nor"), (tmp_path / "fifo", "neither"), (tmp_path / "no", "No such")):
        hypervisor = make()
        hypervisor.add_device(BlockDevice("d", path))
        with pytest.raises(ConfigError, match=f"disk '{path}' .*{text}"):
            asyncio.run(hypervisor.prepare(60))


def test_a_disk_beyond_the_last_scsi_target_is_refused() -> None:
    full = {str(slot): disks.Disk(slot, "file", "/d", True, DiskLocation(), slot) for slot in range(256)}
    with pytest.raises(HypervisorError, match="256 disks already"):
        disks.free_target(full, 7)
    del full["3"]
    assert disks.free_target(full, 7) == 3
    assert disks.free_target({}, 256) == 0


# -- the disks of a VM that is made ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bus", "first"), [("scsi", DiskLocation(scsi="0:0")), ("virtio", DiskLocation(name="vda"))])
def test_disks_are_read_only_unless_asked_and_open_in_no_other_way(
    make: Make, disk_of: MakeDisk, bus: str, first: DiskLocation
) -> None:
    hypervisor = make(options={"disk_bus": bus})
    reading, writing = disk_of("one"), disk_of("two", read_only=False)
    hypervisor.add_device(reading)
    hypervisor.add_device(writing)

    async def use(pid: int) -> None:
        assert opened(pid, reading) == {os.O_RDONLY}
        assert opened(pid, writing) == {os.O_RDWR}
        assert hypervisor.disk_location("one") == first
        heir = make(options={"disk_bus": bus}, saved=json.loads(json.dumps(hypervisor.save())))
        assert heir.disk_location("two") == hypervisor.disk_location("two") != first
        with pytest.raises(HypervisorError, match="has no disk 'three'"):
            heir.disk_location("three")

    live(hypervisor, use)


def test_virtio_disks_are_counted_after_the_image(make: Make, disk: Boot, disk_of: MakeDisk) -> None:
    hypervisor = make(disk, options={"disk_bus": "virtio"})
    hypervisor.add_device(disk_of("one"))

    async def use(pid: int) -> None:
        assert hypervisor.disk_location("one") == DiskLocation(name="vdb")

    live(hypervisor, use)


@pytest.mark.root
@pytest.mark.needs("losetup", "loop devices")
def test_a_block_device_can_be_a_disk(make: Make, loop_device: BlockDevice) -> None:
    hypervisor = make()
    hypervisor.add_device(loop_device)

    async def use(pid: int) -> None:
        assert opened(pid, loop_device) == {os.O_RDONLY}

    live(hypervisor, use)


@pytest.mark.root
@pytest.mark.needs("losetup", "loop devices", "mount namespaces", "mke2fs")
def test_a_block_device_that_qemu_writes_to_cannot_be_mounted_nor_the_other_way_round(
    make: Make, loop_device: BlockDevice, tmp_path: Path
) -> None:
    disk = replace(loop_device, read_only=False)
    subprocess.run(["/sbin/mke2fs", "-q", "-t", "ext4", disk.host_path], check=True, capture_output=True)
    first, second = make(), make(run_dir=tmp_path / "run" / "p2")
    mounting = ["unshare", "--mount", "sh", "-c", 'mount "$0" "$1" && echo mounted && read -r _']
    command = [*mounting, str(disk.host_path), str(tmp_path)]

    async def use(pid: int) -> None:
        assert opened(pid, disk) == {os.O_RDWR}
        done = await asyncio.to_thread(lambda: subprocess.run(command, capture_output=True))
        assert b"busy" in done.stderr or b"already mounted" in done.stderr

    first.add_device(disk)
    live(first, use)
    second.add_device(disk)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as mounter:
        assert mounter.stdout is not None
        assert mounter.stdout.readline() == b"mounted\n"
        with pytest.raises(ConfigError, match="the host uses it or a part of it"):
            asyncio.run(second.prepare(60))
        mounter.communicate(b"\n")


def test_a_disk_is_the_file_that_was_checked_whatever_its_name_became(make: Make, disk_of: MakeDisk) -> None:
    disk = disk_of("checked")
    descriptor = os.open(disk.host_path, os.O_PATH)
    try:
        kept = disk.host_path.rename(disk.host_path.with_name("kept"))
        disk.host_path.symlink_to("/etc/shadow")
        hypervisor = make()
        hypervisor.add_device(replace(disk, descriptor=descriptor))

        async def use(pid: int) -> None:
            assert opened(pid, replace(disk, host_path=kept)) == {os.O_RDONLY}
            assert opened(pid, disk) == set()

        live(hypervisor, use)
    finally:
        os.close(descriptor)


def test_pods_share_a_disk_that_no_pod_writes_to(make: Make, disk_of: MakeDisk, tmp_path: Path) -> None:
    first, second = make(), make(run_dir=tmp_path / "run" / "p2")
    writer = make(run_dir=tmp_path / "run" / "p3")
    for reader in (first, second):
        reader.add_device(disk_of("one"))
    writer.add_device(disk_of("one", read_only=False))

    async def use(pid: int) -> None:
        await second.prepare(60)
        await second.stop(10)
        await second.aclose()
        with pytest.raises(VMStartError, match=r"""Failed to get "write" lock.*one, a\.img"""):
            await writer.prepare(60)

    live(first, use)


# -- disks that come and go --------------------------------------------------------------------------------------------


def test_a_second_attach_or_detach_of_a_disk_does_nothing(make: Make, disk_of: MakeDisk) -> None:
    hypervisor = make()
    cold, hot = disk_of("cold"), disk_of("hot", read_only=False)
    hypervisor.add_device(cold)

    async def use(pid: int) -> None:
        for _ in range(2):
            await hypervisor.attach(hot, 5)
            assert opened(pid, hot) == {os.O_RDWR}
            assert locked(hot)
            assert hypervisor.disk_location("hot") == DiskLocation(scsi="1:0")
        with pytest.raises(HypervisorError, match=r"disk 'hot' of pod 'p1' is '.*hot, a\.img' already"):
            await hypervisor.attach(BlockDevice("hot", cold.host_path), 5)
        await hypervisor.aclose()
        heir = make(saved=json.loads(json.dumps(hypervisor.save())))
        try:
            for id in ("hot", "hot", "cold", "never"):
                await heir.detach(id, 5)
            assert not locked(hot)
            assert not locked(cold)
            await heir.attach(hot, 5)
            assert heir.disk_location("hot") == DiskLocation(scsi="2:0")  # of target 1 a guest may still know a disk
        finally:
            await heir.aclose()

    live(hypervisor, use)


def test_a_disk_that_a_killed_owner_did_not_save_is_replaced(make: Make, disk_of: MakeDisk) -> None:
    hypervisor = make()

    async def use(pid: int) -> None:
        saved: Any = json.loads(json.dumps(hypervisor.save()))
        await hypervisor.attach(disk_of("lost", read_only=False), 5)
        await hypervisor.aclose()
        heir = make(saved=saved)
        await heir.attach(disk_of("other"), 5)
        assert heir.disk_location("other") == DiskLocation(scsi="0:0")
        assert not locked(disk_of("lost"))
        assert opened(pid, disk_of("other")) == {os.O_RDONLY}
        assert locked(disk_of("other"))
        await heir.aclose()

    live(hypervisor, use)


@pytest.mark.slow
def test_several_disks_can_be_attached_at_once(make: Make, disk_of: MakeDisk) -> None:
    hypervisor = make()

    async def use(pid: int) -> None:
        await asyncio.gather(*(hypervisor.attach(disk_of(f"d{number}"), 5) for number in range(8)))
        places = {hypervisor.disk_location(f"d{number}").scsi for number in range(8)}
        assert places == {f"{number}:0" for number in range(8)}
        await asyncio.gather(*(hypervisor.detach(f"d{number}", 5) for number in range(8)))

    live(hypervisor, use)


def test_a_disk_that_another_pod_writes_to_is_refused_with_qemus_message(
    make: Make, disk_of: MakeDisk, tmp_path: Path
) -> None:
    hypervisor, other = make(), make(run_dir=tmp_path / "run" / "p2")
    other.add_device(disk_of("one", read_only=False))

    async def use(pid: int) -> None:
        await other.prepare(60)
        try:
            with pytest.raises(HypervisorError, match=r"cannot attach disk 'one' of pod 'p1': .*lock"):
                await hypervisor.attach(disk_of("one"), 5)
        finally:
            await other.stop(10)
            await other.aclose()
        assert not locked(disk_of("one"))
        await hypervisor.attach(disk_of("one"), 5)
        assert locked(disk_of("one"))

    live(hypervisor, use)


def test_a_missing_file_is_refused_as_a_disk(make: Make, tmp_path: Path) -> None:
    hypervisor = make()

    async def use(pid: int) -> None:
        with pytest.raises(ConfigError, match="cannot be used: No such file"):
            await hypervisor.attach(BlockDevice("d", tmp_path / "none"), 5)

    live(hypervisor, use)


def test_virtio_disks_can_be_neither_attached_nor_detached(make: Make, disk_of: MakeDisk) -> None:
    hypervisor = make(options={"disk_bus": "virtio"})
    assert HypervisorCapability.HOTPLUG not in hypervisor.capabilities
    assert HypervisorCapability.HOTPLUG in make().capabilities
    for change in (hypervisor.attach(disk_of("one"), 5), hypervisor.detach("one", 5)):
        with pytest.raises(NotSupportedError, match="disk_bus=virtio; choose scsi"):
            asyncio.run(change)


# -- what a guest sees -------------------------------------------------------------------------------------------------


@pytest.mark.vm
@pytest.mark.parametrize("machine", ["q35", "microvm"])
def test_a_running_guest_sees_disks_appear_and_disappear(
    make: Make, guest_boot: Boot, disk_of: MakeDisk, machine: str
) -> None:
    async def run() -> None:
        hypervisor = make(guest_boot, options={"machine": machine})
        hypervisor.add_device(Channel("test", "test"))
        hypervisor.add_device(disk_of("cold"))
        async with booted(hypervisor) as channel:
            cold = await ask(channel, f"DISK {hypervisor.disk_location('cold').scsi}")
            assert await ask(channel, f"/dev/{cold}") == "cold"
            assert await ask(channel, f"WRITE /dev/{cold}") == "Read-only file system"
            await hypervisor.attach(disk_of("hot", read_only=False), 10)
            hot = await ask(channel, f"DISK {hypervisor.disk_location('hot').scsi}")
            assert await ask(channel, f"/dev/{hot}") == "hot"
            assert await ask(channel, f"WRITE /dev/{hot}") == "WRITTEN"
            await hypervisor.detach("hot", 10)
            assert await ask(channel, "NODISK 1:0") == ""
            assert opened(pid_of(hypervisor), disk_of("hot")) == set()
            assert {cold, hot} == {"sda", "sdb"}

    asyncio.run(run())
    assert disk_of("hot").host_path.read_bytes()[:4] == b"xot\n"
