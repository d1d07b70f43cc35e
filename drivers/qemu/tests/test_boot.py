"""Real boots of a Debian guest with the init of guest_init.c."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from qemu_vms import ANSWER, BOOT, ask, booted, receive

from vc_core.driver import BlockDevice, Boot, Channel, HypervisorConfig, Resources, SharedDirectory, VMExit
from vc_hypervisor_qemu.config import Machine, QemuConfig
from vc_hypervisor_qemu.hypervisor import QemuHypervisor
from vc_hypervisor_qemu.kernel import COMMAND_LINE_MAX, command_line, emulation_params
from vc_hypervisor_qemu.tsc import kernel_params

Make = Callable[..., QemuHypervisor]

pytestmark = pytest.mark.vm


@pytest.mark.parametrize("machine", get_args(Machine))
def test_a_guest_runs_pauses_is_taken_over_and_shares_a_directory(
    make: Make, guest_boot: Boot, tmp_path: Path, machine: Machine
) -> None:
    """One boot of each machine for all that a running guest must show."""
    shared = tmp_path / "a, b"
    shared.mkdir()
    (shared / "greeting").write_text("hello from the host\n", encoding="utf-8")
    # The longest command line that is accepted; one byte more, and the kernel would hang without a message.
    config = QemuConfig(machine=machine)
    measured = kernel_params(config, HypervisorConfig(), "tcg")
    timer = emulation_params(config, Resources(), "tcg")
    room = COMMAND_LINE_MAX - len(command_line((*measured, *timer, *guest_boot.params, "vc.note=")))
    note = f"vc.note={'x,y=z'.ljust(room, '.')}"
    boot = Boot(guest_boot.kernel, guest_boot.image, True, (note, *guest_boot.params))

    async def run() -> None:
        hypervisor = make(boot, options={"machine": machine})
        hypervisor.add_device(Channel("odd", "odd,name=test"))
        hypervisor.add_device(Channel("test", "test"))
        hypervisor.add_device(SharedDirectory("share,tag", shared))
        async with booted(hypervisor) as channel:
            assert note in await ask(channel, "/proc/cmdline")
            assert await ask(channel, "/share/greeting") == "hello from the host"
            assert await ask(channel, "/sys/class/virtio-ports/vport1p1/name") == "odd,name=test"

            await hypervisor.pause()
            await asyncio.get_running_loop().sock_sendall(channel, b"/share/greeting\n")
            with pytest.raises(TimeoutError):
                await receive(channel, 0.3)
            await hypervisor.resume()
            assert await receive(channel, ANSWER) == "hello from the host"

            assert await ask(channel, "SAY") == "SAID"
            expected = "\n".join(f"line {number} red" for number in range(20, 30))
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # the loop has looked at its descriptors once
            assert hypervisor.console_tail() == expected

            channel.close()
            await hypervisor.aclose()
            heir = make(boot=None, saved=hypervisor.save())
            try:
                with await heir.open_channel("test") as again:
                    assert await ask(again, "/share/greeting") == "hello from the host"
                    assert heir.console_tail() == expected
                    await heir.resume()  # it has QEMU's ear, so that it hears of the end
                    await asyncio.get_running_loop().sock_sendall(again, b"POWEROFF\n")
                    assert await heir.wait() == VMExit(expected=False, reason="the guest powered off")
            finally:
                await heir.stop(10)
                await heir.aclose()

    asyncio.run(run())


def test_a_guest_reads_its_image_as_first_disk_and_cannot_change_it(
    make: Make, guest_boot: Boot, disk: Boot, tmp_path: Path
) -> None:
    """Debian's kernel needs an initramfs beside the disk, for it has the disk's driver as a module only."""
    qemu, initramfs = tmp_path / "bin/qemu-system-x86_64", tmp_path / "lib/initramfs"
    for path in (qemu, initramfs):
        path.parent.mkdir()
    initramfs.write_bytes(guest_boot.image.read_bytes())  # in the jail, as a part of what the program belongs to
    qemu.write_text(f'#!/bin/sh\nexec qemu-system-x86_64 "$@" -initrd {initramfs}\n', encoding="utf-8")
    qemu.chmod(0o755)
    content = disk.image.read_bytes()
    other = tmp_path / "other"
    other.write_bytes(b"hello from another\n".ljust(1 << 20, b"\0"))

    async def run() -> None:
        boot = Boot(guest_boot.kernel, disk.image, False, guest_boot.params)
        hypervisor = make(boot, options={"disk_bus": "virtio"}, hypervisor_path=str(qemu))
        hypervisor.add_device(BlockDevice("other", other))
        hypervisor.add_device(Channel("test", "test"))
        async with booted(hypervisor) as channel:
            assert await ask(channel, "/dev/vda") == "hello from the disk"
            assert await ask(channel, f"/dev/{hypervisor.disk_location('other').name}") == "hello from another"
            assert await ask(channel, "WRITE /dev/vda") == "Operation not permitted"

    asyncio.run(run())
    assert disk.image.read_bytes() == content


def test_a_kernel_that_cannot_mount_its_disk_is_quoted(make: Make, guest_boot: Boot, disk: Boot) -> None:
    async def run() -> None:
        hypervisor = make(Boot(guest_boot.kernel, disk.image, False, (*guest_boot.params, "root=/dev/vda")))
        try:
            await hypervisor.prepare(60)
            await hypervisor.start(60)
            async with asyncio.timeout(BOOT):
                reason = "the guest's kernel panicked: VFS: Unable to mount root fs on unknown-block(0,0)"
                assert await hypervisor.wait() == VMExit(False, reason)
        finally:
            await hypervisor.stop(10)
            await hypervisor.aclose()

    asyncio.run(run())


def test_the_reason_of_a_guests_end_is_returned(make: Make, guest_boot: Boot, tmp_path: Path) -> None:
    """Three guests at once, which do not meet; QEMU ends them all by exiting with status 0."""

    async def end_by(command: str) -> tuple[VMExit, str]:
        hypervisor = make(guest_boot, run_dir=tmp_path / "run" / command)
        hypervisor.add_device(Channel("test", "test"))
        async with booted(hypervisor) as channel:
            await asyncio.get_running_loop().sock_sendall(channel, command.encode())
            async with asyncio.timeout(ANSWER):
                return await hypervisor.wait(), hypervisor.console_tail()

    async def run() -> None:
        (off, _), (reset, _), (panic, console) = await asyncio.gather(*map(end_by, ("POWEROFF", "REBOOT", "PANIC")))
        assert off == VMExit(False, "the guest powered off")
        assert reset == VMExit(False, "the guest reset itself")
        assert panic == VMExit(False, "the guest's kernel panicked: Attempted to kill init! exitcode=0x00000100")
        assert "Kernel Offset" in console

    asyncio.run(run())
