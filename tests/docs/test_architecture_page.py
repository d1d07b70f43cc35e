"""docs/explanation/architecture.md names the modules that there are."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_each_module_of_the_core_is_in_the_table_once() -> None:
    page = (ROOT / "docs/explanation/architecture.md").read_text()
    table = page.split("    vc_core\n", 1)[1].split("\n\n", 1)[0]
    named = [name for line in table.splitlines() for name in line.strip().partition("  ")[0].split()]
    core = ROOT / "vc_core/src/vc_core"
    there = [path.parent.name for path in core.glob("*/__init__.py")] + [path.stem for path in core.glob("*.py")]
    assert sorted(named) == sorted(set(there) - {"__init__"})
