"""``vc_core`` exports all that its documentation names."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

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


def test_the_docstrings_of_functions_are_among_those() -> None:
    assert any("AgentTimeoutError" in docstring for _, docstring in documented())


def test_the_async_api_has_every_function_of_the_blocking_one() -> None:
    functions = {name for name in vc.__all__ if vc._MODULES[name] == "sync" and inspect.isfunction(getattr(vc, name))}
    kinds = (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    assert functions == {name for name, value in vars(aio).items() if any(kind(value) for kind in kinds)} - {
        "run_async"
    }
