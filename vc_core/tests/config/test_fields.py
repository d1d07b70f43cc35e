"""What is not of the type that a field declares is refused when the configuration is made, and the error names it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vc_core as vc

#: Anything, for a type checker: these values are wrong on purpose.
wrong: Callable[[object], Any] = lambda value: value  # noqa: E731


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: vc.ContainerConfig(id="c", mounts=wrong(["a:/b"])),
            "ContainerConfig.mounts[0] is 'a:/b'; give an object of Mount, such as Mount.parse('a:/b')",
        ),
        (
            lambda: vc.ContainerConfig(id="c", rlimits=wrong(["nofile=1"])),
            "ContainerConfig.rlimits[0] is 'nofile=1'; give an object of RLimit, such as RLimit.parse('nofile=1')",
        ),
        (
            lambda: vc.ContainerConfig(id="c", mounts=wrong(7)),
            "ContainerConfig.mounts is 7; give a list of Mount objects",
        ),
        (
            lambda: vc.ContainerConfig(id="c", read_only=wrong("no")),
            "ContainerConfig.read_only is 'no'; give true or false",
        ),
        (lambda: vc.ContainerConfig(id="c", read_only=wrong(0)), "ContainerConfig.read_only is 0; give true or false"),
        (
            lambda: vc.ContainerConfig(id="c", cmd=wrong("ls -l")),
            "ContainerConfig.cmd is 'ls -l'; give an object of Cmd",
        ),
        (lambda: vc.ContainerConfig(id="c", root_fs=wrong(5)), "ContainerConfig.root_fs is 5; give a path"),
        (lambda: vc.ContainerConfig(id="c", console="/dev/\0"), "NUL"),
        (lambda: vc.Cmd(wrong(["ls", 5])), "Cmd.args[1] is 5; give text"),
        (lambda: vc.Cmd(["ls"], work_dir="\udcff"), "UTF-8"),
        (lambda: vc.Param(wrong(None)), "Param.key is None; give text"),
        (lambda: vc.Volume("t", wrong(b"/x")), "Volume.host_path is b'/x'; give a path"),
        (lambda: vc.HypervisorConfig(options=wrong([1])), "HypervisorConfig.options is [1]; give a mapping"),
        (lambda: vc.HypervisorConfig(template=wrong("off")), "HypervisorConfig.template is 'off'; give true or false"),
        (lambda: vc.RLimit("nofile", -1, None), "RLimit.soft is -1; give a whole number from 0 to"),
        (lambda: vc.PodConfig(network=wrong("user")), "PodConfig.network is 'user'; give an object of NetworkConfig"),
        (lambda: vc.PodConfig(strict=wrong(1)), "PodConfig.strict is 1; give true or false, or None"),
        (lambda: vc.PodConfig(containers=[wrong(None)]), "PodConfig.containers[0] is None; give an object of"),
        (
            lambda: vc.NetworkConfig(mode="user", forwards=wrong([80])),
            "NetworkConfig.forwards[0] is 80; give an object of",
        ),
        (lambda: vc.NetworkConfig(mode=wrong("users")), "NetworkConfig.mode is 'users'; give none, user or tap"),
        (
            lambda: vc.NetworkConfig(mode="user", restrict=wrong("no")),
            "NetworkConfig.restrict is 'no'; give true or false",
        ),
        (lambda: vc.PortForward(80, protocol=wrong("sctp")), "PortForward.protocol is 'sctp'; give tcp or udp"),
    ],
)
def test_a_value_of_another_type_is_refused_by_the_name_of_its_field(make: Callable[[], object], message: str) -> None:
    with pytest.raises(vc.ConfigError) as caught:
        make()
    assert message in str(caught.value)
    assert caught.value.field


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vc.run_pod(wrong(None)), "config is None; give an object of PodConfig"),
        (lambda: vc.create_pod(wrong({"id": "p"})), "config is {'id': 'p'}; give an object of PodConfig"),
        (lambda: vc.PodPool(wrong(None)), "config is None; give an object of PodConfig"),
        (lambda: vc.create_template(wrong("p")), "config is 'p'; give an object of PodConfig"),
        (lambda: vc.create_container("p", wrong("c")), "config is 'c'; give an object of ContainerConfig"),
        (
            lambda: vc.enter_container("p", "c", wrong(["ls"])),
            "cmd is ['ls']; give an object of Cmd, such as Cmd(['ls'])",
        ),
    ],
)
def test_a_function_refuses_what_is_no_configuration(call: Callable[[], object], message: str) -> None:
    with pytest.raises(vc.ConfigError) as caught:
        call()
    assert str(caught.value) == message


def test_a_list_is_taken_for_the_arguments_of_a_command() -> None:
    assert vc.ContainerConfig(id="c", cmd=["ls", "-l"]).cmd == vc.Cmd(["ls", "-l"])


def test_the_name_of_a_network_mode_is_taken_for_it() -> None:
    assert vc.NetworkConfig(mode="user").mode is vc.NetworkMode.USER


def test_a_path_object_is_taken_for_a_path(tmp_path: Path) -> None:
    assert vc.ContainerConfig(id="c", root_fs=wrong(tmp_path)).root_fs == str(tmp_path)
