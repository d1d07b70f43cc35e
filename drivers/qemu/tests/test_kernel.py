"""The kernel's command line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vc_core.driver import HypervisorConfig, Param, Resources
from vc_core.errors import ConfigError
from vc_hypervisor_qemu.config import Machine, QemuConfig
from vc_hypervisor_qemu.kernel import (
    COMMAND_LINE_MAX,
    DEFAULT_PARAMS,
    check_caller_params,
    command_line,
    emulation_params,
)

DEFAULTS = " ".join(DEFAULT_PARAMS)

BAD = ["", "=x", "a b", "-x", "--", "a=b c", 'a="b"', "a='b'", "a=b\\", "a=\n", "a=\x7f", "a=ü", "ü=a", "a\n=b"]


def test_parameters_follow_the_drivers_own_in_their_order() -> None:
    assert command_line(("vc.api=4244", "loglevel=7", "debug")) == f"{DEFAULTS} vc.api=4244 loglevel=7 debug"


def test_a_value_may_contain_equals_signs_commas_and_brackets() -> None:
    assert command_line(["a=b=c,d:[e]/f"]) == f"{DEFAULTS} a=b=c,d:[e]/f"


@pytest.mark.parametrize("word", BAD)
def test_a_word_that_the_kernel_would_read_as_another_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match="kernel parameter"):
        command_line([word])


@given(st.text())
def test_an_accepted_word_is_one_word_of_printable_ascii(word: str) -> None:
    try:
        line = command_line([word])
    except ConfigError:
        return
    assert line.split(" ")[len(DEFAULT_PARAMS) :] == [word]
    assert all("!" <= character <= "~" for character in word)


def test_2047_bytes_are_accepted_and_2048_are_not() -> None:
    room = COMMAND_LINE_MAX - len(DEFAULTS) - len(" x=")
    assert len(command_line(["x=" + "y" * room])) == COMMAND_LINE_MAX
    with pytest.raises(ConfigError, match="have 2048 bytes together; 2047 at most"):
        command_line(["x=" + "y" * (room + 1)])


@pytest.mark.parametrize(
    "param",
    [
        Param("init", "/bin/sh"),
        Param("rdinit", "/x"),
        Param("root", "/dev/sda"),
        Param("", "init=/x"),
        Param("init=/x"),
    ],
)
def test_callers_choose_init_and_root_only_with_a_kernel_of_their_own(param: Param) -> None:
    with pytest.raises(ConfigError, match="built guest"):
        check_caller_params(HypervisorConfig(kernel_params=[param]))
    check_caller_params(HypervisorConfig(kernel_params=[param], kernel_path="/k", image_path="/i"))


@pytest.mark.parametrize("param", [Param("debug"), Param("loglevel", "7"), Param("", "debug")])
def test_callers_may_add_other_parameters(param: Param) -> None:
    check_caller_params(HypervisorConfig(kernel_params=[param]))


@pytest.mark.parametrize("word", BAD)
def test_bad_parameters_of_callers_are_refused_before_anything_starts(word: str) -> None:
    with pytest.raises(ConfigError, match="kernel parameter"):
        check_caller_params(HypervisorConfig(kernel_params=[Param(word)]))


@pytest.mark.parametrize(
    ("machine", "vcpus", "accelerator", "without"),
    [
        ("q35", 0, "tcg", True),
        ("pc", 1, "tcg", True),
        ("q35", 2, "tcg", False),
        ("microvm", 1, "tcg", False),
        ("q35", 1, "kvm", False),
    ],
)
def test_only_an_emulated_guest_with_one_cpu_and_an_hpet_does_without_the_timer_of_the_cpu(
    machine: Machine, vcpus: int, accelerator: str, without: bool
) -> None:
    params = emulation_params(QemuConfig(machine=machine), Resources(vcpus=vcpus), accelerator)
    assert ("noapictimer" in params) == without


def test_the_kernel_of_a_template_measures_the_timer_of_the_cpu_once_for_all_clones() -> None:
    assert "noapictimer" not in emulation_params(QemuConfig(), Resources(), "tcg", for_template=True)


@pytest.mark.parametrize(("accelerator", "off"), [("tcg", True), ("kvm", False)])
def test_only_an_emulated_guest_does_without_protection_from_speculation(accelerator: str, off: bool) -> None:
    params = emulation_params(QemuConfig(), Resources(), accelerator)
    assert ("mitigations=off" in params) == off
