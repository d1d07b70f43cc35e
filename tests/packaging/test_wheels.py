"""Wheels: what plain pip makes of every distribution, installed away from this checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from wheels import EXAMPLES, PIP, ROOT

pytestmark = [pytest.mark.slow, pytest.mark.network]


@pytest.fixture(scope="module")
def installed(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory where pip installed all wheels but those of the examples."""
    target = tmp_path_factory.mktemp("installed")
    ours = [str(path) for name, path in wheels.items() if name not in EXAMPLES]
    command = [*PIP, "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*command, *ours], check=True, capture_output=True)
    return target


def test_every_distribution_makes_a_wheel_with_types_and_without_tests(wheels: dict[str, Path]) -> None:
    for distribution, path in wheels.items():
        files = zipfile.ZipFile(path).namelist()
        assert any(name.endswith("/py.typed") for name in files), distribution
        assert not [name for name in files if "/tests/" in name and "/templates/" not in name], distribution


@pytest.mark.parametrize("name", ["vc_agent_hyperstart/guest/init", "vc_agent_sshd/guest/wake", "vc_runtime/shim"])
def test_wheels_carry_the_static_programs_that_are_compiled_for_them(installed: Path, name: str) -> None:
    binary = installed / name
    assert os.access(binary, os.X_OK)
    assert binary.read_bytes()[:4] == b"\x7fELF"
    assert binary.stat().st_size < 200_000


@pytest.mark.parametrize("name", ["launcher", "preloaded.so"])
def test_the_qemu_drivers_wheel_carries_what_is_compiled_for_the_jail(installed: Path, name: str) -> None:
    binary = installed / "vc_hypervisor_qemu/jail" / name
    assert os.access(binary, os.X_OK)
    assert binary.read_bytes()[:4] == b"\x7fELF"
    assert binary.stat().st_size < 100_000
    assert not binary.with_name(f"{name}.sha256").exists()


def test_the_cores_wheel_carries_the_templates_of_new_drivers(installed: Path) -> None:
    source = ROOT / "vc_core/src/vc_core/cli/templates"
    shipped = installed / "vc_core/cli/templates"
    wanted = {path.relative_to(source) for path in source.rglob("*.tmpl")}
    assert wanted
    assert {path.relative_to(shipped) for path in shipped.rglob("*.tmpl")} == wanted


def test_the_cores_wheel_installs_a_page_of_the_manual_for_each_command(installed: Path) -> None:
    pages = {path.name for path in (installed / "share/man/man1").iterdir()}
    assert {"virtc.1", "virtc-pod-run.1", "virtc-exec.1"} <= pages


def test_a_driver_with_a_package_for_tests_ships_it(installed: Path) -> None:
    for module in ("vc_agent_hyperstart/testing/fake_guest.py", "vc_agent_sshd/testing/openssh.py"):
        assert (installed / module).is_file()


def test_installed_wheels_offer_their_drivers(installed: Path, tmp_path: Path) -> None:
    script = "import vc_core, sys; from vc_core.cli.entry import main; print(vc_core.__file__, flush=True); main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "drivers"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert done.stdout.startswith(str(installed)), done.stdout
    for name in ("qemu", "mock", "hyperstart", "noop", "debian"):
        assert any(line.split()[1] == name for line in done.stdout.splitlines()[2:]), done.stdout


def test_the_wheel_of_the_all_in_one_distribution_holds_only_its_metadata(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    folder = str(ROOT / "virtcontainers")
    subprocess.run([*command, "--wheel-dir", tmp_path, folder], check=True, capture_output=True, timeout=300)
    (wheel,) = tmp_path.glob("virtcontainers-*.whl")
    assert {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()} == {
        f"virtcontainers-{wheel.name.split('-')[1]}.dist-info"
    }
