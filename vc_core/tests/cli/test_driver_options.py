"""``NAME=VALUE`` on the command line becomes options of the types that a driver declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import click
import pytest

from vc_core.cli import driver_options
from vc_core.cli.options import pair
from vc_core.driver.kinds import PluginKind


@dataclass(frozen=True, kw_only=True)
class Share:
    tag: str
    writable: bool = False


@dataclass(frozen=True, kw_only=True)
class Options:
    machine: Annotated[str, "a description does not change the type"] = "q35"
    accel: Literal["kvm", "tcg"] = "kvm"
    fast: bool = False
    user: int | None = None
    ratio: float = 1.0
    program: Path | None = None
    words: Sequence[str] = ()
    ports: tuple[int, ...] = ()
    shares: Sequence[Share] = ()
    limits: Mapping[str, int] | None = None
    spawner_options: Mapping[str, Any] | None = None


def parse(*texts: str) -> dict[str, object]:
    return driver_options.parse("--o", [pair("--o", text) for text in texts], Options)


@pytest.mark.parametrize(
    ("texts", "options"),
    [
        ([], {}),
        (["machine=pc", "accel=tcg"], {"machine": "pc", "accel": "tcg"}),
        (["machine="], {"machine": ""}),
        (["machine=7", "program=/bin/true"], {"machine": "7", "program": "/bin/true"}),
        (["machine=a=b"], {"machine": "a=b"}),
        (["fast=true"], {"fast": True}),
        (["fast=FALSE"], {"fast": False}),
        (["user=7", "ratio=0.5"], {"user": 7, "ratio": 0.5}),
        (["words=a"], {"words": ["a"]}),
        (["words=a", "words=b,c"], {"words": ["a", "b,c"]}),
        (['words=["a", "b"]', "words=c"], {"words": ["a", "b", "c"]}),
        (["ports=22", "ports=80"], {"ports": [22, 80]}),
        (['shares={"tag": "t"}', 'shares={"tag": "u"}'], {"shares": [{"tag": "t"}, {"tag": "u"}]}),
        (["limits.cpu=2", "limits.memory=64"], {"limits": {"cpu": 2, "memory": 64}}),
        (['limits={"cpu": 2}', "limits.memory=64"], {"limits": {"cpu": 2, "memory": 64}}),
        (["spawner_options.program=x"], {"spawner_options": {"program": "x"}}),
        (["spawner_options.a.b=true"], {"spawner_options": {"a": {"b": "true"}}}),
        (['spawner_options={"a.b": [1, true]}'], {"spawner_options": {"a.b": [1, True]}}),
    ],
)
def test_texts_become_values_of_the_declared_types(texts: list[str], options: dict[str, object]) -> None:
    assert parse(*texts) == options


@pytest.mark.parametrize(
    ("text", "value"),
    [("fast=maybe", "maybe"), ("user=me", "me"), ("accel=hvf", "hvf"), ("colour=red", "red")],
)
def test_what_the_driver_will_refuse_stays_as_it_is_for_an_error_with_the_driver_s_name(text: str, value: str) -> None:
    assert list(parse(text).values()) == [value]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["machine"], "--o 'machine' is not of the form NAME=VALUE"),
        (["=x"], "--o '=x' is not of the form NAME=VALUE"),
        (["limits..cpu=1"], "is not of the form NAME=VALUE"),
        (["machine=a", "machine=b"], "--o 'machine=b': option machine is given twice; its value is 'a' already"),
        (["limits.cpu=1", "limits.cpu=2"], "option limits.cpu is given twice; its value is 1 already"),
        (["machine=a", "machine.b=c"], "--o 'machine.b=c': option machine has the value 'a' already"),
        (["limits=x"], "the option is a mapping; give NAME.KEY=VALUE for each key, or JSON"),
        (["words=[a"], "--o 'words=[a': the value is not JSON"),
        (["limits={x"], "--o 'limits={x': the value is not JSON"),
        (["shares=x"], "the option is a mapping; give NAME.KEY=VALUE for each key, or JSON"),
    ],
)
def test_a_text_of_the_wrong_form_is_an_error_of_usage_that_names_it(texts: list[str], message: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        parse(*texts)
    assert message in str(caught.value)


def test_a_driver_is_loaded_only_if_an_option_is_given() -> None:
    assert driver_options.read_texts("--o", [], PluginKind.AGENT, "no-such-agent") == {}


def test_options_of_a_guest_are_those_of_the_driver_that_the_hypervisor_names() -> None:
    assert driver_options.guest_texts("--o", ["lockdown=false"], "", "qemu") == {"lockdown": False}


@pytest.mark.parametrize("text", ["spawner_options" + ".a" * 3000 + "=1", 'spawner_options={"a":' + "[" * 100_000])
def test_a_value_of_too_many_levels_is_an_error_of_usage_with_the_limit(text: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        parse(text)
    message = str(caught.value)
    assert message.endswith("in each other; give at most 32 levels")
    assert len(message) < 400


@pytest.mark.parametrize("texts", [["9" * 5000], ["machine=a", "machine=" + "9" * 5000], ["limits=" + "9" * 5000]])
def test_an_error_holds_only_the_begin_of_a_long_text(texts: list[str]) -> None:
    with pytest.raises(click.UsageError) as caught:
        parse(*texts)
    assert len(str(caught.value)) < 400
