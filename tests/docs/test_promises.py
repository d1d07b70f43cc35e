"""docs/reference/promises.md and the tests that hold its promises are in step."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/promises.md").read_text(encoding="utf-8")
FOLDERS = ("tests", "vc_core/tests", "drivers/*/tests", "plugins-example/*/tests")

#: The promises, by number, each with the text below its heading.
PROMISES = dict(re.findall(r"^## (T\d\d) .+?\n(.*?)(?=^## |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL))


def marked() -> set[tuple[str, str]]:
    """Return what the markers of all tests say: a number of a promise, and a test as pytest names it."""
    found: set[tuple[str, str]] = set()
    for file in (file for folder in FOLDERS for file in ROOT.glob(f"{folder}/**/test_*.py")):
        text = file.read_text(encoding="utf-8")
        if "pytest.mark.promise(" not in text:
            continue
        tests = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        for test in tests:
            for mark in filter(lambda one: ast.unparse(one).startswith("pytest.mark.promise("), test.decorator_list):
                assert isinstance(mark, ast.Call)
                numbers = [ast.literal_eval(argument) for argument in mark.args]
                found.update((number, f"{file.relative_to(ROOT)}::{test.name}") for number in numbers)
    return found


def test_the_page_names_each_test_that_holds_a_promise_and_no_other() -> None:
    named = {(number, test) for number, text in PROMISES.items() for test in re.findall(r"^\* CI: `(.+)`$", text, re.M)}
    assert named == marked()


def test_each_promise_has_a_test_or_says_that_none_holds_it() -> None:
    assert list(PROMISES) == [f"T{number:02}" for number in range(1, 31)]
    for number, text in PROMISES.items():
        assert re.search(r"^\* (CI|soak|No test holds yet): ", text, re.MULTILINE), number
