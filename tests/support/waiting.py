"""Waits for what no event reports to a test, such as what another process writes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from vc_core.testing.slowness import scaled

#: Seconds for what is not promised by any time but has to come. Only a test that fails waits for so long, and
#: a busy host may have a quarter of the speed of a usual one.
PATIENCE = scaled(60.0)


def wait_until(holds: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Return once ``holds`` returns something true; fail after ``seconds``."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        threading.Event().wait(0.02)


def ever_longer(seconds: float) -> Iterator[float]:
    """Yield time limits, for a test of one before which something must have happened.

    The test leaves the loop once that has happened; a slow host needs one of the longer limits for that.
    """
    yield from (seconds * 3**times for times in range(4))
