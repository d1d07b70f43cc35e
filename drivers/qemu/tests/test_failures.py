"""A VM that cannot be prepared: the error names the cause, and nothing is left."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from qemu_vms import Make, left_in, live

from vc_core.driver import (
    Boot,
    Channel,
    Param,
    Resources,
    SharedDirectory,
)
from vc_core.errors import ConfigError, VCError, VMStartError, VMTimeoutError
from vc_core.testing.slowness import within
from vc_hypervisor_qemu.hypervisor import QemuHypervisor
from waiting import PATIENCE

pytestmark = pytest.mark.slow


def fake_qemu(directory: Path, does: str) -> str:
    """Return the path of a program that poses as QEMU, to misbehave. It sees what QEMU would see of the host."""
    path = directory / "qemu-system-x86_64"
    path.write_text(f"#!/bin/sh\n{does}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def failing(hypervisor: QemuHypervisor, error: type[VCError], text: str, timeout: float = 5) -> None:
    """Prepare in vain: the error is right, and the census of each test finds no process or descriptor left."""

    async def run() -> None:
        with pytest.raises(error, match=text):
            await hypervisor.prepare(timeout)
        assert hypervisor.identity() is None
        await hypervisor.stop(1)

    asyncio.run(run())


def test_a_kernel_that_qemu_cannot_load_is_reported_with_qemus_message(
    make: Make, tmp_path: Path, unbootable: Boot
) -> None:
    (tmp_path / "vmlinux").write_bytes(b"\x7fELF" + bytes(1000))
    text = r"pod 'p1' did not start: QEMU exited with status 1: qemu-system-x86_64: .*(kernel|ELF)"
    failing(make(Boot(tmp_path / "vmlinux", unbootable.image, True, ())), VMStartError, text)
    assert left_in(tmp_path) == []


def test_a_missing_share_is_reported(make: Make, tmp_path: Path) -> None:
    hypervisor = make()
    hypervisor.add_device(SharedDirectory("t", tmp_path / "missing"))
    failing(hypervisor, VMStartError, "missing' cannot be opened: No such file or directory$")
    assert left_in(tmp_path) == []


def test_a_qemu_that_cannot_be_executed_is_reported(make: Make, tmp_path: Path) -> None:
    binary = tmp_path / "qemu-system-x86_64"
    binary.write_bytes(b"\x7fELF, but not really")
    binary.chmod(0o755)
    failing(make(hypervisor_path=binary), VMStartError, "cannot be started: Exec format error")
    assert left_in(tmp_path) == []


def test_a_qemu_that_dies_by_a_signal_is_reported(make: Make, tmp_path: Path) -> None:
    hypervisor = make(hypervisor_path=fake_qemu(tmp_path, "kill -SEGV $$"))
    failing(hypervisor, VMStartError, "killed by SIGSEGV")
    assert left_in(tmp_path) == []


def test_a_qemu_that_floods_its_output_is_reported_with_its_last_lines(make: Make, tmp_path: Path) -> None:
    does = "i=0; while [ $i -lt 900 ]; do echo line $i >&2; i=$((i+1)); done; exit 3"
    failing(make(hypervisor_path=fake_qemu(tmp_path, does)), VMStartError, "status 3: line 897; line 898; line 899$")
    assert left_in(tmp_path) == []


@pytest.mark.promise("T05")
def test_a_qemu_that_never_answers_is_killed_at_the_timeout(make: Make, tmp_path: Path) -> None:
    with within(2):
        failing(make(hypervisor_path=fake_qemu(tmp_path, "exec sleep 1000")), VMTimeoutError, "does not answer", 0.5)
    assert left_in(tmp_path) == []


def children() -> set[str]:
    """Return the pids of the processes that this thread has started."""
    return set(Path("/proc/thread-self/children").read_text(encoding="utf-8").split())


@pytest.mark.parametrize("delay", [0, 0.001, 0.002, 0.005, 0.02])
def test_a_prepare_that_is_cancelled_leaves_nothing(make: Make, tmp_path: Path, delay: float) -> None:
    hypervisor = make(hypervisor_path=fake_qemu(tmp_path, "exec sleep 1000"))

    async def run() -> None:
        before = children()
        task = asyncio.create_task(hypervisor.prepare(60))
        async with asyncio.timeout(PATIENCE):
            while children() == before:  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(0)
        await asyncio.sleep(delay)  # in which the launcher makes some of its processes
        assert left_in(tmp_path) != []
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert left_in(tmp_path) == []


def test_a_bad_kernel_or_image_is_refused_before_qemu_starts(make: Make, tmp_path: Path, unbootable: Boot) -> None:
    failing(make(Boot(Path(__file__), unbootable.image, True, ())), ConfigError, "neither an ELF")
    failing(make(Boot(unbootable.kernel, unbootable.image, True, ("a b",))), ConfigError, "kernel parameter")
    assert left_in(tmp_path) == []


def test_resources_and_parameters_are_checked_when_the_object_is_made(make: Make) -> None:
    with pytest.raises(ConfigError, match="memory"):
        make(resources=Resources(memory=1))
    with pytest.raises(ConfigError, match="init"):
        make(kernel_params=[Param("init", "/bin/sh")])
    with pytest.raises(ConfigError, match="hypervisor_path '/usr/bin/qemu-system-aarch64' is not QEMU for this host"):
        make(hypervisor_path="/usr/bin/qemu-system-aarch64")


def test_a_channels_path_that_is_in_use_is_refused(make: Make, tmp_path: Path) -> None:
    place = tmp_path / "chosen.sock"
    hypervisor = make()
    hypervisor.add_device(Channel("c0", "test", place))
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(str(place))
        stranger.listen()
        failing(hypervisor, VMStartError, "chosen.sock' cannot be made: a process listens there")
    assert place.is_socket()
    assert left_in(tmp_path) == []


def test_a_run_directory_that_cannot_be_used_is_reported(make: Make, tmp_path: Path) -> None:
    hypervisor = make()
    in_the_way = tmp_path / "run" / "p1" / "qemu.pipe"
    in_the_way.mkdir()
    failing(hypervisor, VMStartError, "the VM of pod 'p1' cannot be started: .*qemu.pipe")
    assert left_in(tmp_path) == ["qemu.pipe"]
    in_the_way.rmdir()
    in_the_way.parent.rmdir()
    failing(hypervisor, VMStartError, "monitor.sock' cannot be made: No such file")


def test_stale_files_of_an_earlier_vm_are_replaced(make: Make, tmp_path: Path) -> None:
    run_dir = tmp_path / "run" / "p1"
    run_dir.mkdir(parents=True)
    for name in ("monitor.sock", "console.sock"):
        with socket.socket(socket.AF_UNIX) as old:
            old.bind(str(run_dir / name))
    (run_dir / "qemu.pipe").symlink_to(tmp_path / "precious")
    (run_dir / "console.log").write_text("old", encoding="utf-8")

    async def use(pid: int) -> None:
        assert hypervisor.console_tail() == ""

    hypervisor = make()
    live(hypervisor, use)
    assert not (tmp_path / "precious").exists()
