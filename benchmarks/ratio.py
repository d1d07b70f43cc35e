"""A measurement against something that does the same work."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field


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


@dataclass(frozen=True)
class Unmeasured:
    """A row that could not be measured on this host, and why."""

    what: str
    reason: str


@dataclass
class Table:
    """The rows that were measured and those that were not; and single figures."""

    rows: list[Ratio | Unmeasured] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)

    def add(self, what: str, measure: Callable[[], Iterable[Ratio | str]]) -> None:
        """Measure; what fails becomes a row that carries the reason, and does not keep others from being measured."""
        try:
            for one in measure():
                if isinstance(one, str):
                    self.figures.append(one)
                else:
                    self.rows.append(one)
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            self.rows.append(Unmeasured(what, reason))

    @property
    def holds(self) -> bool:
        """Whether every row was measured and every budget holds."""
        return all(isinstance(row, Ratio) and row.value <= row.at_most for row in self.rows)


def pairs(rounds: int, ours: Callable[[], float], other: Callable[[], float]) -> tuple[float, float]:
    """Return the medians of both, measured in turns so that a noisy moment meets both."""
    times = [(ours(), other()) for _ in range(rounds)]
    return statistics.median(one for one, _ in times), statistics.median(two for _, two in times)
