"""The repository holds sources, and nothing that was made of them or left by a run."""

from __future__ import annotations

import subprocess
from pathlib import Path

_TOP = Path(__file__).parents[2]


def test_no_tracked_file_is_a_compiled_program_or_a_core_dump() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=_TOP, capture_output=True, check=True).stdout
    paths = [_TOP / name.decode() for name in listed.split(b"\0") if name]
    assert len(paths) > 100
    assert [path for path in paths if path.is_file() and path.read_bytes()[:4] == b"\x7fELF"] == []
