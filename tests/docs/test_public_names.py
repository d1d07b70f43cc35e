"""``vc_core`` exports all that its documentation names."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import vc_core as vc
from vc_core import aio, errors


def documented() -> Iterator[tuple[str, str]]:
    """Yield each exported function, class and method with a docstring: its name and that."""
    for name in vc.__all__:
        value = getattr(vc, name)
        members = vars(value).items() if inspect.isclass(value) else ()
        for label, one in [(name, value), *((f"{name}.{member}", item) for member, item in members)]:
            if (inspect.isroutine(one) or inspect.isclass(one)) and one.__doc__:
                yield label, one.__doc__


def test_every_name_is_there_and_no_module_has_more() -> None:
    assert sorted(vc.__all__) == sorted(vc._MODULES)
    assert all(getattr(vc, name) is not None for name in vc.__all__)
    with pytest.raises(AttributeError, match="module 'vc_core' has no attribute 'nonsense'"):
        _ = vc.nonsense  # type: ignore[attr-defined] # that is what is tested


def test_completion_of_the_module_shows_the_api_and_no_more() -> None:
    assert [name for name in dir(vc) if not name.startswith("__")] == sorted(vc.__all__)


@pytest.mark.parametrize(("name", "docstring"), list(documented()), ids=lambda text: text.partition("\n")[0][:40])
def test_every_error_that_a_docstring_names_is_exported(name: str, docstring: str) -> None:
    named = set(re.findall(r"\b\w+Error\b", docstring)) & set(vars(errors))
    assert named - set(vc.__all__) == set()


#: A client tries again when it gets one of these, so no caller does.
INTERNAL = {"SupervisorLeavingError"}


def test_every_error_that_can_reach_a_caller_is_exported() -> None:
    classes = {name for name, one in vars(errors).items() if inspect.isclass(one) and issubclass(one, vc.VCError)}
    assert classes - INTERNAL - set(vc.__all__) == set()


#: Those whose arguments can name something that there is not.
FUNCTIONS = sorted(
    name
    for name in vc.__all__
    if inspect.isfunction(function := getattr(vc, name))
    and any(one.default is one.empty for one in inspect.signature(function).parameters.values())
)
REFERENCE = re.compile(r":func:`(\w+)`")


def named_errors(name: str) -> set[str]:
    """Return the errors that a function's docstring names, also those of functions to which it refers."""
    docstring = getattr(vc, name).__doc__
    found = set(re.findall(r"\b\w+Error\b", docstring))
    for other in REFERENCE.findall(docstring) if "raise" in docstring or "errors" in docstring else ():
        if other != name:
            found |= named_errors(other)
    return found


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_error_that_a_wrong_argument_causes_is_one_that_the_docstring_names(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTCONTAINERS_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("VIRTCONTAINERS_CACHE", str(tmp_path / "cache"))
    function = getattr(vc, name)
    parameters = list(inspect.signature(function).parameters.values())
    given = {"cmd": vc.Cmd(args=["ls"]), "signal": "TERM", "config": vc.PodConfig(id="p", hypervisor_type="absent")}
    if any(one.name == "pod_id" for one in parameters):
        given["config"] = vc.ContainerConfig(id="c")
    for word in ("absent", "../x", "a b\n"):
        caught: vc.VCError | None = None
        try:
            result = function(*(given.get(one.name, word) for one in parameters if one.default is one.empty))
            if inspect.isgenerator(result):
                next(result, None)
        except vc.VCError as error:
            caught = error
        if caught is not None:
            assert {one.__name__ for one in type(caught).__mro__} & named_errors(name), repr(caught)
        else:
            assert not {"pod_id", "container_id"} & {one.name for one in parameters}, "a wrong name is accepted"


def test_the_docstrings_of_functions_are_among_those() -> None:
    assert any("AgentTimeoutError" in docstring for _, docstring in documented())


def test_the_async_api_has_every_function_of_the_blocking_one() -> None:
    functions = {name for name in vc.__all__ if vc._MODULES[name] == "sync" and inspect.isfunction(getattr(vc, name))}
    kinds = (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    assert functions == {name for name, value in vars(aio).items() if any(kind(value) for kind in kinds)} - {
        "run_async"
    }
