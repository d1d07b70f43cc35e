"""What the tests of the runtime share: bundles, and directories of their own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vc_runtime import documents
from vc_runtime.records import Root

sys.path.insert(0, str(Path(__file__).parent))  # what the test modules share is no package of its own


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """Return a directory of containers without any."""
    return Root(tmp_path / "root")


@pytest.fixture
def bundle(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a bundle, in which fields of the usual config.json are replaced or added."""

    def make(**fields: Any) -> Path:
        folder = tmp_path / "bundle"
        (folder / "rootfs/bin").mkdir(parents=True, exist_ok=True)
        program = folder / "rootfs/bin/sh"
        program.write_bytes(b"")
        program.chmod(0o755)
        config = json.loads(json.dumps(documents.SPEC))
        for name, value in fields.items():
            if isinstance(value, dict) and isinstance(config.get(name), dict):
                config[name] |= value
            else:
                config[name] = value
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        return folder

    return make
