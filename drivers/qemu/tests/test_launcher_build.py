"""The build hook that compiles the launcher of the jail."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scripts import load

pytestmark = [pytest.mark.slow, pytest.mark.needs("musl-gcc")]

DRIVER = Path(__file__).parents[1]
HOOK = load(DRIVER / "hatch_build.py")


def project(directory: Path) -> Path:
    """Return a copy of what the hook reads."""
    shutil.copytree(DRIVER / "launcher", directory / "launcher")
    (directory / "src/vc_hypervisor_qemu/jail").mkdir(parents=True)
    return directory


def test_the_same_sources_make_the_same_bytes_in_any_directory(tmp_path: Path) -> None:
    first, second = (HOOK.build_launcher(project(tmp_path / name)).read_bytes() for name in ("one", "another/one"))
    assert first == second


def test_a_binary_that_was_exchanged_is_compiled_again_and_no_other(tmp_path: Path) -> None:
    root = project(tmp_path)
    binary: Path = HOOK.build_launcher(root)
    built, inode = binary.read_bytes(), binary.stat().st_ino
    assert HOOK.build_launcher(root).stat().st_ino == inode
    binary.write_bytes(b"another program")
    assert HOOK.build_launcher(root).read_bytes() == built
