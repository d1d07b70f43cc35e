"""docs/reference/hooks.md agrees with the hook specifications."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from vc_core import errors
from vc_core.driver import hooks
from vc_core.driver.guest import GuestPayload
from vc_core.driver.kinds import PluginKind
from vc_core.plugins.registry import Plugins

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "hooks.md").read_text(encoding="utf-8")

SPECS: dict[str, type] = {
    "Hypervisor": hooks.HypervisorSpec,
    "Agent": hooks.AgentSpec,
    "Spawner": hooks.SpawnerSpec,
    "Guest": hooks.GuestSpec,
    "Any driver": hooks.DriverSpec,
    "Extension": hooks.ExtensionSpec,
}


def parts(text: str, level: str) -> dict[str, str]:
    """Return the sections of one level of headings, by heading."""
    _, *found = re.split(rf"^{level} (.+)$", text, flags=re.MULTILINE)
    return dict(zip(found[::2], found[1::2], strict=True))


def code(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)\n```$", text, flags=re.MULTILINE | re.DOTALL)


def signature(function: Any) -> str:
    """Return a hook's signature as the page has it: without self, and annotations without quotes."""
    shown = inspect.signature(function)
    arguments = [argument for name, argument in shown.parameters.items() if name != "self"]
    name: str = function.__name__
    return name + str(shown.replace(parameters=arguments)).replace("'", "")


CHAPTERS = parts(PAGE, "##")


@pytest.mark.parametrize(("chapter", "spec"), SPECS.items())
def test_each_hook_has_a_section_with_its_exact_signature(chapter: str, spec: type) -> None:
    documented = {hook: code(section, "text") for hook, section in parts(CHAPTERS[chapter], "###").items()}
    live = {name: [signature(hook)] for name, hook in vars(spec).items() if name.startswith("vc_")}
    assert documented == live


def examples(text: str) -> dict[str, Any]:
    """Return the hook implementations that the examples in a part of the page define."""
    found: dict[str, Any] = {"hookimpl": hooks.hookimpl, "GuestPayload": GuestPayload, **vars(errors)}
    for example in code(text, "python"):
        exec(example, found)  # noqa: S102 - our own documentation
    return {name: value for name, value in found.items() if name.startswith("vc_")}


@pytest.mark.parametrize("chapter", [chapter for chapter in SPECS if chapter != "Any driver"])
def test_the_examples_of_a_kind_make_a_plugin_that_is_accepted(chapter: str) -> None:
    hooks = examples(CHAPTERS[chapter])
    assert set(hooks) == {name for name in vars(SPECS[chapter]) if name.startswith("vc_")}
    if chapter != "Extension":
        hooks |= examples(CHAPTERS["Any driver"])
    Plugins().add_driver(PluginKind(chapter.lower()), "toy", type("ToyPlugin", (), hooks)())


def test_the_example_of_a_wrapper_is_accepted() -> None:
    hooks = examples(CHAPTERS["Wrapping"])
    assert hooks
    Plugins().add_driver(PluginKind.EXTENSION, "toy", type("ToyPlugin", (), hooks)())


@pytest.mark.parametrize("chapter", [chapter for chapter in SPECS if chapter not in ("Any driver", "Extension")])
def test_what_is_called_required_is_required(chapter: str) -> None:
    with pytest.raises(errors.DriverContractError) as caught:
        Plugins().add_driver(PluginKind(chapter.lower()), "toy", object())
    missing = set(re.findall(r"does not implement (\w+)", str(caught.value)))
    sections = parts(CHAPTERS[chapter], "###")
    called = {hook: section.split(None, 1)[0].strip(".:") for hook, section in sections.items()}
    assert called == {hook: "Required" if hook in missing else "Optional" for hook in sections}


def test_the_entry_point_groups_are_those_that_are_searched() -> None:
    rows = re.findall(r"^\| (\w+) \| `(vc_core\.\w+)` \|", PAGE, flags=re.MULTILINE)
    assert rows == [(str(kind), kind.group) for kind in PluginKind]
