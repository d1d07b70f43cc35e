"""The distributions' readmes list all options and files of their code."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from vc_core.driver.options import NoOptions

DRIVERS = Path(__file__).parents[2] / "drivers"


def plugins() -> dict[str, Any]:
    """Return the driver of each distribution by its folder, made as the core makes it."""
    found = {}
    for file in sorted(DRIVERS.glob("*/pyproject.toml")):
        for entries in tomllib.loads(file.read_text(encoding="utf-8"))["project"]["entry-points"].values():
            for target in entries.values():
                module, _, name = target.partition(":")
                found[file.parent.name] = getattr(import_module(module), name)()
    return found


def first_column(page: str, head: str) -> list[str]:
    """Return the names in code in the first column of all tables with this heading."""
    tables = re.findall(rf"^\| {head} \|.*\n\|[-|]+\n((?:\|.*\n)*)", page, flags=re.MULTILINE)
    return [
        name for table in tables for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])
    ]


@pytest.mark.parametrize(("folder", "plugin"), plugins().items())
def test_a_driver_s_readme_has_all_its_options(folder: str, plugin: Any) -> None:
    declared = plugin.vc_driver_options() if hasattr(plugin, "vc_driver_options") else NoOptions
    options = sorted(one.name for one in fields(declared))
    assert sorted(first_column((DRIVERS / folder / "README.md").read_text(encoding="utf-8"), "option")) == options


def test_the_guest_agent_s_readme_has_all_its_files() -> None:
    page = (DRIVERS / "hyperstart/README.md").read_text(encoding="utf-8")
    assert sorted(first_column(page, "files")) == sorted(
        path.stem for path in (DRIVERS / "hyperstart/guest").glob("*.c")
    )
