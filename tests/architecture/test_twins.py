"""The blocking and the async API are one."""

from __future__ import annotations

import importlib.util
from pathlib import Path

HERE = Path(__file__).parent


def test_the_blocking_api_is_made_from_the_async_one() -> None:
    specification = importlib.util.spec_from_file_location("twins", HERE / "twins.py")
    assert specification is not None
    assert specification.loader is not None
    twins = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(twins)
    assert (twins.CORE / "sync.py").read_text(encoding="utf-8") == twins.blocking(), f"run: python {HERE / 'twins.py'}"
