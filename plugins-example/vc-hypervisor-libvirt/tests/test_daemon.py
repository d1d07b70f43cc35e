"""What a daemon adds to the life of a VM: it is restarted, it is gone, it keeps what a dead owner asked for."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from vc_core.driver import Boot, HypervisorConfig, PodContext, ProcessIdentity, Resources
from vc_core.errors import HypervisorError
from vc_hypervisor_libvirt import daemon, virsh
from vc_hypervisor_libvirt.config import LibvirtConfig
from vc_hypervisor_libvirt.hypervisor import LibvirtHypervisor

pytestmark = [pytest.mark.vm("libvirt"), pytest.mark.root, pytest.mark.slow, pytest.mark.usefixtures("libvirt")]

UUID = "0fd83b5c-5a59-5f3a-9d0c-3c1c1f5a3c01"
TIMEOUT = 60.0


@pytest.fixture
def pod(tmp_path: Path, built: Boot) -> PodContext:
    (tmp_path / "share").mkdir()
    return PodContext("p1", UUID, tmp_path, tmp_path / "share", Resources(memory=256), HypervisorConfig(), built)


@pytest.fixture
def namespace() -> Iterator[Path]:
    """Return the path of a mount namespace that is not this process'."""
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", "echo; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        yield Path(f"/proc/{process.pid}/ns/mnt")


async def domains() -> list[str]:
    return (await virsh.run(LibvirtConfig().daemon(), "list", "--all", "--uuid")).split()


def identity(vm: LibvirtHypervisor) -> ProcessIdentity:
    found = vm.identity()
    assert found is not None
    return found


def test_a_vm_outlives_its_daemon_and_the_next_daemon_controls_it(pod: PodContext, directory: Path) -> None:
    async def main() -> None:
        vm = LibvirtHypervisor(pod, LibvirtConfig(uri=daemon.uri(directory)), None)
        await asyncio.to_thread(daemon.start, directory)
        try:
            await vm.prepare(TIMEOUT)
            await vm.start(TIMEOUT)
            waiting = asyncio.create_task(vm.wait())
            await asyncio.to_thread(daemon.stop, directory)
            with pytest.raises(HypervisorError, match=r"Failed to connect"):
                await vm.pause()
            await asyncio.to_thread(daemon.start, directory)
            await vm.pause()
            await vm.resume()
            assert not waiting.done()
            await asyncio.to_thread(daemon.stop, directory)
        finally:
            await vm.stop(TIMEOUT)
            await vm.aclose()
        assert (await waiting).expected
        assert not identity(vm).alive()
        await asyncio.to_thread(daemon.start, directory)
        assert await virsh.run(daemon.uri(directory), "list", "--all", "--uuid") == ""

    asyncio.run(main())


def test_what_a_dead_start_left_is_discarded_by_the_uuid_of_the_pod(pod: PodContext) -> None:
    async def main() -> None:
        dead, heir = (LibvirtHypervisor(replace(pod, boot=boot), LibvirtConfig(), None) for boot in (pod.boot, None))
        await heir.discard(TIMEOUT)  # nothing is there
        try:
            await dead.prepare(TIMEOUT)
            await dead.aclose()
            assert pod.uuid in await domains()
            for _ in range(2):
                await heir.discard(TIMEOUT)
            assert pod.uuid not in await domains()
            assert not identity(dead).alive()
        finally:
            await dead.stop(TIMEOUT)
            await dead.aclose()

    asyncio.run(main())


def test_a_vm_is_in_the_mount_namespace_of_its_pod(pod: PodContext, namespace: Path) -> None:
    async def main() -> None:
        vm = LibvirtHypervisor(replace(pod, mount_namespace=namespace), LibvirtConfig(), None)
        try:
            await vm.prepare(TIMEOUT)
            its = Path(f"/proc/{identity(vm).pid}/ns/mnt").readlink()
            assert its == namespace.readlink() != Path("/proc/self/ns/mnt").readlink()
        finally:
            await vm.stop(TIMEOUT)
            await vm.aclose()
        assert {one.name for one in pod.run_dir.iterdir()} == {"share", "console.log"}

    asyncio.run(main())


def test_a_vm_is_not_made_in_a_namespace_that_is_gone(pod: PodContext) -> None:
    async def main() -> None:
        gone = Path(f"/proc/{2**22 + 1}/ns/mnt")
        vm = LibvirtHypervisor(replace(pod, mount_namespace=gone), LibvirtConfig(), None)
        with pytest.raises(HypervisorError, match="nsenter"):
            await vm.prepare(TIMEOUT)
        assert pod.uuid not in await domains()
        await vm.stop(TIMEOUT)

    asyncio.run(main())


def test_the_reason_of_a_panic_is_the_kernels_own_message(pod: PodContext, built: Boot) -> None:
    async def main() -> None:
        boot = replace(built, params=("rdinit=/missing", "root=/dev/missing"))
        vm = LibvirtHypervisor(replace(pod, boot=boot), LibvirtConfig(), None)
        try:
            await vm.prepare(TIMEOUT)
            await vm.start(TIMEOUT)
            async with asyncio.timeout(TIMEOUT):
                exit_ = await vm.wait()
        finally:
            await vm.stop(TIMEOUT)
            await vm.aclose()
        assert not exit_.expected
        assert exit_.reason.startswith("the guest's kernel panicked: VFS: Unable to mount root fs")

    asyncio.run(main())
