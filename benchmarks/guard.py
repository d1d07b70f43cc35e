"""``./dev bench --guard``: a few rounds of the rows that are cheap, against generous limits."""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks import report
from benchmarks.frame import Measured, Row, measure
from benchmarks.world import World

#: How often a row is measured again before it fails the run: other load of a host seldom disturbs three times.
_AGAIN = 2

#: Seconds after which no row is begun or measured again, and no further round begins. What has begun ends by 90 s.
_BUDGET = 65.0


def guard(rows: Sequence[Row], world: World, budget: float = _BUDGET) -> int:
    """Measure the rows that have a limit for this, and print them; then measure again those that are above it.

    Return 0 if each was once below its limit, or the time was over before it was measured; else 1.
    """
    end = time.monotonic() + budget
    failed = [row for row in rows if row.guard is not None and not _holds(row, row.guard, world, end)]
    for _ in range(_AGAIN):
        if time.monotonic() < end:
            failed = [row for row in failed if row.guard is not None and not _holds(row, row.guard, world, end)]
    return 1 if failed else 0


def _holds(row: Row, limit: float, world: World, end: float) -> bool:
    if time.monotonic() > end:
        print(f"{row.name}: not measured: no time is left", flush=True)
        return True
    result = measure(row, world, row.guard_rounds, end)
    if not isinstance(result, Measured):
        print(report.line(result), flush=True)
        return False
    holds = result.value <= limit
    verdict = "holds" if holds else "above the limit"
    print(f"{row.name}: {result.value:.2f}, at most {limit:g}: {verdict}; load {result.load:.1f}", flush=True)
    return holds
