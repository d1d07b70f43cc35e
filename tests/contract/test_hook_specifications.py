"""The hook specifications keep the rules that pluggy does not enforce."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from vc_core.driver import hooks

PREFIXES: dict[Any, tuple[str, ...]] = {
    hooks.HypervisorSpec: ("vc_hypervisor_",),
    hooks.AgentSpec: ("vc_agent_",),
    hooks.SpawnerSpec: ("vc_spawner_",),
    hooks.GuestSpec: ("vc_guest_",),
    hooks.DriverSpec: ("vc_driver_",),
    hooks.ExtensionSpec: ("vc_pod_", "vc_container_"),
}

#: Every public function of every specification.
HOOKS = [
    pytest.param(spec, function, id=name)
    for spec in PREFIXES
    for name, function in vars(spec).items()
    if inspect.isfunction(function) and not name.startswith("_")
]

each_hook = pytest.mark.parametrize(("spec", "function"), HOOKS)


def options(function: Callable[..., Any]) -> dict[str, Any]:
    """Return what @hookspec noted on the function."""
    noted: dict[str, Any] = getattr(function, f"{hooks.PROJECT}_spec")
    return noted


def test_every_specification_is_looked_at() -> None:
    specs = {value for name, value in vars(hooks).items() if name.endswith("Spec")}
    assert set(PREFIXES) == specs


@each_hook
def test_a_hook_is_marked_and_named_after_its_kind(spec: type, function: Callable[..., Any]) -> None:
    assert options(function)
    assert function.__name__.startswith(PREFIXES[spec])


@each_hook
def test_a_driver_hook_has_one_result_and_a_hook_of_extensions_is_called_for_each(
    spec: type, function: Callable[..., Any]
) -> None:
    assert options(function)["firstresult"] is (spec is not hooks.ExtensionSpec)
    assert not options(function)["historic"]


@each_hook
def test_a_hook_is_synchronous(spec: type, function: Callable[..., Any]) -> None:
    assert not inspect.iscoroutinefunction(function)


@each_hook
def test_every_argument_is_positional_typed_and_without_default(spec: type, function: Callable[..., Any]) -> None:
    signature = inspect.signature(function)
    assert signature.return_annotation is not signature.empty
    for name, argument in signature.parameters.items():
        assert argument.kind is argument.POSITIONAL_OR_KEYWORD
        assert argument.default is argument.empty
        assert name == "self" or argument.annotation is not argument.empty


@each_hook
def test_the_docstring_of_a_hook_describes_caller_arguments_and_result(
    spec: type, function: Callable[..., Any]
) -> None:
    text = inspect.getdoc(function) or ""
    assert "Called:" in text
    assert "Returns" in text
    for name in inspect.signature(function).parameters:
        assert name == "self" or f"``{name}``" in text
