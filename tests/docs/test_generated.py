"""The generated pages are what the code says."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs"
TOOLS = DOCS.parent / "tools"


def load_generator() -> ModuleType:
    specification = importlib.util.spec_from_file_location("generate_reference", TOOLS / "generate_reference.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.path.insert(0, str(TOOLS))  # as it is when the script runs
    try:
        specification.loader.exec_module(module)
    finally:
        sys.path.remove(str(TOOLS))
    return module


GENERATOR = load_generator()


@pytest.mark.parametrize("path", GENERATOR.PAGES, ids=lambda path: path.name)
def test_the_page_is_what_the_code_says(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == GENERATOR.PAGES[path](), "run: ./dev docs"


def cells(heading: str) -> list[list[str]]:
    """Return the rows of the table below a heading of the interoperability page."""
    text = (DOCS / "reference/interoperability.md").read_text(encoding="utf-8").partition(f"\n## {heading}\n\n")[2]
    rows = text.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip(" `") for cell in row.strip("|").split("|")] for row in rows]


@pytest.mark.parametrize("heading", ["Messages from the host", "Keys"])
def test_the_guest_agent_does_all_that_the_host_asks_after_hello(heading: str) -> None:
    rows = cells(heading)
    assert len(rows) > 20
    assert [row for row in rows if row[-2] == "yes" and row[-1] != "yes"] == []


def test_the_interoperability_page_has_every_code_and_every_kind_of_request() -> None:
    from vc_agent_hyperstart import requests
    from vc_agent_hyperstart.codec import Code

    pages = cells("Messages from the host") + cells("Messages from the guest")
    assert {row[1] for row in pages} == {code.name for code in Code}
    parts = {part for _, part, _ in GENERATOR.interoperability._OBJECTS}
    kinds = [kind for kind in vars(requests).values() if isinstance(kind, type) and issubclass(kind, requests.Part)]
    assert {kind.__name__ for kind in kinds if "__annotations__" in vars(kind)} - {part.__name__ for part in parts} <= {
        *("Part", "Request")  # bases
    }
