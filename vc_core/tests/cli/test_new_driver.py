"""``virtc new-driver`` writes distributions that install, whose tests run and name what is still to be written."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from vc_core.cli import scaffold
from vc_core.driver.agent import Agent
from vc_core.driver.guest import GuestBuilder
from vc_core.driver.hypervisor import Hypervisor
from vc_core.driver.kinds import PluginKind
from vc_core.driver.spawner import Spawner
from vc_core.errors import ConfigError

OBJECTS = {"hypervisor": Hypervisor, "agent": Agent, "spawner": Spawner, "guest": GuestBuilder}


def virtc(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("virtc")), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, encoding="utf-8", timeout=300)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one of each kind, as the command wrote it."""
    folder = tmp_path_factory.mktemp("written")
    for kind in PluginKind:
        done = virtc("new-driver", kind, "my-own", cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def site(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them, installed: each built by its own build system and unpacked."""
    site, wheels = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("wheels")
    for project in written.iterdir():
        build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(wheels)]
        subprocess.run(build, cwd=project, check=True, capture_output=True, timeout=300)
    for wheel in wheels.glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(site)
    return site


@pytest.fixture(scope="module")
def report(written: Path, site: Path) -> str:
    """The output of pytest for the tests of all of them."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "--import-mode=importlib", "-p", "no:cacheprovider", written],
        env={**os.environ, "PYTHONPATH": str(site), "COLUMNS": "300"},
        cwd=written,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert done.returncode == 1, done.stdout
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", OBJECTS)
def test_each_method_that_is_missing_is_named_with_what_it_is_for(report: str, kind: str) -> None:
    name = f"MyOwn{OBJECTS[kind].__name__}"
    named = re.findall(rf" lacks {name}\.(\w+): [A-Z].+$", report, re.MULTILINE)
    assert set(named) == OBJECTS[kind].__abstractmethods__ - {"capabilities"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", OBJECTS)
def test_nothing_else_is_wrong(report: str, kind: str) -> None:
    failed = re.findall(rf"^(?:FAILED|ERROR) vc-{kind}-my-own/\S+ - (.*)$", report, re.MULTILINE)
    assert len(failed) > 1
    assert [text for text in failed if not re.search("lacks|still to be written", text)] == []


@pytest.mark.slow
def test_an_extension_is_whole_from_the_start(report: str) -> None:
    assert re.search("^PASSED vc-extension-my-own/", report, re.MULTILINE)
    assert not re.search("^(FAILED|ERROR) vc-extension-my-own/", report, re.MULTILINE)


@pytest.mark.slow
def test_a_generated_driver_passes_ruff_and_mypy(written: Path) -> None:
    for command in (
        ["ruff", "check", "--isolated", "--line-length=120", "--select=E,F,I,UP,B,D1,D4,RUF", "--ignore=D1", "."],
        ["ruff", "format", "--isolated", "--line-length=120", "--check", "."],
        *(["mypy", "--strict", str(folder / "src")] for folder in written.iterdir()),
    ):
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=written,
            capture_output=True,
            encoding="utf-8",
            timeout=300,
            env={**os.environ, "MYPYPATH": f"{command[-1]}"},
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_new_driver_overwrites_nothing(written: Path) -> None:
    done = virtc("new-driver", "agent", "my-own", cwd=written)
    assert done.returncode == 1
    assert done.stderr == "virtc: 'vc-agent-my-own' exists; give a --directory that does not\n"


def test_a_driver_is_written_into_the_directory_of_the_option(tmp_path: Path) -> None:
    assert virtc("new-driver", "spawner", "x", "--directory", "a/b", cwd=tmp_path).returncode == 0
    assert (tmp_path / "a/b/src/vc_spawner_x/spawner.py").is_file()


def abstract_methods(base: type) -> dict[str, str]:
    """Return the signature of each abstract method of a base class, as its source has it."""
    found = {}
    for name in base.__abstractmethods__:  # type: ignore[attr-defined] # of an abstract base class
        member = vars(base)[name]
        function = getattr(member, "fget", member)
        found[name] = ("async " * inspect.iscoroutinefunction(function)) + str(inspect.signature(function))
    return found


@pytest.mark.parametrize("kind", OBJECTS)
def test_a_template_has_each_abstract_method_with_its_signature(kind: str) -> None:
    base = OBJECTS[kind]
    text = scaffold.files(PluginKind(kind), "x")[f"src/vc_{kind}_x/{kind}.py"]
    cls = next(node for node in ast.parse(text).body if isinstance(node, ast.ClassDef))
    methods = [node for node in cls.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    written = {
        one.name: ast.unparse(
            ast.parse(
                f"{'async ' * isinstance(one, ast.AsyncFunctionDef)}def f("
                f"{ast.unparse(one.args)}) -> {ast.unparse(one.returns)}: ..."
            )
        )
        for one in methods
        if one.name != "__init__" and one.returns is not None
    }
    expected = {
        name: ast.unparse(ast.parse(signature.replace("(", "def f(", 1).replace("'", "") + ": ..."))
        for name, signature in abstract_methods(base).items()
    }
    assert written == expected


@pytest.mark.parametrize("kind", OBJECTS)
def test_a_template_names_the_methods_that_may_be_added(kind: str) -> None:
    base = OBJECTS[kind]
    text = scaffold.files(PluginKind(kind), "x")[f"src/vc_{kind}_x/{kind}.py"]
    named = re.search(r"It may have more methods of \w+: ([\w,\s]+)\.", text)
    more = {name for name, value in vars(base).items() if inspect.isfunction(value)} - base.__abstractmethods__
    assert set(re.findall(r"\w+", named[1]) if named else []) == more


@pytest.mark.parametrize("kind", PluginKind)
def test_what_is_written_imports_of_the_core_what_drivers_may(kind: PluginKind) -> None:
    modules = {
        str(node.module)
        for path, text in scaffold.files(kind, "x").items()
        if path.endswith(".py")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom)
    }
    assert {one for one in modules if one.startswith("vc_core")} <= {
        "vc_core.driver",
        "vc_core.errors",
        "vc_core.testing",
    }


@pytest.mark.parametrize("name", ["", "Qemu", "a_b", "-a", "a--b", "a/b", "a\nb"])
def test_a_name_that_cannot_be_one_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="lower-case letters"):
        scaffold.files(PluginKind.AGENT, name)
