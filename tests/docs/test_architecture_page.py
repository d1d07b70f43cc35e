"""docs/explanation/architecture.md names the modules that there are."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_each_package_and_module_of_the_core_is_in_the_drawing_once() -> None:
    page = (ROOT / "docs/explanation/architecture.md").read_text(encoding="utf-8")
    drawing = page.split("    vc_core\n", 1)[1].split("\n\n", 1)[0]
    drawn = [name for line in drawing.splitlines() for name in line[6:18].split()]
    core = ROOT / "vc_core/src/vc_core"
    there = [path.parent.name for path in core.glob("*/__init__.py")] + [path.stem for path in core.glob("*.py")]
    assert sorted(drawn) == sorted(set(there) - {"__init__"})
