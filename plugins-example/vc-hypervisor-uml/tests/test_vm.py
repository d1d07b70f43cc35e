"""Kernels that really run: their ends, their consoles, and what remains of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from vc_core.driver import (
    BlockDevice,
    Boot,
    Channel,
    Device,
    HypervisorConfig,
    PodContext,
    Resources,
    SharedDirectory,
    VMExit,
)
from vc_core.errors import ConfigError
from vc_core.testing.slowness import scaled
from vc_hypervisor_uml.hypervisor import UmlHypervisor

pytestmark = [pytest.mark.vm("uml"), pytest.mark.root]

TIMEOUT = scaled(60.0)


@asynccontextmanager
async def running(pod: PodContext, boot: Boot, *devices: Device) -> AsyncIterator[UmlHypervisor]:
    vm = UmlHypervisor(replace(pod, boot=boot), None)
    for device in devices:
        vm.add_device(device)
    try:
        await vm.prepare(TIMEOUT)
        await vm.start(TIMEOUT)
        yield vm
    finally:
        await vm.stop(TIMEOUT)
        await vm.aclose()


def end_of(pod: PodContext, boot: Boot, *devices: Device) -> tuple[VMExit, str]:
    """Run a VM to its end; return how it ended and the last lines of its console."""

    async def main() -> tuple[VMExit, str]:
        async with running(pod, boot, *devices) as vm, asyncio.timeout(TIMEOUT):
            return await vm.wait(), vm.console_tail()

    return asyncio.run(main())


def test_a_guest_that_powers_off_ends_its_vm(pod: PodContext, booting: Callable[[str], Boot]) -> None:
    exit_, _ = end_of(pod, booting("echo bye; /bin/busybox poweroff -f"))
    assert exit_ == VMExit(expected=False, reason="the guest powered off")
    assert b"\nbye" in (pod.run_dir / "console.log").read_bytes()


def test_the_reason_of_a_panic_is_the_kernels_own_message(pod: PodContext, booting: Callable[[str], Boot]) -> None:
    exit_, _ = end_of(pod, booting("exit 3"))
    assert exit_.reason == "the guest's kernel panicked: Attempted to kill init! exitcode=0x00000300"


def test_a_kernel_that_ends_early_is_quoted(pod: PodContext, booting: Callable[[str], Boot], tmp_path: Path) -> None:
    (tmp_path / "kernel").write_text("#!/bin/sh\necho no kernel today >&2\nexit 3\n", encoding="utf-8")
    (tmp_path / "kernel").chmod(0o755)
    exit_, _ = end_of(pod, replace(booting(""), kernel=tmp_path / "kernel"))
    assert exit_.reason == "User Mode Linux exited with status 3: no kernel today"


def test_an_image_that_cannot_be_read_is_refused(
    pod: PodContext, booting: Callable[[str], Boot], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="missing"):
        end_of(pod, replace(booting(""), image=tmp_path / "missing"))


def test_the_guest_sees_shares_disks_and_only_what_it_may_write(
    pod: PodContext, booting: Callable[[str], Boot], tmp_path: Path
) -> None:
    (pod.share_dir / "file").write_text("shared\n", encoding="utf-8")
    disk = tmp_path / "disk"
    disk.write_bytes(b"on a disk\n".ljust(4096, b"\0"))
    before = disk.read_bytes()
    script = """
        /bin/busybox mkdir /s; /bin/busybox mount -t hostfs none /s -o /.; /bin/busybox cat /s/file
        /bin/busybox head -n 1 /dev/ubda; echo over >/dev/ubda; /bin/busybox poweroff -f"""
    _, console = end_of(pod, booting(script), SharedDirectory("s", pod.share_dir), BlockDevice("d", disk))
    assert "shared\non a disk\n" in console
    assert disk.read_bytes() == before


def test_a_channel_is_the_serial_line_that_a_parameter_names(pod: PodContext, booting: Callable[[str], Boot]) -> None:
    boot = booting("exec </dev/ttyS0 >/dev/ttyS0; /bin/busybox stty raw -echo; echo ready; exec /bin/busybox cat")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with running(pod, boot, Channel("c", "org.c")) as vm, asyncio.timeout(TIMEOUT):
            with await vm.open_channel("org.c") as channel:
                assert await loop.sock_recv(channel, 100) == b"ready\n"
                await loop.sock_sendall(channel, b"\x00\x03\xff\r\n")
                assert await loop.sock_recv(channel, 100) == b"\x00\x03\xff\r\n"

    asyncio.run(main())


def test_a_kernel_that_is_killed_alone_leaves_no_helpers(pod: PodContext, booting: Callable[[str], Boot]) -> None:
    async def main() -> None:
        boot = booting("/bin/busybox sleep 1000 & echo up >/dev/ttyS0; while :; do :; done")
        async with running(pod, boot, Channel("c", "org.c")) as vm, asyncio.timeout(TIMEOUT):
            with await vm.open_channel("org.c") as channel:
                assert await asyncio.get_running_loop().sock_recv(channel, 1) == b"u"
            processes = [int(one.name) for one in Path("/proc").iterdir() if in_directory(one, pod.run_dir)]
            assert len(processes) > 4, "the shell, the kernel, its helpers, the guest's processes"
            shell = vm.save()["process"]["pid"]  # type: ignore[index] # it is a mapping
            (kernel,) = [one for one in processes if parent(one) == shell]
            os.kill(kernel, 9)
            exit_ = await vm.wait()
            assert "137" in exit_.reason
            assert [one for one in Path("/proc").iterdir() if in_directory(one, pod.run_dir)] == []

    asyncio.run(main())


def parent(pid: int) -> int:
    """Return the parent of a process (proc(5), the fourth field of ``/proc/PID/stat``), 0 for one that has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def in_directory(process: Path, directory: Path) -> bool:
    try:
        return process.name.isdigit() and (process / "cwd").readlink() == directory
    except OSError:
        return False


@pytest.mark.parametrize(
    ("resources", "config", "says"),
    [
        (Resources(vcpus=2), HypervisorConfig(), "vcpus is 2"),
        (Resources(memory=10), HypervisorConfig(), "64 MiB at least"),
        (Resources(), HypervisorConfig(hypervisor_path="/bin/true"), "give kernel_path"),
    ],
)
def test_resources_and_programs_that_a_vm_cannot_have_are_refused_at_creation(
    pod: PodContext, resources: Resources, config: HypervisorConfig, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        UmlHypervisor(replace(pod, resources=resources, hypervisor_config=config), None)


def test_more_memory_than_dev_shm_has_room_for_is_refused(pod: PodContext, booting: Callable[[str], Boot]) -> None:
    async def main() -> None:
        vm = UmlHypervisor(replace(pod, resources=Resources(memory=10**7), boot=booting("")), None)
        with pytest.raises(ConfigError, match="/dev/shm"):
            await vm.prepare(TIMEOUT)

    asyncio.run(main())
