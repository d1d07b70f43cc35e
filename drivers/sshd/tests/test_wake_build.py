"""The build hook that compiles the program which waits for the keys in a guest of a pod's own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from scripts import load

pytestmark = [pytest.mark.slow, pytest.mark.needs("musl-gcc")]

DRIVER = Path(__file__).parents[1]
HOOK: Any = load(DRIVER / "hatch_build.py")


def project(directory: Path) -> Path:
    """Return a copy of what the hook reads."""
    shutil.copytree(DRIVER / "wake", directory / "wake")
    (directory / "src/vc_agent_sshd/guest").mkdir(parents=True)
    return directory


def test_the_same_source_makes_the_same_small_program_in_any_directory(tmp_path: Path) -> None:
    first, second = (HOOK.build(project(tmp_path / name)).read_bytes() for name in ("one", "another/one"))
    assert first == second
    assert len(first) < 64 * 1024


def test_a_program_that_was_exchanged_is_compiled_again_and_no_other(tmp_path: Path) -> None:
    root = project(tmp_path)
    binary: Path = HOOK.build(root)
    built, inode = binary.read_bytes(), binary.stat().st_ino
    assert HOOK.build(root).stat().st_ino == inode
    binary.write_bytes(b"another program")
    assert HOOK.build(root).read_bytes() == built


def test_it_ends_without_the_names_that_it_needs(tmp_path: Path) -> None:
    assert subprocess.run([HOOK.build(project(tmp_path))], timeout=10, check=False).returncode == 2
