"""The checks of QEMU, memory, CPUs, kernel and image."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from vc_core.driver import Boot, Resources
from vc_core.errors import ConfigError
from vc_hypervisor_qemu import host


def binary(path: Path, mode: int = 0o755) -> str:
    path.write_text("#!/bin/sh\n", encoding="utf-8")
    path.chmod(mode)
    return str(path)


@pytest.mark.needs("qemu")
def test_without_a_hypervisor_path_qemu_is_looked_up_in_path() -> None:
    assert host.find_binary("").name == "qemu-system-x86_64"


def test_a_missing_qemu_is_reported_with_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert host.problems() == ["qemu-system-x86_64 is not installed; on Debian: apt install qemu-system-x86"]


def test_a_host_of_an_unsupported_architecture_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert host.problems() == ["hypervisor qemu supports x86_64; this host is riscv64"]


def test_the_hypervisor_path_selects_qemu(tmp_path: Path) -> None:
    given = binary(tmp_path / "qemu-system-x86_64")
    assert host.find_binary(given) == Path(given)


def test_a_bare_name_is_looked_up_in_path_and_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.chdir(tmp_path)
    binary(tmp_path / "qemu-kvm")
    with pytest.raises(ConfigError, match="qemu-kvm is not installed"):
        host.find_binary("qemu-kvm")
    there = binary(tmp_path / "bin" / "qemu-kvm")
    assert host.find_binary("qemu-kvm") == Path(there)


@pytest.mark.parametrize(
    ("name", "mode", "text"),
    [
        ("qemu-system-aarch64", 0o755, "is not QEMU for this host"),
        ("sh", 0o755, "is not QEMU for this host"),
        ("qemu-system-x86_64", 0o644, "is not executable"),
    ],
)
def test_what_is_not_qemu_for_this_host_is_refused(tmp_path: Path, name: str, mode: int, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        host.find_binary(binary(tmp_path / name, mode))


def test_a_missing_binary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        host.find_binary(str(tmp_path / "qemu-system-x86_64"))


def test_resources_that_the_host_has_are_accepted() -> None:
    host.check_resources(Resources())
    host.check_resources(Resources(memory=64, vcpus=8))


@pytest.mark.parametrize("memory", [1, 63, 10**9])
def test_memory_that_no_vm_on_this_host_can_have_is_refused(memory: int) -> None:
    with pytest.raises(ConfigError, match=f"memory is {memory} MiB; give 64 to"):
        host.check_resources(Resources(memory=memory))


def test_more_than_four_times_the_cpus_of_the_host_are_refused() -> None:
    most = max(8, 4 * (os.cpu_count() or 1))
    host.check_resources(Resources(vcpus=most))
    with pytest.raises(ConfigError, match=f"vcpus is {most + 1}; on this host give {most} at most"):
        host.check_resources(Resources(vcpus=most + 1))


def test_a_kernel_and_an_initramfs_are_accepted(unbootable: Boot, tmp_path: Path) -> None:
    assert host.check_boot(unbootable) is unbootable
    (tmp_path / "vmlinux").write_bytes(b"\x7fELF" + bytes(1024))
    elf = Boot(tmp_path / "vmlinux", unbootable.image, True, ())
    assert host.check_boot(elf) is elf


def test_memory_in_which_the_guest_cannot_boot_is_refused_with_the_least_that_it_needs(tmp_path: Path) -> None:
    kernel, image = tmp_path / "vmlinux", tmp_path / "initramfs"
    segments = b"".join(
        struct.pack("<IIQQQQQQ", kind, 0, 0, 0, address << 20, 1, size << 20, 0)
        for kind, address, size in ((1, 16, 20), (1, 40, 16), (4, 0, 9))
    )
    head = b"\x7fELF\x02\x01".ljust(32, b"\0") + struct.pack("<QQIHHHHHH", 64, 0, 0, 64, 56, 3, 0, 0, 0)
    kernel.write_bytes(head + segments)
    with image.open("wb") as file:
        file.truncate(12 << 20)
    host.check_memory(Boot(kernel, image, True, ()), 78)
    with pytest.raises(ConfigError, match="memory is 77 MiB, in which this guest cannot boot; give 78 MiB or more"):
        host.check_memory(Boot(kernel, image, True, ()), 77)
    host.check_memory(Boot(kernel, image, True, ("root=/dev/sda",)), 75)
    host.check_memory(Boot(kernel, image, False, ()), 75)
    kernel.write_bytes(b"\x7fELF")
    host.check_memory(Boot(kernel, image, True, ()), 37)


def test_a_pod_without_a_kernel_and_image_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a kernel"):
        host.check_boot(None)


@pytest.mark.parametrize("which", ["kernel", "image"])
def test_a_kernel_or_image_that_cannot_be_read_is_refused(unbootable: Boot, tmp_path: Path, which: str) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "directory").mkdir()
    for name, text in (("missing", "does not exist"), ("directory", "not a regular file"), ("empty", "is empty")):
        paths = {"kernel": unbootable.kernel, "image": unbootable.image, which: tmp_path / name}
        with pytest.raises(ConfigError, match=f"{which} .*{text}"):
            host.check_boot(Boot(**paths, image_is_initramfs=True, params=()))


def test_a_file_that_is_not_a_kernel_is_refused(unbootable: Boot) -> None:
    with pytest.raises(ConfigError, match="neither an ELF vmlinux nor a bzImage"):
        host.check_boot(Boot(Path(__file__), unbootable.image, True, ()))
