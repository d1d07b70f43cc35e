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


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what the hook reads."""
    require("musl-gcc", "gcc", "readelf")
    shutil.copytree(DRIVER / "guest", tmp_path / "guest")
    (tmp_path / "src/vc_agent_hyperstart").mkdir(parents=True)
    return tmp_path


def test_the_agent_is_one_small_static_program(hook: ModuleType, project: Path) -> None:
    binary = hook.build_guest_agent(project)
    assert binary.stat().st_size < 200 * 1024
    assert os.access(binary, os.X_OK)
    headers = subprocess.run(["readelf", "-hlW", binary], check=True, capture_output=True, encoding="utf-8").stdout
    assert "INTERP" not in headers
    for hardening in ("(Position-Independent Executable file)", "GNU_RELRO"):
        assert hardening in headers
    assert "RWE" not in headers
    assert sorted(path.name for path in binary.parent.iterdir()) == ["init", "init.sha256"]


def test_it_refuses_to_run_as_an_ordinary_process(hook: ModuleType, project: Path) -> None:
    ran = subprocess.run([hook.build_guest_agent(project)], capture_output=True, encoding="utf-8", timeout=10)
    assert (ran.returncode, ran.stderr) == (1, "this is the first process of a virtual machine\n")


def test_it_is_compiled_again_only_when_a_source_changed(
    hook: ModuleType, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = hook.build_guest_agent(project)
    first = binary.stat().st_ino
    with monkeypatch.context() as without_compiler:
        without_compiler.setenv("PATH", "")
        assert hook.build_guest_agent(project).stat().st_ino == first
    source = project / "guest/main.c"
    source.write_text(
        source.read_text(encoding="utf-8").replace("first process", "very first process"), encoding="utf-8"
    )
    assert b"very first" in hook.build_guest_agent(project).read_bytes()


def test_the_same_sources_make_the_same_bytes_in_any_directory(hook: ModuleType, project: Path, tmp_path: Path) -> None:
    other = shutil.copytree(project / "guest", tmp_path / "another/project/guest").parent
    assert hook.build_guest_agent(other).read_bytes() == hook.build_guest_agent(project).read_bytes()


def test_a_binary_that_was_exchanged_is_compiled_again(hook: ModuleType, project: Path) -> None:
    binary = hook.build_guest_agent(project)
    built = binary.read_bytes()
    binary.write_bytes(b"another program")
    assert hook.build_guest_agent(project).read_bytes() == built


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
