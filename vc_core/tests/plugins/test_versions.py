"""A plug-in is loaded only by a core of a version that its distribution requires, and what else it lacks is named."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from importlib.metadata import Distribution
from pathlib import Path

import pytest

import distributions
from vc_core.driver.kinds import PluginKind
from vc_core.errors import DriverLoadError
from vc_core.plugins import versions
from vc_core.plugins.discovery import advice
from vc_core.plugins.loaded import NOT_A_CLASS_MESSAGE
from vc_core.plugins.registry import Plugins

INSTALLED = importlib.metadata.version("vc-core")

SPAWNER = """
    from vc_core.driver import Spawner, hookimpl

    class Made(Spawner):
        def wrap(self, argv, target):
            return ["enter", *argv]

    class Plugin:
        @hookimpl
        def vc_spawner_create(self):
            return Made()
"""

#: Distribution -> what it requires.
REQUIRES = {
    "fits": ["vc-core>=0.1,<0.2", "pluggy", 'no-such-extra; extra == "test"', 'no-such-os; sys_platform == "plan9"'],
    "for-newer": ["vc-core>=7,<8"],
    "for-older": ["vc-core<0.1"],
    "lacks": ["vc-core>=0.1,<0.2", "no-such-library>=3", "pluggy>=99"],
    "silent": [],
}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory on sys.path with all the distributions."""
    for name, requires in REQUIRES.items():
        distributions.install(tmp_path, name, "spawners", name, SPAWNER, requires)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def distribution(site: Path, name: str) -> Distribution:
    return importlib.metadata.Distribution.at(next(site.glob(f"stranger_{name.replace('-', '_')}-*")))


@pytest.mark.parametrize(
    ("requires", "found"),
    [
        (["vc-core>=7; python_version < '3'", "vc-core>=0.1"], ">=0.1"),
        (["vc-core>=0.1", "vc-core<0.2", "pluggy>=1"], ">=0.1,<0.2"),
        (["vc-core", "vc-core<0.2; sys_platform == 'linux'"], "<0.2"),
        (["vc-core>=7; sys_platform == 'plan9'"], None),
        (["vc-core[testing]>=7,<8; extra == 'testing'", "vc-core>=0.1"], ">=0.1"),
        (["vc-core>=7; extra == 'testing' or python_version > '3'"], ">=7"),
        (["vc-core @ https://example.org/vc_core.whl"], ""),
    ],
)
def test_only_requirements_that_apply_here_count_and_all_of_them_do(
    tmp_path: Path, requires: list[str], found: str | None
) -> None:
    distributions.install(tmp_path, "one", "spawners", "one", SPAWNER, requires)
    assert versions.core_versions(distribution(tmp_path, "one")) == found


def test_a_requirement_whose_marker_cannot_be_read_is_named(tmp_path: Path) -> None:
    distributions.install(tmp_path, "one", "spawners", "one", SPAWNER, ["vc-core>=0.1; no_such_variable > '3'"])
    assert versions.core_mismatch(distribution(tmp_path, "one")) == (
        "has a requirement that cannot be read, vc-core>=0.1; no_such_variable > '3'; repair or uninstall it"
    )


@pytest.mark.parametrize(
    ("requirement", "found"),
    [
        ("vc-core>=0.1,<0.2", ">=0.1,<0.2"),
        ("vc_core (>=0.1,<0.2)", ">=0.1,<0.2"),
        ("VC.Core[testing] >=0.1 ; python_version > '3'", ">=0.1"),
        ("vc-core", ""),
        ('vc-core[testing]>=0.1; extra == "test"', None),
        ("vc-core-more>=1", None),
    ],
)
def test_the_requirement_on_the_core_is_found_however_it_is_written(
    tmp_path: Path, requirement: str, found: str | None
) -> None:
    distributions.install(tmp_path, "one", "spawners", "one", SPAWNER, [requirement])
    assert versions.core_versions(distribution(tmp_path, "one")) == found


def test_a_driver_that_fits_is_loaded(site: Path) -> None:
    assert Plugins().spawner("fits").name == "fits"


@pytest.mark.parametrize(("name", "wanted"), [("for-newer", "vc-core>=7,<8"), ("for-older", "vc-core<0.1")])
def test_a_driver_for_another_core_is_refused_when_it_is_used(site: Path, name: str, wanted: str) -> None:
    with pytest.raises(DriverLoadError) as caught:
        Plugins().spawner(name)
    assert str(caught.value) == (
        f"spawner driver '{name}' of stranger-{name} 7.8 requires {wanted}, and vc-core {INSTALLED} is installed; "
        f"install a version of stranger-{name} for that, or the vc-core that it requires"
    )
    assert f"stranger_{name.replace('-', '_')}" not in sys.modules


def test_unmet_requirements_are_named_without_those_of_extras_and_other_systems(site: Path) -> None:
    assert list(versions.unmet_requirements(distribution(site, "fits"))) == []
    assert list(versions.unmet_requirements(distribution(site, "lacks"))) == [
        "requires no-such-library>=3, which is not installed; install it",
        f"requires pluggy>=99, and pluggy {importlib.metadata.version('pluggy')} is installed; "
        "install a version that fits",
    ]


@pytest.mark.slow
def test_virtc_drivers_says_what_does_not_fit(site: Path) -> None:
    virtc = [str(Path(sys.executable).with_name("virtc")), "drivers", "--json", *REQUIRES]
    done = subprocess.run(
        virtc, env={**os.environ, "PYTHONPATH": str(site)}, capture_output=True, encoding="utf-8", check=True
    )
    found = {one["name"]: one for one in json.loads(done.stdout)}
    assert found["fits"]["problems"] == found["fits"]["violations"] == []
    assert "requires vc-core>=7,<8" in "; ".join(found["for-newer"]["problems"])
    assert "requires vc-core<0.1" in "; ".join(found["for-older"]["problems"])
    assert "requires no-such-library>=3, which is not installed" in found["lacks"]["problems"][0]
    assert found["silent"]["problems"] == []
    assert "requires no version of vc-core" in found["silent"]["violations"][0]


@pytest.mark.parametrize(
    ("name", "installed", "kind", "text"),
    [
        ("qemu", [], PluginKind.HYPERVISOR, "'pip install vc-hypervisor-qemu' installs it"),
        ("qmu", ["qemu"], PluginKind.HYPERVISOR, "did you mean 'qemu'?"),
        ("qmu", [], None, "did you mean 'qemu', which 'pip install vc-hypervisor-qemu' installs?"),
        ("libvrit", ["libvirt", "qemu"], PluginKind.HYPERVISOR, "did you mean 'libvirt'?"),
        ("hyperstart", ["mock"], PluginKind.SPAWNER, "correct the name, or install the distribution that offers it"),
        ("xen", ["mock"], None, "correct the name, or install the distribution that offers it"),
    ],
)
def test_advice_about_a_name_never_names_a_distribution_of_others(
    name: str, installed: list[str], kind: PluginKind | None, text: str
) -> None:
    assert advice(name, installed, kind) == text


@pytest.mark.parametrize(
    ("source", "hinted"),
    [
        ("class Plugin:\n    def __init__(self, host): pass", True),
        ("class Plugin:\n    def __init__(self): len(1)", False),
        ("len(1)\nclass Plugin: pass", False),
        ("Plugin = 1", True),
    ],
    ids=["arguments", "in the call", "in the import", "no class"],
)
def test_only_a_call_that_an_entry_point_does_not_allow_gets_advice_about_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, source: str, hinted: bool
) -> None:
    name = f"call-{request.node.callspec.id.replace(' ', '-')}"
    distributions.install(tmp_path, name, "spawners", name, source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DriverLoadError, match="TypeError: ") as caught:
        Plugins().spawner(name)
    assert (NOT_A_CLASS_MESSAGE in str(caught.value)) == hinted
