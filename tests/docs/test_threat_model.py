"""docs/explanation/threat-model.md names tests that there are: each mitigation has its test."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/explanation/threat-model.md").read_text(encoding="utf-8")
FOLDERS = ("tests", "vc_core/tests", "drivers/*/tests", "runtimes/*/tests", "plugins-example/*/tests")


def names_of_tests() -> set[str]:
    files = [file for folder in FOLDERS for file in ROOT.glob(f"{folder}/**/test_*.py")]
    return {name for file in files for name in re.findall(r"def test_(\w+)\(", file.read_text(encoding="utf-8"))}


def named() -> list[str]:
    """Return the tests that the last column of a table of tests names, without "test_"; some end in "..."."""
    found: list[str] = []
    in_table = False
    for line in PAGE.splitlines():
        if not line.startswith("|"):
            in_table = False
            continue
        last = line.strip("| ").split(" | ")[-1].removeprefix("|").strip()
        if in_table:
            found += re.findall(r"`(\w+(?:\.\.\.)?)`", last)
        in_table = in_table or last.startswith("test")
    return found


def test_each_test_that_the_threat_model_names_exists() -> None:
    there = names_of_tests()
    assert len(named()) > 40
    for name in named():
        start = name.removesuffix("...")
        assert name in there or (start != name and any(one.startswith(start) for one in there)), name


def test_each_test_of_an_attack_is_named_in_the_threat_model() -> None:
    """Those of the posture are named by what they hold; all others stand for one attack each."""
    for file in sorted((ROOT / "tests/security").glob("test_*.py")):
        if file.name == "test_posture.py":
            continue
        for name in re.findall(r"^def test_(\w+)\(", file.read_text(encoding="utf-8"), flags=re.MULTILINE):
            assert any(name.startswith(one.removesuffix("...")) for one in named()), f"{file.name}: {name}"
