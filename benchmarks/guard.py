"""``./dev bench --guard``: a few rounds of the rows that are cheap, against generous limits."""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks import report
from benchmarks.frame import Measured, Row, measure
from benchmarks.world import World

#: How often a row may be measured before it fails the run: other load of a host seldom disturbs three times.
_ATTEMPTS = 3

#: Seconds after which no row is measured again.
_BUDGET = 90.0


def guard(rows: Sequence[Row], world: World) -> int:
    """Measure the rows that have a limit for this, print them; return 0 if each was once below its limit, else 1."""
    end = time.monotonic() + _BUDGET
    failed = 0
    for row in rows:
        if row.guard is not None:
            failed += not _holds(row, row.guard, world, end)
    return 1 if failed else 0


def _holds(row: Row, limit: float, world: World, end: float) -> bool:
    for attempt in range(_ATTEMPTS):
        if attempt and time.monotonic() > end:
            break
        result = measure(row, world, row.guard_rounds)
        if not isinstance(result, Measured):
            print(report.line(result), flush=True)
            continue
        holds = result.value <= limit
        verdict = "holds" if holds else "above the limit"
        print(f"{row.name}: {result.value:.2f}, at most {limit:g}: {verdict}; load {result.load:.1f}", flush=True)
        if holds:
            return True
    return False
