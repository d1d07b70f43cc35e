"""The generated files are what the code makes."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
TOOLS = DOCS.parent / "tools"


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test import the generators, as they import each other."""
    monkeypatch.syspath_prepend(TOOLS)


@pytest.mark.slow
def test_every_generated_file_is_what_the_code_makes() -> None:
    done = subprocess.run(
        [sys.executable, TOOLS / "generate.py", "--check"], capture_output=True, encoding="utf-8", check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.usefixtures("tools")
def test_a_check_names_the_files_that_differ_and_writes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generate = importlib.import_module("generate")
    paths = {name: tmp_path / name for name in ("same", "edited", "missing")}
    paths["same"].write_text("text", encoding="utf-8")
    paths["edited"].write_text("text, edited", encoding="utf-8")
    monkeypatch.setattr(generate, "generated", lambda: ((path, "text") for path in paths.values()))
    assert generate.main(["--check"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" ")[0] for line in lines] == [str(paths["edited"]), str(paths["missing"])]
    assert {path.name for path in tmp_path.iterdir()} == {"same", "edited"}
    assert paths["edited"].read_text(encoding="utf-8") == "text, edited"
    assert generate.main([]) == 0
    assert [path.read_text(encoding="utf-8") for path in paths.values()] == ["text"] * 3
    assert generate.main(["--check"]) == 0


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


@pytest.mark.usefixtures("tools")
def test_the_interoperability_page_has_every_code_and_every_kind_of_request() -> None:
    from vc_agent_hyperstart import requests
    from vc_agent_hyperstart.codec import Code

    pages = cells("Messages from the host") + cells("Messages from the guest")
    assert {row[1] for row in pages} == {code.name for code in Code}
    parts = {part for _, part, _ in importlib.import_module("interoperability")._OBJECTS}
    kinds = [kind for kind in vars(requests).values() if isinstance(kind, type) and issubclass(kind, requests.Part)]
    assert {kind.__name__ for kind in kinds if "__annotations__" in vars(kind)} - {part.__name__ for part in parts} <= {
        *("Part", "Request")  # bases
    }
