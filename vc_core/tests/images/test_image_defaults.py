"""What an image says counts where the container's configuration says nothing, by docker's rules."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from vc_core.config.container import Cmd, ContainerConfig, EnvVar
from vc_core.config.limits import RLimit
from vc_core.errors import ImageError
from vc_core.images.defaults import apply_image, inherit
from vc_core.results import ImageStatus

DIGEST = "sha256:" + "0" * 64


def image(**fields: object) -> ImageStatus:
    return ImageStatus(digest=DIGEST, **fields)  # type: ignore[arg-type] # fields of the dataclass


def applied(found: ImageStatus, cmd: Cmd | None = None, **fields: object) -> ContainerConfig:
    given = ContainerConfig(id="c", image="app", cmd=cmd or Cmd(), **fields)  # type: ignore[arg-type] # as above
    return apply_image(given, found)


@pytest.mark.parametrize(
    ("entrypoint", "args", "expected"),
    [
        (None, [], ["entry", "point", "own"]),
        (None, ["given"], ["entry", "point", "given"]),
        (["mine"], [], ["mine"]),
        (["mine"], ["given"], ["mine", "given"]),
        ([], ["given"], ["given"]),
    ],
)
def test_the_command_is_entry_point_and_arguments(
    entrypoint: Sequence[str] | None, args: Sequence[str], expected: Sequence[str]
) -> None:
    found = image(entrypoint=("entry", "point"), cmd=("own",))
    assert list(applied(found, Cmd(args=args), entrypoint=entrypoint).cmd.args) == expected


@pytest.mark.parametrize("entrypoint", [None, []])
def test_an_image_without_a_command_needs_one(entrypoint: Sequence[str] | None) -> None:
    with pytest.raises(ImageError, match=r"image 'docker\.io/library/app:latest' has no command of its own; give"):
        applied(image(entrypoint=("entry",) if entrypoint == [] else ()), entrypoint=entrypoint)


def test_variables_are_added_to_those_of_the_image_and_replace_them() -> None:
    cmd = applied(image(env=("A=1", "B=2", "A=3"), cmd=("x",)), Cmd(envs=[EnvVar("B", ""), EnvVar("C", "4")])).cmd
    assert [str(one) for one in cmd.envs] == ["A=3", "B=", "C=4"]


@pytest.mark.parametrize(
    ("of_image", "given", "expected"),
    [
        ("bob", Cmd(), ("bob", "")),
        ("1000:29", Cmd(), ("1000", "29")),
        ("bob:audio", Cmd(user="eve"), ("eve", "")),
        ("bob:audio", Cmd(group="video"), ("bob", "video")),
        ("", Cmd(), ("", "")),
    ],
)
def test_the_user_is_that_of_the_image_unless_one_is_given(
    of_image: str, given: Cmd, expected: tuple[str, str]
) -> None:
    cmd = applied(image(user=of_image, cmd=("x",)), given).cmd
    assert (cmd.user, cmd.group) == expected


def test_working_directory_and_stop_signal_are_those_of_the_image_unless_they_are_given() -> None:
    found = image(work_dir="/work", stop_signal="SIGINT", cmd=("x",))
    config = applied(found)
    assert (config.cmd.work_dir, config.stop_signal) == ("/work", "SIGINT")
    config = applied(found, Cmd(work_dir="/tmp"), stop_signal="HUP")
    assert (config.cmd.work_dir, config.stop_signal) == ("/tmp", "HUP")
    assert applied(image(cmd=("x",))).cmd.work_dir == "/"


def test_the_configuration_names_one_content_and_does_not_change_when_it_is_applied_again() -> None:
    found = image(entrypoint=("entry",), cmd=("own",), env=("A=1",), user="bob:audio", work_dir="/work")
    config = applied(found)
    assert config.image == f"docker.io/library/app:latest@{DIGEST}"
    assert apply_image(config, found) == config


def test_a_command_that_enters_has_the_environment_directory_and_user_of_the_container() -> None:
    first = Cmd(args=["x"], envs=[EnvVar("A", "1")], work_dir="/work", user="bob", group="audio")
    entered = inherit(Cmd(args=["ls"]), first)
    assert entered == Cmd(args=["ls"], envs=[EnvVar("A", "1")], work_dir="/work", user="bob", group="audio")
    assert inherit(Cmd(args=["ls"], user="root"), first).group == ""


def test_a_further_command_has_the_limits_of_the_first_one_or_its_own() -> None:
    first = Cmd(args=["x"], umask=0o77, rlimits=[RLimit("core", 0, 0)], additional_groups=["7"], exact_groups=True)
    entered = inherit(Cmd(args=["ls"], umask=0, rlimits=[]), first)
    assert (entered.umask, entered.rlimits) == (0, ())
    assert (entered.additional_groups, entered.exact_groups) == (("7",), True)
    assert inherit(Cmd(args=["ls"]), first).rlimits == first.rlimits
    assert not inherit(Cmd(args=["ls"], user="bob"), first).exact_groups
