"""The result of one comparison with a program that does the same work."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Ratio:
    """One row: what was measured, against what, the medians in seconds, and the highest ratio that is allowed."""

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
    """A row that could not be measured on this host, with the reason."""

    what: str
    reason: str


@dataclass
class Table:
    """The rows that were measured, those that could not be, and sentences with single figures."""

    rows: list[Ratio | Unmeasured] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)

    def add(self, what: str, measure: Callable[[], Iterable[Ratio | str]]) -> None:
        """Call ``measure`` and add what it yields. An exception becomes a row with the reason; nothing is raised."""
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
        """Whether every row was measured and no ratio is above its limit."""
        return all(isinstance(row, Ratio) and row.value <= row.at_most for row in self.rows)


def pairs(rounds: int, ours: Callable[[], float], other: Callable[[], float]) -> tuple[float, float]:
    """Return the medians of both in seconds, measured in turns, so that other load of the host affects both."""
    times = [(ours(), other()) for _ in range(rounds)]
    return statistics.median(one for one, _ in times), statistics.median(two for _, two in times)
