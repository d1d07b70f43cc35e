"""The drivers of this repository are found and loaded like those of any other distribution."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from vc_core.driver.kinds import PluginKind
from vc_core.plugins.registry import Plugins

ROOT = Path(__file__).parents[2]

#: Kind, name, distribution and version of each driver that a folder of this repository offers.
OFFERED = [
    (kind, name, project["name"], project["version"])
    for path in sorted(ROOT.glob("drivers/*/pyproject.toml"))
    for project in [tomllib.loads(path.read_text(encoding="utf-8"))["project"]]
    for kind in PluginKind
    for name in project.get("entry-points", {}).get(kind.group, {})
]


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return Plugins()


@pytest.mark.parametrize(("kind", "name", "distribution", "version"), OFFERED)
def test_a_driver_of_this_repository_keeps_its_specification(
    plugins: Plugins, kind: PluginKind, name: str, distribution: str, version: str
) -> None:
    driver: Any = getattr(plugins, kind)(name)
    assert driver.distribution == distribution, "install the distributions of this checkout into this environment"
    rows = [info for info in plugins.installed() if (info.kind, info.name) == (kind, name)]
    assert [(info.distribution, info.version) for info in rows] == [(distribution, version)]
