"""What the tests of packages share: the wheels, which are built once."""

from __future__ import annotations

from pathlib import Path

import pytest

from once import make_once
from wheels import FOLDERS, build_wheels


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the wheel of each distribution by its name. The first worker that needs them builds them for all."""
    top = make_once(tmp_path_factory, "packaging", build_wheels)
    found = {path.name.split("-")[0].replace("_", "-"): path for path in (top / "wheels").glob("*.whl")}
    assert found.keys() == FOLDERS.keys()
    return found
