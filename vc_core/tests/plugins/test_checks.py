"""The checks of installed drivers, on drivers that break."""

from __future__ import annotations

import re
import runpy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated

from vc_agent_noop.agent import NoopAgent
from vc_agent_noop.plugin import NoopPlugin
from vc_core.driver import Device, hookimpl
from vc_core.driver.kinds import PluginKind
from vc_core.errors import ConfigError
from vc_core.plugins.checks import CHECKS, DriverUnderTest, possible_checks, run_check
from vc_core.plugins.registry import Plugins


class Faulty(NoopAgent):
    def devices(self) -> Sequence[Device]:
        raise RuntimeError("no devices")


class FaultyPlugin(NoopPlugin):
    @hookimpl
    def vc_agent_create(self, saved: Mapping[str, object] | None) -> Faulty:
        return Faulty(saved)


def test_an_exception_of_a_driver_is_a_violation_in_one_sentence_and_ends_no_check(tmp_path: Path) -> None:
    plugins = Plugins(bare=True)
    plugins.add_driver(PluginKind.AGENT, "faulty", FaultyPlugin())
    tested = DriverUnderTest(plugins.agent("faulty"), {}, tmp_path)
    found = [sentence for check in CHECKS for sentence in run_check(check, tested)]
    assert any("raises RuntimeError: no devices; a driver raises only VCErrors" in sentence for sentence in found)


def violations(options_class: type, directory: Path) -> list[str]:
    """Return what the checks find in an agent driver with these options."""

    class Plugin(NoopPlugin):
        @hookimpl
        def vc_driver_options(self) -> type:
            return options_class

    plugins = Plugins(bare=True)
    plugins.add_driver(PluginKind.AGENT, "toy", Plugin())
    tested = DriverUnderTest(plugins.agent("toy"), {}, directory)
    return [sentence for check in possible_checks(tested) for sentence in run_check(check, tested)]


def test_the_options_class_of_the_reference_passes(tmp_path: Path) -> None:
    page = Path(__file__).parents[3] / "docs/reference/hooks.md"
    code = next(
        block
        for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        if "class ToyConfig" in block
    )
    module = tmp_path / "options.py"
    module.write_text(code, encoding="utf-8")
    names = runpy.run_path(str(module), {"ConfigError": ConfigError})
    (empty := tmp_path / "empty").mkdir()
    assert violations(names["ToyConfig"], empty) == []


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class ByValue:
    colour: Annotated[Colour, "an enumeration"] = Colour.RED
    names: Annotated[Sequence[str], "a default that is a list"] = field(default_factory=lambda: ["a"])
    program: Annotated[Path | None, "a path"] = Path("/bin/true")


def test_a_configuration_is_compared_by_value(tmp_path: Path) -> None:
    assert violations(ByValue, tmp_path) == []


@dataclass(frozen=True)
class Growing:
    words: Annotated[Sequence[str], "what it does"] = ("a",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", (*self.words, "more"))


def test_an_option_that_its_own_value_changes_is_named(tmp_path: Path) -> None:
    [sentence] = violations(Growing, tmp_path)
    assert "option words is ['a', 'more'] and becomes ['a', 'more', 'more']" in sentence


@dataclass(frozen=True)
class Required:
    server: Annotated[str, "the server"]
    port: Annotated[int, "its port"] = 22


@dataclass(frozen=True)
class RequiredOnly:
    server: str


def test_a_driver_with_a_required_option_is_checked_as_far_as_it_can_be_without(tmp_path: Path) -> None:
    assert violations(Required, tmp_path) == []
    [sentence] = violations(RequiredOnly, tmp_path)
    assert "has no description of option server" in sentence
