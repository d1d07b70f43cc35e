"""Waits for what no event reports to a test, such as what another process writes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from vc_core.testing.slowness import scaled


def wait_until(holds: Callable[[], object], seconds: float = 20.0) -> None:
    """Return once ``holds`` returns something true; fail after ``seconds``, more on a slow host."""
    end = time.monotonic() + scaled(seconds)
    while not holds():
        assert time.monotonic() < end
        threading.Event().wait(0.02)
