"""A VM that is prepared in a real QEMU; its CPUs stay stopped, so no guest runs here."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, get_args

import pytest
from qemu.qmp import QMPClient
from qemu_vms import Make, live

from vc_core.driver import (
    BlockDevice,
    Boot,
    Channel,
    GuestPort,
    NetworkConfig,
    NetworkInterface,
    NetworkMode,
    Param,
    SharedDirectory,
)
from vc_core.errors import ConfigError, HypervisorError, StateError
from vc_hypervisor_qemu import sockets
from vc_hypervisor_qemu.config import DiskBus, Machine

pytestmark = pytest.mark.slow


def test_a_prepared_vm_is_a_process_that_carries_the_pods_id(make: Make) -> None:
    hypervisor = make()
    assert (hypervisor.identity(), hypervisor.save(), hypervisor.acceleration) == (None, {}, "none")

    async def use(pid: int) -> None:
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        assert argv[argv.index(b"-name") + 1] == b"guest=p1,debug-threads=on"
        identity = hypervisor.identity()
        assert identity is not None
        assert identity.alive()

    live(hypervisor, use)


def test_under_emulation_no_isolation_is_claimed(make: Make) -> None:
    hypervisor = make(options={"accel": "tcg"})

    async def use(pid: int) -> None:
        assert (hypervisor.acceleration, hypervisor.isolation) == ("tcg", "none")

    live(hypervisor, use)


def test_isolation_by_hardware_is_claimed_for_kvm_only(make: Make) -> None:
    process = {"pid": 2, "start_time": 1, "boot_id": "x"}
    hypervisor = make(saved={"process": process, "acceleration": "kvm", "channels": {}})
    assert (hypervisor.acceleration, hypervisor.isolation) == ("kvm", "hardware")


def test_qemu_is_sandboxed_and_inherits_no_environment_and_no_other_descriptors(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hush")
    (tmp_path / "open").touch()

    async def use(pid: int) -> None:
        process = Path(f"/proc/{pid}")
        assert (process / "environ").read_bytes() == b""
        status = dict(line.split(":\t", 1) for line in (process / "status").read_text(encoding="utf-8").splitlines())
        assert (status["Umask"], status["Seccomp"]) == ("0077", "2")
        assert "Max core file size 1 1 bytes" in " ".join((process / "limits").read_text(encoding="utf-8").split())
        assert os.getsid(pid) == pid
        files = {str(fd.readlink()) for fd in (process / "fd").iterdir()}
        expected = {
            "/dev/null",
            "/dev/urandom",
            str(tmp_path / "run/p1/qemu.pipe"),
        }
        assert {file for file in files if file.startswith("/")} <= expected

    with (tmp_path / "open").open(encoding="utf-8") as file:
        os.set_inheritable(file.fileno(), True)
        live(make(), use)


def test_everything_in_the_run_directory_is_private(make: Make, tmp_path: Path) -> None:
    hypervisor = make()
    hypervisor.add_device(Channel("c0", "test"))

    async def use(pid: int) -> None:
        modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "run" / "p1").iterdir()}
        assert modes == dict.fromkeys(
            ("channel.c0.sock", "console.log", "console.sock", "monitor.sock", "qemu.log", "qemu.pipe"),
            0o600,
        )

    live(hypervisor, use)


def test_a_share_is_exactly_the_directory_that_was_named(make: Make, tmp_path: Path) -> None:
    directory = tmp_path / "a,path=,,etc,readonly=off"
    directory.mkdir()
    hypervisor = make()
    hypervisor.add_device(SharedDirectory("t,fsdev=x", directory))

    async def use(pid: int) -> None:
        opened = [fd for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.exists() and fd.is_dir()]
        assert len(opened) == 1
        assert opened[0].samefile(directory)

    live(hypervisor, use)


def test_a_long_run_directory_has_working_sockets(tmp_path: Path, make: Make) -> None:
    deep = tmp_path / ("d" * 200)
    hypervisor = make(run_dir=deep)
    hypervisor.add_device(Channel("c0", "test", deep / "chosen.sock"))

    async def use(pid: int) -> None:
        assert (deep / "chosen.sock").is_socket()
        (await hypervisor.open_channel("test")).close()

    live(hypervisor, use)
    assert sorted(path.name for path in deep.iterdir()) == ["console.log", "qemu.log"]


@pytest.mark.parametrize("bus", get_args(DiskBus))
@pytest.mark.parametrize("machine", get_args(Machine))
def test_as_many_devices_as_are_accepted_fit_into_a_vm_beside_a_disk(
    make: Make, tmp_path: Path, disk: Boot, machine: str, bus: str
) -> None:
    hypervisor = make(disk, options={"machine": machine, "disk_bus": bus})
    hypervisor.add_device(NetworkInterface(NetworkConfig(mode=NetworkMode.USER), "52:54:00:00:00:01"))
    shares, blocks = (24, 256) if bus == "scsi" else (12, 12)
    for number in range(shares):
        hypervisor.add_device(SharedDirectory(f"t{number}", tmp_path))
    for number in range(blocks):
        hypervisor.add_device(BlockDevice(f"d{number}", disk.image))
    for number in range(30):
        hypervisor.add_device(Channel(f"c{number}", f"n{number}"))
        hypervisor.add_device(GuestPort(f"p{number}", 1 + number))
    for device in (SharedDirectory("t", tmp_path), BlockDevice("d", disk.image), Channel("c", "n"), GuestPort("p", 99)):
        with pytest.raises(ConfigError, match="one device too many"):
            hypervisor.add_device(device)

    async def use(pid: int) -> None:
        pass

    live(hypervisor, use)


def target(descriptor: Path) -> Path | None:
    """Return what an entry of /proc/PID/fd leads to; None for one that was closed meanwhile."""
    try:
        return descriptor.readlink()
    except FileNotFoundError:
        return None


def test_a_disk_is_read_only_and_its_format_is_not_probed(make: Make, disk: Boot, tmp_path: Path) -> None:
    with disk.image.open("r+b") as file:
        file.write(b"QFI\xfb\x00\x00\x00\x03")  # what QEMU would take for an image that can name other files
    content = hashlib.sha256(disk.image.read_bytes()).digest()
    hypervisor = make(disk)

    async def use(pid: int) -> None:
        await hypervisor.aclose()  # QEMU's monitor has no other client now
        monitor = QMPClient()
        await monitor.connect(sockets.connect(tmp_path / "run" / "p1" / "monitor.sock", pid))
        try:
            blocks: Any = await monitor.execute("query-block")
        finally:
            await monitor.disconnect()
        facts = blocks[0]["inserted"]
        assert (facts["drv"], facts["ro"]) == ("raw", True)
        assert facts["image"]["virtual-size"] == disk.image.stat().st_size
        assert Path(f"/proc/{pid}/root{facts['file']}").samefile(disk.image)
        [opened] = [fd.name for fd in Path(f"/proc/{pid}/fd").iterdir() if str(target(fd)) == facts["file"]]
        flags = Path(f"/proc/{pid}/fdinfo/{opened}").read_text(encoding="utf-8").split("flags:")[1].split()[0]
        assert int(flags, 8) & os.O_ACCMODE == os.O_RDONLY

    live(hypervisor, use)
    assert hashlib.sha256(disk.image.read_bytes()).digest() == content


def test_pods_share_a_disk(make: Make, disk: Boot, tmp_path: Path) -> None:
    async def use(pid: int) -> None:
        other = make(disk, run_dir=tmp_path / "run" / "p2")
        await other.prepare(60)
        await other.stop(10)
        await other.aclose()

    live(make(disk), use)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("global", "virtio-rng-pci.max-bytes=64"),
        ("icount", "shift=auto,align=off,sleep=on"),
        ("overcommit", "mem-lock=off,cpu-pm=off"),
        ("rtc", "base=2030-01-01T00:00:00,clock=vm,driftfix=slew"),
    ],
)
def test_qemu_accepts_each_parameter_that_a_caller_may_give(make: Make, name: str, value: str) -> None:
    async def use(pid: int) -> None:
        assert f"\0-{name}\0{value}\0" in Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")

    live(make(hypervisor_params=[Param(name, value)]), use)


def test_a_vm_is_prepared_once_and_has_its_devices_before(make: Make) -> None:
    hypervisor = make()

    async def use(pid: int) -> None:
        with pytest.raises(StateError, match="too late to prepare it"):
            await hypervisor.prepare(1)
        with pytest.raises(StateError, match="too late to add a device"):
            hypervisor.add_device(Channel("c0", "test"))

    live(hypervisor, use)


# Channels


def test_a_channel_that_the_vm_does_not_have_is_named_with_those_it_has(make: Make) -> None:
    hypervisor = make()
    hypervisor.add_device(Channel("c0", "one"))
    hypervisor.add_device(Channel("c1", "two"))

    async def use(pid: int) -> None:
        with pytest.raises(HypervisorError, match="has no channel 'three'; it has 'one', 'two'"):
            await hypervisor.open_channel("three")

    live(hypervisor, use)


def test_a_channel_can_be_opened_again_and_again(make: Make) -> None:
    hypervisor = make()
    hypervisor.add_device(Channel("c0", "test"))

    async def use(pid: int) -> None:
        for _ in range(50):
            with await hypervisor.open_channel("test") as channel:
                assert channel.gettimeout() == 0
                await hypervisor.pause()  # QEMU has looked at its sockets

    live(hypervisor, use)
