"""What all workers of a run share: the first that needs it makes it, and the others wait for it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def make_once(
    factory: pytest.TempPathFactory,
    name: str,
    make: Callable[[Path], object],
    is_there: Callable[[Path], bool] = lambda top: True,
) -> Path:
    """Return a directory of this run that ``make`` has filled, in whichever worker.

    ``is_there``: whether what was made is still there; if not, ``make`` is called again.
    """
    base = factory.getbasetemp()
    top = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    top.mkdir(exist_ok=True)
    with (top / "made").open("a+", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        made = bool(file.seek(0, os.SEEK_END))  # what another worker wrote while this one waited
        if not made or not is_there(top):
            make(top)
            file.write("" if made else "made")
    return top
