"""The build hook that compiles the launcher of the jail, and the library that is preloaded into a clone's QEMU."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from scripts import load

pytestmark = [pytest.mark.slow, pytest.mark.needs("musl-gcc")]

DRIVER = Path(__file__).parents[1]
HOOK = load(DRIVER / "hatch_build.py")


def project(directory: Path) -> Path:
    """Return a copy of what the hook reads."""
    for sources in ("launcher", "preload"):
        shutil.copytree(DRIVER / sources, directory / sources)
    (directory / "src/vc_hypervisor_qemu/jail").mkdir(parents=True)
    return directory


@pytest.mark.parametrize("product", [HOOK.LAUNCHER, HOOK.PRELOAD], ids=lambda one: one.name)
def test_the_same_sources_make_the_same_bytes_in_any_directory(tmp_path: Path, product: Any) -> None:
    first, second = (HOOK.build(project(tmp_path / name), product).read_bytes() for name in ("one", "another/one"))
    assert first == second


def test_a_binary_that_was_exchanged_is_compiled_again_and_no_other(tmp_path: Path) -> None:
    root = project(tmp_path)
    binary: Path = HOOK.build(root, HOOK.LAUNCHER)
    built, inode = binary.read_bytes(), binary.stat().st_ino
    assert HOOK.build(root, HOOK.LAUNCHER).stat().st_ino == inode
    binary.write_bytes(b"another program")
    assert HOOK.build(root, HOOK.LAUNCHER).read_bytes() == built
