"""Who may import whom."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "vc_core" / "src"
PLUGINS = sorted(
    path.parent for folder in ("drivers", "plugins-example") for path in ROOT.glob(f"{folder}/*/pyproject.toml")
)

#: The modules of vc_core from the bottom up: each may import only those that come before it.
#: Put a new module after everything that it imports, and before everything that is to import it.
LAYERS_TEXT = """
    errors defaults network limits devices process vm_process rotating capture initramfs spawner ids states config

    context hypervisor agent guest
    hookspecs._markers hookspecs.driver hookspecs.extension
    hookspecs.spawner hookspecs.guest hookspecs.agent hookspecs.hypervisor hookspecs
    _discovery plugins

    _files _mounts locks roots results records config_record store status
    rootfs share sources boot assembly streams ledger containers engine

    interpreters queries wire stdio signals
    supervisor supervisor.ready supervisor.service supervisor.process supervisor.__main__
    client operations container_operations sync aio

    __init__

    checks skeleton
    cli.output cli.options cli.pod_options cli.foreground
    cli.drivers cli.new_driver cli.guest cli.completion cli.container cli.pod cli.main cli

    testing.census testing.process_io
    testing.distributions testing.contract.running testing.contract.plugin testing.contract.hypervisor
    testing.contract.agent testing.contract.spawner testing.contract.guest
    testing.contract testing
"""
LAYERS = LAYERS_TEXT.split()

#: Libraries that are used in one place only, and that place.
HOMES = {
    "stevedore": {"vc_core/src/vc_core/_discovery.py"},
    "pluggy": {"vc_core/src/vc_core/hookspecs/_markers.py", "vc_core/src/vc_core/plugins.py"},
}

#: What a driver may import of vc_core: the interfaces, and nothing of what runs them. Its package ``testing`` may also
#: import ``vc_core.testing``.
INTERFACES = {
    *("errors", "network", "limits", "devices", "process", "ids", "config", "context", "hookspecs"),
    *("hypervisor", "agent", "spawner", "guest", "vm_process", "capture", "initramfs"),
}


def sources(*folders: Path) -> list[Path]:
    found = sorted(path for folder in folders for path in folder.rglob("*.py"))
    assert found, f"no source below {folders}"
    return found


def imports(path: Path) -> Iterator[str]:
    """Yield what a file imports, wherever in it the statement stands: "a.b", or "a.b.c" for "from a.b import c"."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} line {node.lineno}: write the import with its full name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def all_sources() -> list[Path]:
    return sources(CORE, *(plugin / "src" for plugin in PLUGINS))


def users_of(library: str) -> set[str]:
    return {
        str(path.relative_to(ROOT))
        for path in all_sources()
        if any(name == library or name.startswith(f"{library}.") for name in imports(path))
    }


def module_name(path: Path) -> str:
    """Return a module's name as the list has it: without "vc_core." and without ".__init__"."""
    name = ".".join(path.relative_to(CORE / "vc_core").with_suffix("").parts)
    return name.removesuffix(".__init__")


MODULES = {module_name(path): path for path in sources(CORE / "vc_core")}


def core_imports(path: Path) -> set[str]:
    """Return which modules of vc_core a file imports."""
    found = set()
    for name in imports(path):
        if name.partition(".")[0] == "vc_core":
            inner = name.removeprefix("vc_core").removeprefix(".")
            # "from vc_core.a import b" means the module a.b if there is one, else a name in the module a.
            found.add(inner if inner in MODULES else inner.rpartition(".")[0] or "__init__")
    return found


def test_every_module_of_the_core_has_its_place() -> None:
    new = sorted(set(MODULES) - set(LAYERS))
    gone = sorted(set(LAYERS) - set(MODULES))
    assert not new, f"add {', '.join(new)} to LAYERS_TEXT in {__file__}: after what it imports, before what imports it"
    assert not gone, f"remove {', '.join(gone)} from LAYERS_TEXT in {__file__}"
    assert len(LAYERS) == len(set(LAYERS)), f"LAYERS_TEXT in {__file__} names a module twice"


@pytest.mark.parametrize("module", [name for name in LAYERS if name in MODULES])
def test_a_module_imports_only_what_lies_below_it(module: str) -> None:
    below = set(LAYERS[: LAYERS.index(module)])
    wrong = sorted(name for name in core_imports(MODULES[module]) - {module} if name in LAYERS and name not in below)
    assert not wrong, f"vc_core.{module} imports {', '.join(wrong)}, which comes after it in LAYERS_TEXT of {__file__}"


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
def test_a_plugin_imports_only_the_interfaces_of_the_core_and_no_other_plugin(plugin: Path) -> None:
    own = {package.name for package in (plugin / "src").iterdir()}
    for path in sources(plugin / "src"):
        allowed = INTERFACES | ({"testing"} if is_testing(path) else set())
        for module in core_imports(path):
            assert module.partition(".")[0] in allowed, f"{path} imports vc_core.{module}, which is not for drivers"
        others = {name.partition(".")[0] for name in imports(path) if name.startswith("vc_")} - own - {"vc_core"}
        assert not others, f"{path} imports {', '.join(others)}"


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.name)
def test_a_plugin_works_without_its_package_for_tests_and_without_pytest(plugin: Path) -> None:
    for path in sources(plugin / "src"):
        for name in imports(path):
            for_tests = name.partition(".")[0] == "pytest" or "testing" in name.split(".")
            assert is_testing(path) or not for_tests, f"{path} imports {name}, which is for tests"


def test_what_drivers_may_import_is_promised_to_strangers() -> None:
    page = (ROOT / "docs/reference/compatibility.md").read_text(encoding="utf-8")
    promised = page.split("What drivers may import:")[1].split(";")[0]
    assert {name.removeprefix("vc_core.") for name in re.findall(r"`([\w.]+)`", promised)} == INTERFACES


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def test_nothing_sleeps_instead_of_waiting_for_an_event() -> None:
    for path in all_sources():
        for call in calls(ast.parse(path.read_text(encoding="utf-8"))):
            if ast.unparse(call.func) in ("time.sleep", "sleep"):
                pytest.fail(f"{path} line {call.lineno} sleeps; wait for the event with a deadline")
            if ast.unparse(call.func) == "asyncio.sleep" and ast.unparse(call.args[0]) != "0":
                pytest.fail(f"{path} line {call.lineno} sleeps; wait for the event with a deadline")


def test_nothing_runs_a_shell() -> None:
    shells = {"os.system", "os.popen", "subprocess.getoutput", "asyncio.create_subprocess_shell"}
    for path in all_sources():
        for call in calls(ast.parse(path.read_text(encoding="utf-8"))):
            asked = any(word.arg == "shell" and ast.unparse(word.value) != "False" for word in call.keywords)
            assert not asked, f"{path} line {call.lineno} runs a shell"
            assert ast.unparse(call.func) not in shells, f"{path} line {call.lineno} runs a shell"
