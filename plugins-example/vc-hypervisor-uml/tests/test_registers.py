"""Kernels on CPUs with more registers than they have room for."""

from __future__ import annotations

import asyncio
import struct
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from vc_core.driver import Boot, PodContext
from vc_core.errors import ConfigError
from vc_core.testing import Plugins
from vc_core.testing.slowness import scaled
from vc_hypervisor_uml import package, registers
from vc_hypervisor_uml.hypervisor import UmlHypervisor

HERE = Path(__file__).parent

#: Bytes of registers of a CPU with AVX, with AVX-512, and with AMX.
AVX, AVX512, AMX = 832, 2696, 11008

OLD, NEW = b"Linux version 6.12.38 (", b"Linux version 6.13.0 ("
ELF, LOADER = b"\x7fELF", b"/lib64/ld-linux-x86-64.so.2"


@pytest.fixture
def kernel(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that makes a file that holds what a kernel is recognized by."""

    def kernel(*parts: bytes) -> Path:
        (tmp_path / "kernel").write_bytes(b"\0".join(parts))
        return tmp_path / "kernel"

    return kernel


def auxiliary(*entries: tuple[int, int]) -> bytes:
    return b"".join(struct.pack("=QQ", *entry) for entry in (*entries, (0, 0)))


@pytest.mark.parametrize("area", [AVX, AVX512])
def test_a_cpu_without_amx_needs_nothing(kernel: Callable[..., Path], area: int) -> None:
    assert registers.preload(kernel(ELF, OLD), area) is None


def test_a_cpu_with_amx_needs_the_library_for_an_old_kernel(kernel: Callable[..., Path]) -> None:
    assert registers.preload(kernel(ELF, LOADER, OLD), AMX) == registers.LIBRARY


def test_a_kernel_that_asks_for_the_size_needs_nothing(kernel: Callable[..., Path]) -> None:
    assert registers.preload(kernel(ELF, NEW), AMX) is None


def test_a_static_kernel_without_room_is_refused(kernel: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match=r"which has AMX.*static"):
        registers.preload(kernel(ELF, OLD), AMX)


def test_a_library_that_cannot_be_preloaded_is_reported(
    kernel: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for library in (tmp_path / "missing.so", tmp_path / "a b.so"):
        (tmp_path / "a b.so").touch()
        monkeypatch.setattr(registers, "LIBRARY", library)
        with pytest.raises(ConfigError, match="cannot be preloaded"):
            registers.preload(kernel(ELF, LOADER, OLD), AMX)


@pytest.mark.parametrize(
    ("frame", "fits"),
    [
        (1776, True),  # AVX
        (3632, True),  # AVX-512
        (11952, False),  # AMX
        (11536, False),  # AMX on a kernel without 32-bit programs
    ],
)
def test_the_size_of_a_signal_frame_shows_whether_the_cpu_has_amx(frame: int, fits: bool) -> None:
    assert (registers.area_in(auxiliary((6, 4096), (51, frame))) <= registers.ROOM) is fits


def test_a_host_that_does_not_give_the_size_has_no_amx() -> None:
    assert registers.area_in(auxiliary((6, 4096))) == 0


@pytest.mark.needs("gcc")
def test_the_probe_agrees_with_what_ptrace_returns(tmp_path: Path) -> None:
    program = tmp_path / "area"
    subprocess.run(["gcc", "-o", program, HERE / "area.c"], check=True)
    area = int(subprocess.run([program], capture_output=True, check=True).stdout)
    assert (area > registers.ROOM) == (registers.area() > registers.ROOM)


@pytest.mark.vm("uml")
@pytest.mark.root
def test_the_probe_agrees_with_a_kernel_that_runs_without_the_library(
    booting: Callable[[str], Boot], tmp_path: Path
) -> None:
    boot = booting("echo booted; /bin/busybox poweroff -f")
    assert ("booted" in run(boot, tmp_path)) == (registers.area() <= registers.ROOM)


def run(boot: Boot, directory: Path, *preload: Path) -> str:
    """Run a kernel to its end, without the driver; return what its console showed."""
    words = ["mem=128M", f"initrd={boot.image}", "uml_dir=.", "noreboot", "con=null", "con0=null,fd:1", "hostfs=none"]
    return subprocess.run(
        [boot.kernel, *words],
        cwd=directory,
        env={"PATH": "/usr/bin:/bin", "LD_PRELOAD": ":".join(map(str, preload))},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    ).stdout


@pytest.mark.vm("uml")
@pytest.mark.root
@pytest.mark.needs("gcc", "musl-gcc")
def test_with_the_library_processes_keep_their_registers_on_a_host_with_amx(
    booting: Callable[..., Boot], tmp_path: Path
) -> None:
    host, program = tmp_path / "amx_host.so", tmp_path / "program"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", host, HERE / "amx_host.c"], check=True)
    subprocess.run(["musl-gcc", "-static", "-O2", "-o", program, HERE / "keeps_registers.c"], check=True)
    boot = booting("exec /program", program)
    assert "ptrace set fp regs failed, errno = 14" in run(boot, tmp_path, host), "the host is not as hosts with AMX are"
    assert "the registers were kept" in run(boot, tmp_path, registers.LIBRARY, host)


@pytest.mark.vm("uml")
@pytest.mark.root
@pytest.mark.needs("gcc")
def test_the_driver_preloads_the_library_on_a_host_with_amx(
    pod: PodContext, booting: Callable[..., Boot], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library of the driver is replaced by one that simulates such a host, on which a bare kernel dies."""
    host = tmp_path / "amx_host.so"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", host, HERE / "amx_host.c"], check=True)
    monkeypatch.setattr(registers, "area", lambda: AMX)
    monkeypatch.setattr(registers, "LIBRARY", host)

    async def main() -> str:
        vm = UmlHypervisor(replace(pod, boot=booting("echo booted; /bin/busybox poweroff -f")), None)
        try:
            await vm.prepare(60)
            await vm.start(60)
            async with asyncio.timeout(scaled(60)):
                return (await vm.wait()).reason
        finally:
            await vm.stop(60)
            await vm.aclose()

    assert "panicked" in asyncio.run(main())


@pytest.mark.needs("linux.uml")
def test_a_host_without_room_is_refused_before_anything_is_made(
    pod: PodContext, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(registers, "area", lambda: AMX)
    monkeypatch.setattr(registers, "LIBRARY", tmp_path / "missing.so")
    (sentence,) = package.problems()
    assert Plugins().hypervisor("uml").probe() == [sentence]
    with pytest.raises(ConfigError) as refused:
        UmlHypervisor(pod, None)
    assert str(refused.value) == sentence


def test_another_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert package.problems() == ["hypervisor uml works on x86_64 only, but this host is aarch64; use hypervisor qemu"]
