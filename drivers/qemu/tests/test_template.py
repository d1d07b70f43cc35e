"""Templates: a saved VM, its clones, and which VMs can be clones of which."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import socket
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from qemu.qmp import QMPClient
from qemu_vms import ask, booted, left_in, pid_of

from vc_core.driver import (
    BlockDevice,
    Boot,
    Channel,
    HypervisorConfig,
    NetworkConfig,
    NetworkInterface,
    NetworkMode,
    PodContext,
    PortForward,
    Resources,
    SharedDirectory,
)
from vc_core.errors import HypervisorError
from vc_hypervisor_qemu import sockets
from vc_hypervisor_qemu.config import JailWanted, QemuConfig
from vc_hypervisor_qemu.hypervisor import QemuHypervisor

Make = Callable[..., QemuHypervisor]

TEST = Channel("test", "test")


# -- kinds -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def kind(make: Make, tmp_path: Path) -> Callable[..., str]:
    """Return the kind of a VM with these devices and options."""

    def kind(*devices: Any, **options: Any) -> str:
        hypervisor = make(**options)
        for device in devices:
            hypervisor.add_device(device)
        return asyncio.run(hypervisor.kind(10))

    return kind


def user_network(**values: Any) -> NetworkInterface:
    mac = values.pop("mac", "52:54:00:00:00:01")
    return NetworkInterface.of(NetworkConfig(mode=NetworkMode.USER, **values), mac)


def tap_network(device: str) -> NetworkInterface:
    return NetworkInterface.of(NetworkConfig(mode=NetworkMode.TAP, device=device), "52:54:00:00:00:01")


def test_what_is_a_pods_own_does_not_change_the_kind(kind: Callable[..., str], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))
    first = kind(TEST, SharedDirectory("t", tmp_path), user_network())
    second = kind(
        replace(TEST, host_path=tmp_path / "s"),
        SharedDirectory("t", tmp_path / "other"),
        user_network(mac="52:54:00:00:00:02", forwards=(PortForward(80),)),
        BlockDevice("d", disk),
        run_dir=tmp_path / "run" / "p2",
    )
    assert first == second != ""
    assert kind(tap_network("tap0")) == kind(replace(tap_network("tap1"), detached=True))


def test_all_else_changes_the_kind(kind: Callable[..., str], tmp_path: Path, unbootable: Boot) -> None:
    kernel = tmp_path / "kernel"
    kernel.write_bytes(unbootable.kernel.read_bytes())
    kinds = [
        kind(TEST),
        kind(),
        kind(replace(TEST, name="other")),
        kind(TEST, SharedDirectory("t", tmp_path)),
        kind(TEST, SharedDirectory("t", tmp_path, read_only=False)),
        kind(TEST, SharedDirectory("u", tmp_path)),
        kind(TEST, user_network()),
        kind(TEST, user_network(restrict=False)),
        kind(TEST, tap_network("tap0")),
        kind(TEST, resources=Resources(memory=300)),
        kind(TEST, resources=Resources(vcpus=2)),
        kind(TEST, options={"machine": "microvm"}),
        kind(TEST, options={"cpu": "Haswell"}),
        kind(TEST, boot=replace(unbootable, params=("x=1",))),
        kind(TEST, boot=replace(unbootable, kernel=kernel)),
    ]
    os.utime(kernel, (1, 1))
    kinds.append(kind(TEST, boot=replace(unbootable, kernel=kernel)))
    assert "" not in kinds
    assert len(set(kinds)) == len(kinds)


def test_what_cannot_be_cloned_has_no_kind(kind: Callable[..., str], disk: Boot, tmp_path: Path) -> None:
    assert kind(TEST, boot=disk) == ""
    assert kind(TEST, BlockDevice("d", disk.image), options={"disk_bus": "virtio"}) == ""


# -- clones ------------------------------------------------------------------------------------------------------------

Content = dict[str, tuple[str, int]]


def content(directory: Path) -> Content:
    """Return the hash and the time of change of each file of a template."""
    return {
        one.name: (hashlib.sha256(one.read_bytes()).hexdigest(), one.stat().st_mtime_ns) for one in directory.iterdir()
    }


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, guest_boot: Boot) -> Path:
    """A template whose guest answers on the channel "test", and has said hello to its host before it was saved."""
    top = tmp_path_factory.mktemp("template")
    directory = top / "files"
    directory.mkdir(mode=0o700)

    async def save() -> None:
        hypervisor = _hypervisor(top / "run", guest_boot)
        hypervisor.use_template(directory, True)
        async with booted(hypervisor) as channel:
            assert await ask(channel, "/proc/sys/kernel/hostname") == "(none)"
            channel.close()
            await hypervisor.save_template(10)

    asyncio.run(save())
    return directory


def _hypervisor(run_dir: Path, boot: Boot, jail: JailWanted = "best") -> QemuHypervisor:
    """Return the object of a pod with the channel "test" and little memory."""
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    pod = PodContext(
        id="p1",
        uuid=str(uuid.uuid5(uuid.NAMESPACE_OID, str(run_dir))),
        run_dir=run_dir,
        share_dir=run_dir,
        resources=Resources(memory=128),
        hypervisor_config=HypervisorConfig(),
        boot=boot,
    )
    hypervisor = QemuHypervisor(pod, QemuConfig(jail=jail), None)
    hypervisor.add_device(TEST)
    return hypervisor


@asynccontextmanager
async def cloned(hypervisor: QemuHypervisor, template: Path) -> AsyncIterator[socket.socket]:
    """Start a clone; yield the channel on which its guest executes commands; end it in any case."""
    hypervisor.use_template(template, False)
    try:
        await hypervisor.prepare(60)
        await hypervisor.start(60)
        with await hypervisor.open_channel("test") as channel:
            yield channel
    finally:
        await hypervisor.stop(10)
        await hypervisor.aclose()


@pytest.mark.vm
@pytest.mark.parametrize("jail", ["best", "landlock"])
def test_a_clone_goes_on_where_its_template_was_saved_and_cannot_write_to_it(
    template: Path, guest_boot: Boot, tmp_path: Path, jail: JailWanted
) -> None:
    before = content(template)
    run_dir = tmp_path / "run" / "p1"

    async def run() -> None:
        hypervisor = _hypervisor(run_dir, guest_boot, jail)
        async with cloned(hypervisor, template) as channel:
            assert await ask(channel, "/proc/sys/kernel/ostype") == "Linux"
            pid = pid_of(hypervisor)
            maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines()
            [mapping] = [line.split() for line in maps if line.endswith("/memory")]
            assert mapping[1] == "rw-p"
            await _open_for_writing(hypervisor, run_dir, mapping[-1])
            opened = _access_modes(pid, "memory")
            assert set(opened) == {os.O_RDONLY}
            assert len(opened) >= 2  # that of its memory, and what it could open more

    asyncio.run(run())
    assert content(template) == before
    assert left_in(tmp_path) == ["console.log", "qemu.log"]


def _access_modes(pid: int, name: str) -> list[int]:
    """Return the access modes with which a process has files of a name open."""
    modes = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            if descriptor.readlink().name == name:
                information = Path(f"/proc/{pid}/fdinfo/{descriptor.name}").read_text(encoding="utf-8")
                modes.append(int(information.split("flags:")[1].split()[0], 8) & os.O_ACCMODE)
    return modes


async def _open_for_writing(hypervisor: QemuHypervisor, run_dir: Path, path: str) -> None:
    """Let QEMU open a file for writing over its own monitor, to which no client is connected."""
    await hypervisor.aclose()
    monitor = QMPClient()
    await monitor.connect(sockets.connect(run_dir / "monitor.sock", pid_of(hypervisor)))
    try:
        node = {"node-name": "n", "driver": "file", "filename": path, "read-only": False, "locking": "off"}
        await monitor.execute("blockdev-add", node)
    finally:
        await monitor.disconnect()


@pytest.mark.vm
def test_a_clone_has_the_disks_of_its_pod_from_the_start_and_can_be_taken_over(
    template: Path, guest_boot: Boot, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"cold\n".ljust(1 << 20, b"\0"))

    async def run() -> None:
        hypervisor = _hypervisor(tmp_path / "run" / "p1", guest_boot)
        hypervisor.add_device(BlockDevice("d", disk))
        async with cloned(hypervisor, template) as channel:
            name = await ask(channel, f"DISK {hypervisor.disk_location('d').scsi}")
            assert await ask(channel, f"/dev/{name}") == "cold"
            channel.close()
            await hypervisor.aclose()
            heir = QemuHypervisor(hypervisor._pod, QemuConfig(), json.loads(json.dumps(hypervisor.save())))
            await heir.pause()
            await heir.resume()
            await heir.detach("d", 10)
            with await heir.open_channel("test") as again:
                assert await ask(again, "NODISK 0:0") == ""
            await heir.stop(10)
            await heir.aclose()

    asyncio.run(run())


@pytest.mark.vm
@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("memory", b"short", "other sizes"),
        ("state", b"", "other sizes"),
        ("state", bytes(100_000), "did not start: QEMU"),
        ("state", None, "No such file"),
    ],
    ids=["memory", "empty", "garbage", "missing"],
)
def test_a_template_that_is_broken_starts_no_clone_and_leaves_nothing(
    template: Path, guest_boot: Boot, tmp_path: Path, name: str, data: bytes | None, text: str
) -> None:
    broken = Path(shutil.copytree(template, tmp_path / "broken"))
    (broken / name).unlink() if data is None else (broken / name).write_bytes(data)

    async def run() -> None:
        hypervisor = _hypervisor(tmp_path / "run" / "p1", guest_boot)
        with pytest.raises(HypervisorError, match=text):
            async with cloned(hypervisor, broken):
                pass

    asyncio.run(run())
    assert left_in(tmp_path) == []
