"""What a further command has of its container."""

from __future__ import annotations

import pytest

from vc_core.config.container import Cmd, EnvVar
from vc_core.config.defaults import DEFAULT_PATH
from vc_core.engine.commands import completed
from vc_core.images.defaults import inherit

MAIN = Cmd(
    args=["x"],
    envs=[EnvVar("A", "1"), EnvVar("B", "2")],
    work_dir="/srv",
    user="www",
    group="web",
    additional_groups=["log"],
)


def test_a_command_that_leaves_all_open_is_the_containers_in_all_but_its_words() -> None:
    found = inherit(Cmd(["ls"]), MAIN)
    assert (found.args, found.work_dir, found.user, found.group) == (("ls",), "/srv", "www", "web")
    assert (tuple(found.additional_groups), tuple(found.envs)) == (("log",), tuple(MAIN.envs))


def test_what_a_command_says_counts() -> None:
    found = inherit(Cmd(["ls"], envs=[EnvVar("B", "3")], work_dir="/", group="0"), MAIN)
    assert (found.work_dir, found.user, found.group) == ("/", "www", "0")
    assert tuple(found.envs) == (EnvVar("A", "1"), EnvVar("B", "3"))


@pytest.mark.parametrize("user", ["0", "www"])
def test_a_command_with_a_user_has_the_groups_of_that_user(user: str) -> None:
    found = inherit(Cmd(["ls"], user=user), MAIN)
    assert (found.user, found.group, list(found.additional_groups)) == (user, "", [])


def test_what_is_open_then_has_a_default() -> None:
    assert completed(Cmd(["ls"])) == Cmd(["ls"], envs=(EnvVar("PATH", DEFAULT_PATH),), work_dir="/")
    assert completed(Cmd(["ls"], envs=[EnvVar("PATH", "/x")], work_dir="/y")).envs == (EnvVar("PATH", "/x"),)
