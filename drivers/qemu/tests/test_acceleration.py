"""KVM is chosen only where it works; the outcome of each trial is recorded."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import UUID

import pytest

from vc_core.driver import Boot, HypervisorConfig, PodContext, Resources
from vc_core.errors import VMStartError
from vc_core.testing.slowness import within
from vc_hypervisor_qemu import acceleration
from vc_hypervisor_qemu.acceleration import Host, choose, trial
from vc_hypervisor_qemu.config import Accelerator, QemuConfig
from vc_hypervisor_qemu.host import find_binary


def pod(run_dir: Path) -> PodContext:
    run_dir.mkdir(parents=True)
    return PodContext("p1", str(UUID(int=1)), run_dir, run_dir, Resources(), HypervisorConfig())


class World:
    """A host with KVM and a QEMU that notes each of its starts, all of paper."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pod = pod(directory / "run" / "p1")
        self.host = Host(kvm=directory / "kvm", cpuinfo=directory / "cpuinfo")
        self.host.kvm.touch()
        self.cpu("fpu vme vmx sse2")
        self.kernel = directory / "kernel"
        self.kernel.touch()
        self.binary = directory / "qemu-system-x86_64"
        self.qemu("echo 'VFS: Unable to mount root fs'")
        self.cache = directory / "run" / "acceleration.json"

    def cpu(self, flags: str) -> None:
        self.host.cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t:\n", encoding="utf-8")

    def qemu(self, does: str) -> None:
        self.binary.write_text(f'#!/bin/sh\necho "$@" >>{self.directory}/starts\n{does}\n', encoding="utf-8")
        self.binary.chmod(0o755)

    def starts(self) -> list[str]:
        path = self.directory / "starts"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def choose(self, accel: Accelerator = "auto", timeout: float = 5) -> str:
        config = QemuConfig(accel=accel)
        return asyncio.run(choose(self.pod, config, self.binary, self.kernel, timeout, self.host))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_kvm_is_used_where_a_kernel_boots_under_it(world: World) -> None:
    assert world.choose() == "kvm"
    assert "-accel kvm" in world.starts()[0]


@pytest.mark.parametrize("flags", ["fpu vmx", "svm fpu"])
def test_vmx_and_svm_both_allow_kvm(world: World, flags: str) -> None:
    world.cpu(flags)
    assert world.choose() == "kvm"


@pytest.mark.parametrize("flags", ["fpu sse2", "vmxoff svm_lock", ""])
def test_without_virtualization_in_the_cpu_no_trial_is_made(world: World, flags: str) -> None:
    world.cpu(flags)
    assert world.choose() == "tcg"
    assert world.starts() == []


def test_without_the_device_no_trial_is_made(world: World) -> None:
    world.host.kvm.unlink()
    assert world.choose() == "tcg"
    assert world.starts() == []


def test_the_option_tcg_selects_emulation_without_a_trial(world: World) -> None:
    assert world.choose("tcg") == "tcg"
    assert world.starts() == []


def test_a_kvm_that_hangs_is_given_up_at_the_timeout(world: World) -> None:
    world.qemu("exec sleep 1000")
    with within(2):
        assert world.choose(timeout=0.3) == "tcg"


def test_kvm_on_which_qemu_dies_is_not_used(world: World) -> None:
    world.qemu("echo 'assertion failed' >&2; kill -ABRT $$")
    assert world.choose() == "tcg"


def test_demanding_kvm_where_it_does_not_work_is_an_error_with_the_reason(world: World) -> None:
    world.qemu("echo 'assertion failed: ret == 0' >&2; kill -ABRT $$")
    with pytest.raises(VMStartError, match="KVM does not work: QEMU gave up: assertion failed: ret == 0; set"):
        world.choose("kvm")
    world.host.kvm.unlink()
    with pytest.raises(VMStartError, match="kvm cannot be opened: No such file"):
        world.choose("kvm")


@pytest.mark.parametrize(("does", "verdict"), [("echo 'Run /init as init process'", "kvm"), ("exit 1", "tcg")])
def test_the_outcome_of_a_trial_is_recorded(world: World, does: str, verdict: str) -> None:
    world.qemu(does)
    assert [world.choose(), world.choose()] == [verdict, verdict]
    assert len(world.starts()) == 1


def test_a_failure_within_a_shortened_timeout_is_not_recorded(world: World) -> None:
    idle = world.directory / "idle"
    world.qemu(f"[ ! -e {idle} ] && exec sleep 1000; echo 'Run /init as init process'")
    assert world.choose(timeout=0.2) == "tcg"
    idle.touch()
    assert world.choose() == "kvm"


def test_a_trial_that_outlives_its_supervisor_is_found_as_a_process_of_the_pod(world: World) -> None:
    world.qemu(f"pwd >{world.directory}/cwd; exit 1")
    world.choose()
    assert world.starts()[0].startswith(f"-name guest=p1 -uuid {world.pod.uuid} ")  # vc_core.host.processes.find_vms
    assert (world.directory / "cwd").read_text(encoding="utf-8") == f"{world.pod.run_dir}\n"


def test_a_new_kernel_or_qemu_is_tried_again(world: World) -> None:
    world.choose()
    world.kernel.write_text("new", encoding="utf-8")
    world.choose()
    world.qemu("echo 'Unable to mount root fs, but new'")
    world.choose()
    assert len(world.starts()) == 3


def test_after_a_boot_of_the_host_it_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.choose()
    monkeypatch.setattr(acceleration, "boot_id", lambda: "another")
    world.choose()
    assert len(world.starts()) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"boot": 1}', '{"outcomes": []}', "null"])
def test_a_damaged_record_of_outcomes_is_ignored(world: World, content: str) -> None:
    world.cache.write_text(content, encoding="utf-8")
    assert world.choose() == "kvm"
    assert world.choose() == "kvm"
    assert len(world.starts()) == 1


def test_a_record_of_outcomes_that_cannot_be_written_is_no_error(world: World) -> None:
    world.cache.mkdir()
    assert world.choose() == "kvm"
    assert [path.name for path in world.cache.parent.glob("acceleration.json*")] == ["acceleration.json"]


@pytest.mark.vm
def test_a_kernel_that_works_passes_the_trial(guest_boot: Boot, tmp_path: Path) -> None:
    """Under emulation, which works on every host: it is the trial that is tried."""
    assert asyncio.run(trial(pod(tmp_path / "p1"), QemuConfig(), find_binary(""), guest_boot.kernel, "tcg", 30)) == ""


@pytest.mark.slow
def test_a_kernel_that_does_not_work_fails_the_trial(unbootable: Boot, tmp_path: Path) -> None:
    assert asyncio.run(trial(pod(tmp_path / "p1"), QemuConfig(), find_binary(""), unbootable.kernel, "tcg", 1)) != ""


def test_an_outcome_that_cannot_be_recorded_is_found_again_by_the_next_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "write_text", read_only)
    monkeypatch.setattr(Path, "unlink", read_only)
    acceleration._write(tmp_path / "acceleration.json", "boot", {})
    assert list(tmp_path.iterdir()) == []
