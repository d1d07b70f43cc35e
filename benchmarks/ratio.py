"""A measurement against something that does the same work."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Ratio:
    """One row: what was measured, against what, medians in seconds, and how much it may be at most."""

    what: str
    against: str
    ours: float
    other: float
    at_most: float
    rounds: int

    @property
    def value(self) -> float:
        return self.ours / self.other


def pairs(rounds: int, ours: Callable[[], float], other: Callable[[], float]) -> tuple[float, float]:
    """Return the medians of both, measured in turns so that a noisy moment meets both."""
    times = [(ours(), other()) for _ in range(rounds)]
    return statistics.median(one for one, _ in times), statistics.median(two for _, two in times)
