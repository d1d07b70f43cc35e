"""Who may import whom."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "vc_core" / "src"
PLUGINS = sorted(
    path.parent for folder in ("drivers", "plugins-example") for path in ROOT.glob(f"{folder}/*/pyproject.toml")
)

RUNTIMES = sorted(path.parent for path in ROOT.glob("runtimes/*/pyproject.toml"))

#: Libraries that are used in one place only, and that place.
HOMES = {
    "stevedore": {"vc_core/src/vc_core/plugins/discovery.py"},
    "pluggy": {
        "vc_core/src/vc_core/driver/hooks/_markers.py",
        "vc_core/src/vc_core/plugins/registry.py",
        "vc_core/src/vc_core/plugins/rules.py",
    },
}

#: What a driver may import of vc_core; test packages of drivers also DOORS_OF_TESTS.
DOORS = {"vc_core.driver", "vc_core.errors"}
DOORS_OF_TESTS = DOORS | {"vc_core", "vc_core.aio", "vc_core.testing"}


def sources(*folders: Path) -> list[Path]:
    found = sorted(path for folder in folders for path in folder.rglob("*.py"))
    assert found, f"no source below {folders}"
    return found


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[str]:
    """Yield what a file imports, wherever in it the statement stands: "a.b", or "a.b.c" for "from a.b import c"."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} line {node.lineno}: write the import with its full name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def all_sources() -> list[Path]:
    return sources(CORE, *(folder / "src" for folder in (*PLUGINS, *RUNTIMES)))


def users_of(library: str) -> set[str]:
    return {
        str(path.relative_to(ROOT))
        for path in all_sources()
        if any(name == library or name.startswith(f"{library}.") for name in imports(path))
    }


def doors(path: Path) -> set[str]:
    """Return from which modules of vc_core a file imports; those of vc_core.testing count as one."""
    found: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module))
    found = {re.sub(r"^(vc_core\.testing)\..*", r"\1", name) for name in found}
    return {name for name in found if name.partition(".")[0] == "vc_core"}


@pytest.mark.parametrize(("library", "home"), HOMES.items())
def test_a_library_is_imported_only_in_its_home(library: str, home: set[str]) -> None:
    assert users_of(library) == home


def test_qmp_is_spoken_in_one_module_of_the_qemu_driver() -> None:
    users = users_of("qemu")
    assert len(users) <= 1, f"qemu.qmp is imported in {users}"
    assert all(user.startswith("drivers/qemu/src/") for user in users)


def test_ssh_is_spoken_only_by_the_sshd_driver() -> None:
    assert {user for user in users_of("asyncssh") if not user.startswith("drivers/sshd/src/")} == set()


def is_testing(path: Path) -> bool:
    """Return whether a module of a plug-in belongs to the package that it ships for tests."""
    return "testing" in path.parts[path.parts.index("src") :]


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.name)
def test_a_plugin_imports_the_core_through_the_door_for_drivers(plugin: Path) -> None:
    for path in sources(plugin / "src"):
        allowed = DOORS_OF_TESTS if "testing" in path.parts else DOORS
        assert doors(path) <= allowed, f"{path} imports {', '.join(doors(path) - allowed)}"


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.name)
def test_the_tests_of_a_plugin_import_the_core_through_its_doors(plugin: Path) -> None:
    for path in sources(plugin / "tests"):
        assert doors(path) <= DOORS_OF_TESTS, f"{path} imports {', '.join(doors(path) - DOORS_OF_TESTS)}"


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.name)
def test_a_plugin_imports_no_other_plugin(plugin: Path) -> None:
    own = {package.name for package in (plugin / "src").iterdir()}
    for path in sources(plugin / "src"):
        others = {name.partition(".")[0] for name in imports(path) if name.startswith("vc_")} - own - {"vc_core"}
        assert not others, f"{path} imports {', '.join(others)}"


@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda runtime: runtime.name)
def test_a_runtime_uses_the_public_api_only(runtime: Path) -> None:
    for path in sources(runtime / "src"):
        assert doors(path) <= {"vc_core", "vc_core.driver"}, f"{path} imports {', '.join(doors(path))}"


def test_examples_in_the_documentation_import_the_core_through_its_doors() -> None:
    pages = [*ROOT.glob("docs/how-to/*.md"), *ROOT.glob("docs/tutorial/*.md"), *ROOT.glob("**/README.md")]
    for page in pages:
        for module in re.findall(
            r"^ *(?:from|import) (vc_core[\w.]*)", page.read_text(encoding="utf-8"), flags=re.MULTILINE
        ):
            assert module in DOORS_OF_TESTS, f"{page} imports {module}"


def test_what_drivers_may_import_is_promised_to_strangers() -> None:
    page = (ROOT / "docs/reference/compatibility.md").read_text(encoding="utf-8")
    promised = page.split("What drivers may import:")[1].split("Every other")[0]
    assert set(re.findall(r"`([\w.]+)`", promised)) == DOORS_OF_TESTS - {"vc_core.aio"}


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def test_nothing_sleeps_instead_of_waiting_for_an_event() -> None:
    for path in all_sources():
        for call in calls(parsed(path)):
            if ast.unparse(call.func) in ("time.sleep", "sleep"):
                pytest.fail(f"{path} line {call.lineno} sleeps; wait for the event with a timeout")
            if ast.unparse(call.func) == "asyncio.sleep" and ast.unparse(call.args[0]) != "0":
                pytest.fail(f"{path} line {call.lineno} sleeps; wait for the event with a timeout")


def test_nothing_runs_a_shell() -> None:
    shells = {"os.system", "os.popen", "subprocess.getoutput", "asyncio.create_subprocess_shell"}
    for path in all_sources():
        for call in calls(parsed(path)):
            asked = any(word.arg == "shell" and ast.unparse(word.value) != "False" for word in call.keywords)
            assert not asked, f"{path} line {call.lineno} runs a shell"
            assert ast.unparse(call.func) not in shells, f"{path} line {call.lineno} runs a shell"


def test_no_file_is_opened_with_a_codec_that_is_imported_then() -> None:
    """That of UTF-8 is always there; if a module of another one cannot be read, a LookupError would reach the user."""
    for path in all_sources():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.keyword) and node.arg == "encoding" and isinstance(node.value, ast.Constant):
                # None stands for bytes, and "unicode" for a text in ElementTree.
                assert node.value.value in ("utf-8", None, "unicode"), f"{path} line {node.value.lineno}"
