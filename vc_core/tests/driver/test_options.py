"""A driver's options become its frozen configuration, or an error that names the option, the value and what to give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import pytest

from vc_core.driver.options import list_options, read_options
from vc_core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    tag: str
    writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    machine: str = "q35"
    fast: bool = False
    user: int | None = None
    ratio: float = 1.0
    port: int | str = 22
    extra: Mapping[str, object] = field(default_factory=dict)
    words: Sequence[str] = ()
    shares: Sequence[Share] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing:
    pass


def read(**options: object) -> Options:
    return read_options(Options, options, "hypervisor toy")


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, Options()),
        ({"machine": "pc", "fast": True, "user": 7, "ratio": 0.5}, Options(machine="pc", fast=True, user=7, ratio=0.5)),
        ({"fast": "TRUE", "user": "7"}, Options(fast=True, user=7)),
        ({"fast": "false", "ratio": "0.5"}, Options(fast=False, ratio=0.5)),
        ({"machine": "7"}, Options(machine="7")),
        ({"machine": Path("/m")}, Options(machine="/m")),
        ({"machine": "\udcff"}, Options(machine="\udcff")),
        ({"user": None}, Options(user=None)),
        ({"extra": {"key": 1}}, Options(extra={"key": 1})),
        ({"words": ("a", "b")}, Options(words=["a", "b"])),
        ({"shares": [{"tag": "t", "writable": "true"}]}, Options(shares=(Share(tag="t", writable=True),))),
        ({"shares": [Share(tag="t")]}, Options(shares=(Share(tag="t"),))),
    ],
)
def test_each_option_is_the_field_of_its_name(options: dict[str, object], wanted: Options) -> None:
    assert read(**options) == wanted


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"speed": 1}, "hypervisor toy has no option 'speed'; it has machine, fast, user, ratio, port, extra, words, "),
        ({"machine": 5}, "option machine of hypervisor toy is 5; give text"),
        ({"machine": None}, "option machine of hypervisor toy is None; give text"),
        ({"fast": "yes"}, "option fast of hypervisor toy is 'yes'; give true or false"),
        ({"fast": 1}, "option fast of hypervisor toy is 1; give true or false"),
        ({"user": "me"}, "option user of hypervisor toy is 'me'; give a whole number"),
        ({"user": True}, "option user of hypervisor toy is True; give a whole number"),
        ({"ratio": "much"}, "option ratio of hypervisor toy is 'much'; give a number"),
        ({"port": 2.5}, "option port of hypervisor toy is 2.5; give a whole number or text"),
        ({"extra": "x"}, "option extra of hypervisor toy is 'x'; give a mapping"),
        ({"words": "x"}, "option words of hypervisor toy is 'x'; give a list"),
        ({"shares": "x"}, "option shares of hypervisor toy is 'x'; give a list"),
        ({"shares": ["x"]}, "option shares of hypervisor toy holds 'x'; give mappings of tag, writable"),
        (
            {"shares": [{"name": 1}]},
            "an entry of option shares of hypervisor toy has no option 'name'; it has tag, ",
        ),
        ({"shares": [{}]}, "option tag of an entry of option shares of hypervisor toy is missing; give text"),
    ],
)
def test_an_error_names_the_option_the_value_and_what_to_give(options: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(**options)
    assert str(caught.value).startswith(text)


def test_a_driver_without_options_refuses_each_by_name() -> None:
    assert read_options(Nothing, {}, "agent toy") == Nothing()
    with pytest.raises(ConfigError, match="agent toy has no option 'x'; it has none"):
        read_options(Nothing, {"x": 1}, "agent toy")


class Size(StrEnum):
    BIG = "big"
    SMALL = "small"


@dataclass(frozen=True, kw_only=True)
class Described:
    server: Annotated[str, "the server"]
    accel: Annotated[Literal["kvm", "tcg"], "how it runs"] = "kvm"
    size: Annotated[Size, "how large it is"] = Size.BIG
    program: Annotated[Path | None, "the program"] = None
    ratio: Annotated[float, "a part of it"] = 0
    shares: Annotated[Sequence[Share], "what it shares"] = ()
    fast: bool = False


def test_options_are_listed_with_type_default_and_description() -> None:
    assert [(one.name, one.type, one.default_text, one.description) for one in list_options(Described)] == [
        ("server", "text", "required", "the server"),
        ("accel", "kvm or tcg", "kvm", "how it runs"),
        ("size", "big or small", "big", "how large it is"),
        ("program", "a path", "none", "the program"),
        ("ratio", "a number", "0", "a part of it"),
        ("shares", "a list of mappings with tag, writable", "none", "what it shares"),
        ("fast", "true or false", "false", ""),
    ]


def test_a_choice_an_enumeration_and_a_path_are_read_from_text() -> None:
    options = {"server": "s", "accel": "tcg", "size": "small", "program": "/bin/true"}
    wanted = Described(server="s", accel="tcg", size=Size.SMALL, program=Path("/bin/true"))
    assert read_options(Described, options, "hypervisor toy") == wanted
    assert read_options(Described, {**options, "program": Path("/bin/true"), "size": Size.SMALL}, "x") == wanted


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"server": "s", "accel": "hvf"}, "option accel of hypervisor toy is 'hvf'; give kvm or tcg"),
        ({"server": "s", "size": "huge"}, "option size of hypervisor toy is 'huge'; give big or small"),
        ({"server": "s", "program": 7}, "option program of hypervisor toy is 7; give a path"),
        ({}, "option server of hypervisor toy is missing; give text"),
        ({"sever": "s"}, "hypervisor toy has no option 'sever' (did you mean 'server'?); it has server, accel, "),
    ],
)
def test_an_error_about_a_described_option_says_what_to_give(options: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_options(Described, options, "hypervisor toy")
    assert str(caught.value).startswith(text)
