"""docs/explanation/architecture.md names the modules that there are."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
CORE = ROOT / "vc_core/src/vc_core"
PAGE = (ROOT / "docs/explanation/architecture.md").read_text(encoding="utf-8")


def test_each_package_and_module_of_the_core_is_in_the_drawing_once() -> None:
    drawing = PAGE.split("    vc_core\n", 1)[1].split("\n\n", 1)[0]
    drawn = [name for line in drawing.splitlines() for name in line[6:18].split()]
    there = [path.parent.name for path in CORE.glob("*/__init__.py")] + [path.stem for path in CORE.glob("*.py")]
    assert sorted(drawn) == sorted(set(there) - {"__init__"})


def test_each_module_in_the_table_of_packages_exists() -> None:
    table = PAGE.split("| package | main modules |\n|---|---|\n", 1)[1].split("\n\n", 1)[0]
    for row in table.splitlines():
        _, package, modules, _ = row.split("|")
        there = {path.stem for path in (CORE / package.strip(" `")).glob("*.py")}
        assert set(re.findall(r"`(\w+)`", modules)) <= there, f"not in {package}"
