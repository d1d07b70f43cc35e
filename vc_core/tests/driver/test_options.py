"""A driver's options become its frozen configuration, or an error that names the option, the value and what to give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from vc_core.driver.options import NESTING_MAX, list_options, read_options
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
        ({"words": ("a", "b")}, Options(words=("a", "b"))),
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
        ({"shares": ["x"]}, "option shares[0] of hypervisor toy is 'x'; give a mapping with tag, writable"),
        (
            {"shares": [{"name": 1}]},
            "option shares[0] of hypervisor toy has no option 'name'; it has tag, ",
        ),
        ({"shares": [{}]}, "option tag of option shares[0] of hypervisor toy is missing; give text"),
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


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, kw_only=True)
class Holding:
    colour: Colour = Colour.RED
    numbers: Sequence[int] = ()
    ports: tuple[int, ...] = ()
    names: list[str] = field(default_factory=list)
    limits: Mapping[str, int] | None = None
    colours: Mapping[str, Sequence[Colour]] = field(default_factory=dict)
    share: Share | None = None
    any: Mapping[str, Any] = field(default_factory=dict)
    ratios: Sequence[float] = ()
    either: Sequence[int] | str = ""


def hold(**options: object) -> Holding:
    return read_options(Holding, options, "hypervisor toy")


def test_the_types_of_entries_are_listed() -> None:
    assert {one.name: one.type for one in list_options(Holding)} == {
        "colour": "red or blue",
        "numbers": "a list of whole numbers",
        "ports": "a list of whole numbers",
        "names": "a list of texts",
        "limits": "a mapping to whole numbers",
        "colours": "a mapping to lists of red or blue",
        "share": "a mapping with tag, writable",
        "any": "a mapping",
        "ratios": "a list of numbers",
        "either": "a list of whole numbers or text",
    }


def test_the_default_of_an_enumeration_is_listed_as_the_value_that_is_accepted() -> None:
    colour = list_options(Holding)[0]
    assert (colour.default, colour.default_text) == ("red", "red")
    assert hold(colour="blue") == hold(colour=Colour.BLUE) == Holding(colour=Colour.BLUE)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"numbers": [1, "2"]}, Holding(numbers=(1, 2))),
        ({"ports": [22]}, Holding(ports=(22,))),
        ({"names": ("a",)}, Holding(names=["a"])),
        ({"limits": {"cpu": "2"}}, Holding(limits={"cpu": 2})),
        ({"colours": {"flag": ["red", "blue"]}}, Holding(colours={"flag": (Colour.RED, Colour.BLUE)})),
        ({"share": {"tag": "t"}}, Holding(share=Share(tag="t"))),
        ({"any": {"a": ("b", [None])}}, Holding(any={"a": ["b", [None]]})),
        ({"either": [1]}, Holding(either=(1,))),
        ({"either": "x"}, Holding(either="x")),
    ],
)
def test_entries_are_read_with_their_own_types(options: dict[str, object], wanted: Holding) -> None:
    assert hold(**options) == wanted


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"limits": {"a": "x"}}, "option limits.a of hypervisor toy is 'x'; give a whole number"),
        ({"limits": {1: 2}}, "option limits of hypervisor toy has the key 1; give text"),
        ({"numbers": [1, True]}, "option numbers[1] of hypervisor toy is True; give a whole number"),
        ({"numbers": "x"}, "option numbers of hypervisor toy is 'x'; give a list of whole numbers"),
        ({"colours": {"a": ["red", "rot"]}}, "option colours.a[1] of hypervisor toy is 'rot'; give red or blue"),
        ({"either": ["x"]}, "option either of hypervisor toy is ['x']; give a list of whole numbers or text"),
        ({"ratios": [0.5, "nan"]}, "option ratios[1] of hypervisor toy is 'nan'; give a finite number"),
        ({"any": {"a": [float("-inf")]}}, "option any.a[0] of hypervisor toy is -inf; give a finite number"),
    ],
)
def test_an_error_about_an_entry_names_it(options: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        hold(**options)
    assert str(caught.value) == text


@pytest.mark.parametrize("value", ["nan", "inf", float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        read(ratio=value)
    assert str(caught.value) == f"option ratio of hypervisor toy is {value!r}; give a finite number"


def nested(levels: int) -> list[object]:
    value: list[object] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def test_values_may_have_as_many_levels_as_the_limit_and_not_more() -> None:
    assert hold(any={"a": nested(NESTING_MAX - 1)}).any["a"] == nested(NESTING_MAX - 1)
    endless: list[object] = []
    endless += [endless, endless]
    for value in (nested(NESTING_MAX), nested(3000), endless):
        with pytest.raises(ConfigError) as caught:
            hold(any={"a": value})
        assert str(caught.value) == (
            "option any of hypervisor toy has too many lists or mappings in each other; give at most 32 levels"
        )


@pytest.mark.parametrize(
    "options",
    [{"user": "9" * 5000 + "x"}, {"user": "x" * 5000}, {"machine": 10**5000}, {"n" * 5000: 1}, {"words": [1] * 5000}],
)
def test_an_error_holds_only_the_begin_of_a_long_value(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        read(**options)
    assert len(str(caught.value)) < 400


def test_an_error_holds_only_the_begin_of_a_long_key() -> None:
    with pytest.raises(ConfigError) as caught:
        hold(limits={"k" * 5000: "x"})
    assert len(str(caught.value)) < 400
