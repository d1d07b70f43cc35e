"""The rate of the time stamp counter."""

from __future__ import annotations

import mmap

import pytest

from vc_core.driver import HypervisorConfig, Param
from vc_core.errors import VMStartError
from vc_hypervisor_qemu import tsc
from vc_hypervisor_qemu.config import Machine, QemuConfig


def kernel_params(accelerator: str = "tcg", machine: Machine = "q35", *params: Param) -> tuple[str, ...]:
    config = HypervisorConfig(hypervisor_params=params)
    return tsc.kernel_params(QemuConfig(machine=machine), config, accelerator)


def refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a host on which no memory can be made executable."""

    def refused(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(mmap, "mmap", refused)


def test_the_rate_measured_in_a_moment_is_that_of_a_longer_time(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = tsc.measure()
    monkeypatch.setattr(tsc, "_SPAN", 500_000_000)
    assert tsc.measure() == pytest.approx(quick, rel=100e-6)


def test_an_emulated_guest_has_a_parameter_with_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tsc, "measure", lambda: 2596128)
    assert kernel_params() == ("tsc_early_khz=2596128",)


def test_a_guest_under_kvm_has_no_parameter_for_the_rate() -> None:
    assert kernel_params("kvm") == ()


@pytest.mark.parametrize("key", ["-icount", "icount"])
def test_a_guest_that_counts_instructions_has_a_counter_of_nanoseconds(key: str) -> None:
    assert kernel_params("tcg", "microvm", Param(key, "auto")) == ("tsc_early_khz=1000000",)


@pytest.mark.parametrize("machine", ["q35", "pc"])
def test_if_the_counter_cannot_be_read_the_kernel_measures_the_rate_itself(
    monkeypatch: pytest.MonkeyPatch, machine: Machine
) -> None:
    refuse(monkeypatch)
    assert kernel_params("tcg", machine) == ()


def test_if_the_counter_cannot_be_read_a_microvm_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch)
    with pytest.raises(VMStartError, match=r"microvm cannot be emulated here, .* cannot be read: .*Permission denied"):
        kernel_params("tcg", "microvm")
    assert kernel_params("kvm", "microvm") == ()
