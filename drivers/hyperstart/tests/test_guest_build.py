"""The build hook that compiles the guest agent."""

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from needs import require
from scripts import load

pytestmark = pytest.mark.slow

DRIVER = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    return load(DRIVER / "hatch_build.py")


def copy_sources(project: Path) -> Path:
    """Copy what the hook reads to a directory; return it."""
    require("musl-gcc", "gcc", "readelf")
    shutil.copytree(DRIVER / "guest", project / "guest")
    (project / "src/vc_agent_hyperstart").mkdir(parents=True)
    return project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what the hook reads."""
    return copy_sources(tmp_path)


@pytest.fixture(scope="module")
def agent(hook: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that the hook has compiled of such a copy, which takes seconds; no test changes it."""
    return Path(hook.build_guest_agent(copy_sources(tmp_path_factory.mktemp("project"))))


@pytest.fixture
def built(agent: Path, tmp_path: Path) -> Path:
    """A copy of that project with the program."""
    shutil.copytree(agent.parents[3], tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_the_agent_is_one_small_static_program(agent: Path) -> None:
    binary = agent
    assert binary.stat().st_size < 200 * 1024
    assert os.access(binary, os.X_OK)
    headers = subprocess.run(["readelf", "-hlW", binary], check=True, capture_output=True, encoding="utf-8").stdout
    assert "INTERP" not in headers
    for hardening in ("(Position-Independent Executable file)", "GNU_RELRO"):
        assert hardening in headers
    assert "RWE" not in headers
    assert sorted(path.name for path in binary.parent.iterdir()) == ["init", "init.sha256"]


def test_it_refuses_to_run_as_an_ordinary_process(agent: Path) -> None:
    ran = subprocess.run([agent], capture_output=True, encoding="utf-8", timeout=60)
    assert (ran.returncode, ran.stderr) == (1, "this is the first process of a virtual machine\n")


def test_it_is_compiled_again_only_when_a_source_changed(
    hook: ModuleType, agent: Path, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as without_compiler:
        without_compiler.setenv("PATH", "")
        assert hook.build_guest_agent(built).read_bytes() == agent.read_bytes()
    source = built / "guest/main.c"
    source.write_text(
        source.read_text(encoding="utf-8").replace("first process", "very first process"), encoding="utf-8"
    )
    assert b"very first" in hook.build_guest_agent(built).read_bytes()


def test_the_same_sources_make_the_same_bytes_in_any_directory(hook: ModuleType, project: Path, agent: Path) -> None:
    assert hook.build_guest_agent(project).read_bytes() == agent.read_bytes()


def test_a_binary_that_was_exchanged_is_compiled_again(hook: ModuleType, agent: Path, built: Path) -> None:
    (built / agent.relative_to(agent.parents[3])).write_bytes(b"another program")
    assert hook.build_guest_agent(built).read_bytes() == agent.read_bytes()


def test_without_compiler_and_binary_the_package_to_install_is_named(
    hook: ModuleType, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RuntimeError, match="install the Debian package musl-tools"):
        hook.build_guest_agent(project)


def test_for_another_machine_the_compiler_to_install_is_named(
    hook: ModuleType, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    other = "x86_64" if platform.machine() == "aarch64" else "aarch64"
    package = f"gcc-{other.replace('_', '-')}-linux-gnu"
    with pytest.raises(RuntimeError, match=f"{other}-linux-gnu-gcc is missing.*install the Debian package {package}"):
        hook.build_guest_agent(project, other)


def test_a_source_that_does_not_compile_leaves_no_binary(
    hook: ModuleType, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (project / "guest/main.c").write_text("int main(void) { return nonsense; }\n", encoding="utf-8")
    with pytest.raises(RuntimeError, match="could not compile the guest agent"):
        hook.build_guest_agent(project)
    assert re.search("main.c:1:.*nonsense", capfd.readouterr().err)
    assert list((project / "src/vc_agent_hyperstart/guest").iterdir()) == []


@pytest.mark.parametrize("standard", ["c11", "gnu17"])
def test_the_sources_compile_without_a_warning_with_another_compiler(project: Path, standard: str) -> None:
    sources = sorted(str(path) for path in (project / "guest").glob("*.c"))
    flags = [f"-std={standard}", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Wshadow", "-Werror", "-fsyntax-only"]
    subprocess.run(["gcc", *flags, *sources], check=True)
