"""The blocking and the async API are one."""

from __future__ import annotations

import importlib.util
from pathlib import Path

TOOL = Path(__file__).parents[2] / "tools/generate_sync.py"


def test_the_blocking_api_is_made_from_the_async_one() -> None:
    specification = importlib.util.spec_from_file_location("generate_sync", TOOL)
    assert specification is not None
    assert specification.loader is not None
    generator = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(generator)
    assert (generator.CORE / "sync.py").read_text(encoding="utf-8") == generator.blocking(), f"run: python {TOOL}"
