"""The plug-in machinery with installed distributions, good and broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import distributions

HYPERVISOR = """
    from dataclasses import dataclass
    from vc_core.driver import hookimpl

    MADE = []

    @dataclass(frozen=True)
    class Options:
        a: int = 0

    class Plugin:
        def __init__(self):
            MADE.append(self)

        @hookimpl
        def vc_driver_options(self):
            return Options

        @hookimpl
        def vc_hypervisor_create(self, pod, config, saved):
            return "no hypervisor"
"""

EXTENSION = """
    from dataclasses import dataclass
    from vc_core.driver import hookimpl

    class Plugin:
        @hookimpl(wrapper=True)
        def vc_driver_options(self):
            inner = yield

            @dataclass(frozen=True)
            class Wrapped(inner):
                wrapped: bool = True

            return Wrapped

        @hookimpl
        def vc_pod_transition(self, pod_id, old, new):
            print(pod_id, old, new)
"""

AWAITS = "\n        async def make(self): pass"

#: Distribution -> entry-point group, name of the entry point, source of its module.
PROJECTS = {
    "good": ("hypervisors", "good", HYPERVISOR),
    "falsy": ("hypervisors", "falsy", HYPERVISOR + "\n        def __len__(self):\n            return 0"),
    "missing-import": ("hypervisors", "missing-import", "import no_such_module"),
    "exits": ("hypervisors", "exits", "raise SystemExit(3)"),
    "asserts": ("hypervisors", "asserts", "assert False, 'wrong platform'"),
    "needs-arguments": ("hypervisors", "needs-arguments", "class Plugin:\n    def __init__(self, host): pass"),
    "no-class": ("hypervisors", "no-class", "Plugin = object()"),
    "awaits": ("hypervisors", "awaits", HYPERVISOR.replace('"no hypervisor"', "self.make()") + AWAITS),
    "twice-a": ("hypervisors", "twice", HYPERVISOR),
    "twice-b": ("hypervisors", "twice", HYPERVISOR),
    "misspelt": ("hypervisors", "misspelt", HYPERVISOR.replace("vc_hypervisor_create", "vc_hypervisor_crate")),
    "telling": ("extensions", "telling", EXTENSION),
    "broken-extension": ("extensions", "broken", "raise RuntimeError('no licence')"),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with all the distributions."""
    site = tmp_path_factory.mktemp("site")
    for name, project in PROJECTS.items():
        distributions.install(site, name, *project)
    return site


@pytest.fixture
def run(site: Path, tmp_path: Path) -> Callable[..., Any]:
    """Return a function that runs statements in a fresh process and returns what they assign to ``result``."""

    def run(statements: str, site: Path = site) -> Any:
        program = "import json\nfrom vc_core.driver import PluginKind\nfrom vc_core.plugins.registry import Plugins\n"
        program += "plugins = Plugins()\n"
        program += textwrap.dedent(statements) + "\nprint(json.dumps(result))"
        done = subprocess.run(
            [sys.executable, "-B", "-c", program],
            env={**os.environ, "PYTHONPATH": str(site), "XDG_CACHE_HOME": str(tmp_path / "cache")},
            capture_output=True,
            encoding="utf-8",
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def failure(run: Callable[..., Any], name: str) -> list[str]:
    """Return class and text of the error with which a driver cannot be had."""
    error: list[str] = run(f"""
        try:
            result = plugins.hypervisor({name!r}).name
        except Exception as error:
            result = [type(error).__name__, str(error)]
    """)
    return error


def test_names_are_listed_without_importing_a_driver(run: Callable[..., Any]) -> None:
    names, imported = run("""
        import sys
        result = plugins.names(PluginKind.HYPERVISOR), [name for name in sys.modules if "stranger" in name]
    """)
    assert {entry_point for group, entry_point, _ in PROJECTS.values() if group == "hypervisors"} <= set(names)
    assert names == sorted(set(names))
    assert imported == []


def test_asking_for_one_driver_imports_no_other(run: Callable[..., Any]) -> None:
    assert run("""
        import sys
        plugins.hypervisor("good")
        result = [name for name in sys.modules if "stranger" in name]
    """) == ["stranger_good"]


def test_a_driver_is_made_once(run: Callable[..., Any]) -> None:
    assert (
        run("""
        import stranger_good
        for _ in range(3):
            plugins.hypervisor("good").config({})
        result = len(stranger_good.MADE)
    """)
        == 1
    )


def test_a_driver_that_is_falsy_is_the_object_and_not_its_class(run: Callable[..., Any]) -> None:
    assert run("result = vars(plugins.hypervisor('falsy').config({'a': 1}))") == {"a": 1, "wrapped": True}


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("missing-import", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("exits", "SystemExit: 3"),
        ("asserts", "AssertionError: wrong platform"),
        ("needs-arguments", "missing 1 required positional argument: 'host'"),
        ("no-class", "TypeError: 'object' object is not callable"),
    ],
)
def test_a_driver_that_cannot_be_loaded_is_named_with_version_and_cause(
    run: Callable[..., Any], name: str, cause: str
) -> None:
    kind, text = failure(run, name)
    assert kind == "DriverLoadError"
    assert f"hypervisor driver '{name}' of stranger-{name} 7.8 failed to load" in text
    assert cause in text


@pytest.mark.promise("T25")
def test_two_distributions_that_offer_one_name_are_both_named(run: Callable[..., Any]) -> None:
    assert failure(run, "twice") == [
        "DriverConflictError",
        "hypervisor driver 'twice' is offered by stranger-twice-a 7.8 and stranger-twice-b 7.8; uninstall all but one",
    ]


def test_a_driver_with_a_misspelt_hook_is_named_with_its_distribution(run: Callable[..., Any]) -> None:
    kind, text = failure(run, "misspelt")
    assert kind == "DriverContractError"
    assert "hypervisor driver 'misspelt' of stranger-misspelt 7.8" in text
    assert "vc_hypervisor_crate" in text


def test_a_wrong_return_value_names_the_distribution(run: Callable[..., Any]) -> None:
    assert (
        run("""
            try:
                plugins.hypervisor("good").create(None, {}, None)
            except Exception as error:
                result = str(error)
        """)
        == "hypervisor driver 'good' of stranger-good 7.8 returned 'no hypervisor' from vc_hypervisor_create, "
        "which must return a vc_core.driver.Hypervisor"
    )


def test_a_hook_that_returns_a_coroutine_is_named_without_a_warning(run: Callable[..., Any]) -> None:
    error, warned = run("""
        import gc, warnings
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                plugins.hypervisor("awaits").create(None, {}, None)
            except Exception as error:
                text = str(error)
            gc.collect()
        result = text, [str(one.message) for one in caught]
    """)
    assert error == (
        "hypervisor driver 'awaits' of stranger-awaits 7.8 returned a coroutine from vc_hypervisor_create, "
        "which nothing awaits"
    )
    assert warned == []


def test_an_installed_extension_works_beside_a_broken_one(run: Callable[..., Any]) -> None:
    printed, config = run("""
        import contextlib, io
        with contextlib.redirect_stdout(io.StringIO()) as out:
            plugins.notify_pod_transition("p1", "ready", "running")
            plugins.drain()
        result = out.getvalue(), vars(plugins.hypervisor("good").config({}))
    """)
    assert printed == "p1 ready running\n"
    assert config == {"a": 0, "wrapped": True}


@pytest.mark.slow
def test_every_installed_plugin_is_checked_apart_from_the_others(run: Callable[..., Any]) -> None:
    rows = run("""
        import dataclasses
        from vc_core.plugins.check_runner import check_installed
        result = [dataclasses.astuple(one) for one in check_installed(contract=True)]
    """)
    ours = [row for row in rows if row[2].startswith("stranger-")]
    assert {(kind, name, distribution) for kind, name, distribution, *_ in ours} == {
        (group[:-1], entry_point, f"stranger-{name}") for name, (group, entry_point, _) in PROJECTS.items()
    }
    assert {version for _, _, _, version, *_ in ours} == {distributions.VERSION}
    violations = {name: violations for _, name, _, _, _, violations, _ in ours}
    assert [name for name in violations if not violations[name]] == ["telling"]
    assert "RuntimeError: no licence" in violations["broken"][0]
    assert "stranger-twice-a 7.8 and stranger-twice-b 7.8" in violations["twice"][0]
    assert any("has no description of option a" in one for one in violations["good"])
    assert any("returned 'no hypervisor' from vc_hypervisor_create" in one for one in violations["good"])


@pytest.mark.slow
def test_a_driver_is_seen_as_soon_as_it_is_installed_and_no_cache_is_written(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    site = tmp_path / "site"
    listing = """
        names = [name for name in plugins.names(PluginKind.HYPERVISOR) if name in ("good", "falsy")]
        result = [plugins.hypervisor(name).name for name in names]
    """
    assert run(listing, site) == []
    distributions.install(site, "good", *PROJECTS["good"])
    assert run(listing, site) == ["good"]
    distributions.install(site, "falsy", *PROJECTS["falsy"])
    assert run(listing, site) == ["falsy", "good"]
    assert not (tmp_path / "cache").exists()


def test_a_running_program_finds_a_driver_that_was_installed_after_it_looked(
    run: Callable[..., Any], site: Path, tmp_path: Path
) -> None:
    late = tmp_path / "late"
    late.mkdir()
    assert run(
        f"""
            import pathlib, shutil
            before = "good" in plugins.names(PluginKind.HYPERVISOR)
            for path in pathlib.Path({str(site)!r}).glob("stranger_good*"):
                (shutil.copytree if path.is_dir() else shutil.copy)(path, {str(late)!r} + "/" + path.name)
            result = before, plugins.hypervisor("good").distribution
        """,
        late,
    ) == [False, "stranger-good"]


def test_a_distribution_that_is_found_twice_is_no_clash(run: Callable[..., Any], site: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.symlink_to(site)
    assert run("result = plugins.hypervisor('good').distribution", Path(f"{site}:{again}")) == "stranger-good"


@pytest.mark.parametrize("file", ["entry_points.txt", "METADATA"])
def test_a_distribution_whose_metadata_is_damaged_hides_no_other(
    run: Callable[..., Any], site: Path, tmp_path: Path, file: str
) -> None:
    damaged = tmp_path / "damaged"
    info = damaged / "stranger_damaged-1.dist-info"
    info.mkdir(parents=True)
    (info / "entry_points.txt").write_text("[vc_core.hypervisors]\ndamaged = damaged:Plugin\n", encoding="utf-8")
    (info / "METADATA").write_text("Name: stranger-damaged\nVersion: 1\n", encoding="utf-8")
    if file == "METADATA":
        (info / file).unlink()
    else:
        (info / file).write_text("[vc_core.hypervisors]\ndamaged\n", encoding="utf-8")
    names = run("result = plugins.names(PluginKind.HYPERVISOR)", Path(f"{damaged}:{site}"))
    assert "good" in names
    assert "damaged" not in names
