"""Every folder with a pyproject.toml is a distribution of the same make."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import vc_core
from vc_core.config.defaults import DEFAULT_AGENT, DEFAULT_GUEST, DEFAULT_HYPERVISOR
from vc_core.driver.kinds import PluginKind
from vc_core.plugins.discovery import advice

ROOT = Path(__file__).parents[2]
CORE = ROOT / "vc_core"
PLUGINS = sorted(
    path.parent for path in [*ROOT.glob("drivers/*/pyproject.toml"), *ROOT.glob("plugins-example/*/pyproject.toml")]
)

#: Programs that use the public API, and are no plug-ins.
RUNTIMES = sorted(path.parent for path in ROOT.glob("runtimes/*/pyproject.toml"))

#: The distribution without code that depends on what a pod uses by default.
ALL_IN_ONE = ROOT / "virtcontainers"

#: Kind of plug-in that a distribution's name announces, and its entry-point group.
SLOTS = {str(kind): kind.group for kind in PluginKind}


def each(*folders: Path) -> pytest.MarkDecorator:
    """Return the mark that runs a test for each of these folders."""
    return pytest.mark.parametrize("folder", folders, ids=lambda folder: folder.name)


def settings(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))


def minor_range() -> str:
    """Return the range of versions that one distribution of this repository accepts of another."""
    major, minor = map(int, re.findall(r"\d+", vc_core.__version__)[:2])
    return f">={major}.{minor},<{major}.{minor + 1}"


@each(ALL_IN_ONE, CORE, *PLUGINS, *RUNTIMES)
def test_uv_takes_the_distribution_from_the_workspace(folder: Path) -> None:
    name = settings(folder)["project"]["name"]
    assert settings(ROOT)["tool"]["uv"]["sources"][name] == {"workspace": True}


@each(ALL_IN_ONE, CORE, *PLUGINS, *RUNTIMES)
def test_all_versions_are_equal(folder: Path) -> None:
    assert settings(folder)["project"]["version"] == vc_core.__version__


@each(*PLUGINS, *RUNTIMES)
def test_a_driver_takes_any_core_of_its_own_minor_version(folder: Path) -> None:
    requirements = settings(folder)["project"]["dependencies"]
    assert [one for one in requirements if re.match(r"vc[-_]", one)] == [f"vc-core{minor_range()}"]


def test_the_core_needs_no_driver() -> None:
    assert [one for one in settings(CORE)["project"]["dependencies"] if re.match(r"vc[-_]", one)] == []


def test_the_all_in_one_distribution_brings_the_core_and_the_default_drivers_of_its_own_minor_version() -> None:
    project = settings(ALL_IN_ONE)["project"]
    drivers = [
        f"vc-agent-{DEFAULT_AGENT}",
        f"vc-guest-{DEFAULT_GUEST}",
        f"vc-hypervisor-{DEFAULT_HYPERVISOR}",
    ]
    assert sorted(project["dependencies"]) == sorted(name + minor_range() for name in ["vc-core", *drivers])
    extras = [one for extra in project["optional-dependencies"].values() for one in extra]
    names = {settings(folder)["project"]["name"] for folder in PLUGINS}
    assert {one.removesuffix(minor_range()) for one in extras} <= names


@each(ALL_IN_ONE, CORE, *PLUGINS, *RUNTIMES)
def test_every_requirement_has_a_lower_and_an_upper_bound(folder: Path) -> None:
    for requirement in settings(folder)["project"]["dependencies"]:
        assert re.fullmatch(r"[a-z0-9.-]+(\[[a-z]+\])?>=[0-9.]+,<[0-9.]+", requirement), requirement


@each(CORE, *PLUGINS, *RUNTIMES)
def test_a_package_for_tests_brings_pytest_as_an_extra_only(folder: Path) -> None:
    project = settings(folder)["project"]
    provider = "pytest" if folder.name == "vc_core" else "vc-core[testing]"
    modules = [path.read_text(encoding="utf-8") for path in (folder / "src").glob("*/testing/**/*.py")]
    needed = [provider] if any(re.search("^(import|from) pytest", text, re.MULTILINE) for text in modules) else []
    extra = project.get("optional-dependencies", {}).get("testing", [])
    assert [requirement.split(">=")[0] for requirement in extra] == needed
    assert not [needs for needs in project["dependencies"] if re.match(r"pytest|.*\[testing\]", needs)]


@each(ALL_IN_ONE, CORE, *PLUGINS, *RUNTIMES)
def test_the_shared_metadata_of_every_distribution_is_the_same(folder: Path) -> None:
    made = settings(folder)
    assert made["build-system"] == {"requires": ["hatchling>=1.27,<2"], "build-backend": "hatchling.build"}
    project = made["project"]
    assert (project["requires-python"], project["license"], project["readme"]) == (">=3.11", "Apache-2.0", "README.md")
    assert (folder / "README.md").read_text(encoding="utf-8").startswith(f"# {project['name']}\n")
    assert project["urls"] == settings(CORE)["project"]["urls"]
    assert {"Repository", "Documentation", "Changelog", "Issues"} <= project["urls"].keys()


def test_every_page_for_newcomers_leads_to_the_repository_that_the_distributions_name() -> None:
    repository = settings(CORE)["project"]["urls"]["Repository"]
    pages = [*ROOT.glob("*.md"), *(path for path in ROOT.glob(".github/**/*") if path.is_file())]
    for page in pages:
        for url in re.findall(r"https://github\.com/[^\s)>]*", page.read_text(encoding="utf-8")):
            assert url == repository or url.startswith(f"{repository}/"), f"{page.name} leads to {url}"


@each(CORE, *PLUGINS, *RUNTIMES)
def test_every_package_is_one(folder: Path) -> None:
    """Without __init__.py an editable install imports nothing; without py.typed type checkers ignore the types."""
    [package] = [path for path in (folder / "src").iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert (package / "py.typed").is_file()
    for source in package.rglob("*.py"):
        assert (source.parent / "__init__.py").is_file(), f"{source.parent} has no __init__.py"


@each(CORE, *PLUGINS, *RUNTIMES)
def test_no_module_is_outside_of_the_package_but_that_of_the_script_virtc(folder: Path) -> None:
    modules = [path.name for path in (folder / "src").iterdir() if path.is_file()]
    assert modules == (["virtc.py"] if folder == CORE else [])


@each(*PLUGINS)
def test_the_name_of_a_driver_distribution_contains_its_kind(folder: Path) -> None:
    project = settings(folder)["project"]
    _, kind, name = project["name"].split("-", 2)
    package = project["name"].replace("-", "_")
    assert (folder / "src" / package).is_dir()
    (target,) = project["entry-points"][SLOTS[kind]].items()
    assert target[0] == name
    assert re.fullmatch(rf"{package}\.plugin:[A-Za-z]+Plugin", target[1])


@each(*PLUGINS)
def test_an_error_about_a_driver_that_is_not_installed_names_its_distribution(folder: Path) -> None:
    project = settings(folder)["project"]
    for kind in PluginKind:
        for name in project["entry-points"].get(kind.group, ()):
            assert advice(name, [], kind) == f"'pip install {project['name']}' installs it"


@each(*PLUGINS)
def test_a_plugin_keeps_the_contract_of_its_kind(folder: Path) -> None:
    kind = settings(folder)["project"]["name"].split("-")[1].capitalize()
    contract = (folder / "tests" / "test_contract.py").read_text(encoding="utf-8")
    assert re.search(rf"^class \w+\((Hyperstart|{kind})Contract\)", contract, re.MULTILINE)


@each(CORE, *PLUGINS, *RUNTIMES)
def test_every_dependency_is_explained_with_its_range(folder: Path) -> None:
    page = (ROOT / "docs" / "explanation" / "dependencies.md").read_text(encoding="utf-8")
    explained = dict(re.findall(r"^\| ([a-z0-9.-]+) \| `(\S+)` \|", page, flags=re.MULTILINE))
    for requirement in settings(folder)["project"]["dependencies"]:
        name, bounds = requirement.split(">=")
        assert name == "vc-core" or explained.get(name) == f">={bounds}", f"dependencies.md must explain {requirement}"
