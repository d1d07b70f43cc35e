"""Every folder with a pyproject.toml is a distribution of the same make."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import vc_core

ROOT = Path(__file__).parents[2]
PLUGINS = [*ROOT.glob("drivers/*/pyproject.toml"), *ROOT.glob("plugins-example/*/pyproject.toml")]
FOLDERS = [ROOT / "vc_core", *sorted(path.parent for path in PLUGINS)]

#: Kind of plug-in that a distribution's name announces, and its entry-point group.
SLOTS = {kind: f"vc_core.{kind}s" for kind in ("hypervisor", "agent", "spawner", "guest", "extension")}

pytestmark = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def settings(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text())


def test_all_versions_are_equal(folder: Path) -> None:
    assert settings(folder)["project"]["version"] == vc_core.__version__


def test_a_driver_takes_any_core_of_its_own_minor_version(folder: Path) -> None:
    project = settings(folder)["project"]
    major, minor = map(int, re.findall(r"\d+", vc_core.__version__)[:2])
    siblings = [requirement for requirement in project["dependencies"] if re.match(r"vc[-_]", requirement)]
    if folder.name == "vc_core":
        assert siblings == []
    else:
        assert siblings == [f"vc-core>={major}.{minor},<{major}.{minor + 1}"]


def test_every_requirement_has_a_lower_and_an_upper_bound(folder: Path) -> None:
    for requirement in settings(folder)["project"]["dependencies"]:
        assert re.fullmatch(r"[a-z.-]+(\[[a-z]+\])?>=[0-9.]+,<[0-9.]+", requirement), requirement


def test_a_package_for_tests_brings_pytest_as_an_extra_only(folder: Path) -> None:
    project = settings(folder)["project"]
    provider = "pytest" if folder.name == "vc_core" else "vc-core[testing]"
    modules = [path.read_text() for path in (folder / "src").glob("*/testing/**/*.py")]
    needed = [provider] if any(re.search("^(import|from) pytest", text, re.MULTILINE) for text in modules) else []
    extra = project.get("optional-dependencies", {}).get("testing", [])
    assert [requirement.split(">=")[0] for requirement in extra] == needed
    assert not [needs for needs in project["dependencies"] if re.match(r"pytest|.*\[testing\]", needs)]


def test_what_every_distribution_says_is_the_same(folder: Path) -> None:
    made = settings(folder)
    assert made["build-system"] == {"requires": ["hatchling>=1.27,<2"], "build-backend": "hatchling.build"}
    project = made["project"]
    assert (project["requires-python"], project["license"], project["readme"]) == (">=3.11", "Apache-2.0", "README.md")
    assert (folder / "README.md").read_text().startswith(f"# {project['name']}\n")


def test_every_package_is_one(folder: Path) -> None:
    """Without __init__.py an editable install succeeds and imports nothing; without py.typed nobody sees the types."""
    packages = [path for path in (folder / "src").iterdir() if path.name != "__pycache__"]
    assert len(packages) == 1
    assert (packages[0] / "py.typed").is_file()
    for source in packages[0].rglob("*.py"):
        assert (source.parent / "__init__.py").is_file(), f"{source.parent} has no __init__.py"


def test_the_name_says_which_slot_a_driver_fills(folder: Path) -> None:
    if folder.name == "vc_core":
        return
    project = settings(folder)["project"]
    _, kind, name = project["name"].split("-", 2)
    package = project["name"].replace("-", "_")
    assert (folder / "src" / package).is_dir()
    (target,) = project["entry-points"][SLOTS[kind]].items()
    assert target[0] == name
    assert re.fullmatch(rf"{package}\.plugin:[A-Za-z]+Plugin", target[1])


def test_a_plugin_keeps_the_contract_of_its_kind(folder: Path) -> None:
    if folder.name == "vc_core":
        return
    kind = settings(folder)["project"]["name"].split("-")[1].capitalize()
    contract = (folder / "tests" / "test_contract.py").read_text()
    assert re.search(rf"^class Test\w*\((Hyperstart|{kind})Contract\)", contract, re.MULTILINE)


def test_every_dependency_is_explained_with_its_range(folder: Path) -> None:
    page = (ROOT / "docs" / "explanation" / "dependencies.md").read_text()
    explained = dict(re.findall(r"^\| ([a-z.-]+) \| `(\S+)` \|", page, flags=re.MULTILINE))
    for requirement in settings(folder)["project"]["dependencies"]:
        name, bounds = requirement.split(">=")
        assert name == "vc-core" or explained.get(name) == f">={bounds}", f"dependencies.md must explain {requirement}"
