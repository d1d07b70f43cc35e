"""What a benchmark consists of, and how it is measured. Other modules add rows and sections as data.

A row is one comparison. Its ``measure`` is a context manager: it prepares what both sides need, yields a *turn*, and
cleans up. A turn is a function that measures both sides once, one after the other, and returns the two amounts (of
seconds or MiB), that of this project first; :func:`turn` makes one of two functions. The frame calls it ``rounds``
times and takes the median of the turns' ratios, because other load of the host affects both sides of a turn alike:

    @contextmanager
    def _list(world: World) -> Iterator[Turn]:
        ...
        yield turn(lambda: seconds(["virtc", "pod", "list"]), lambda: seconds(["python", "-c", "pass"]))

    ROWS = (Row("list", "`virtc pod list`", "`python -c pass`", _list, limit=8, rounds=15),)

A section is a part of the page that is no comparison with a limit: growth as plots, throughput, other projects. Its
``measure`` yields paragraphs of Markdown, and a :class:`Plot` for each picture:

    SECTIONS = (Section("growth", "How it grows", _growth),)

``__main__`` lists the modules whose ROWS and SECTIONS are measured. A row or section that raises an exception is
reported with the reason, and the others are measured. ``world`` holds what several of them need.
"""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from benchmarks.world import World

#: Measures both sides once; returns the amount of this project and that of what it is compared with.
Turn = Callable[[], tuple[float, float]]


@dataclass(frozen=True)
class Row:
    """A comparison: what is measured against what, how, and the highest ratio that is allowed.

    ``difference``: ``limit`` is the highest amount that may be added, in ``unit``, instead of a ratio. ``guard``: the
    highest ratio in ``./dev bench --guard``, which measures ``guard_rounds`` rounds; None: it does not measure the row.
    ``warm_up``: turns before those that count. ``figure`` makes of the medians a sentence for the page.
    """

    name: str
    what: str
    against: str
    measure: Callable[[World], AbstractContextManager[Turn]]
    limit: float
    rounds: int
    warm_up: int = 1
    unit: str = "s"
    difference: bool = False
    guard: float | None = None
    guard_rounds: int = 5
    figure: Callable[[float, float], str] | None = None


@dataclass(frozen=True)
class Plot:
    """A picture of a section, written beside the page as ``benchmarks-NAME.svg``. ``alt``: what it shows."""

    name: str
    alt: str
    svg: str


@dataclass(frozen=True)
class Section:
    """A part of the page below the table; ``measure`` yields its paragraphs and plots."""

    name: str
    title: str
    measure: Callable[[World], Iterable[str | Plot]]


@dataclass(frozen=True)
class Measured:
    """A row that was measured in so many rounds.

    ``value``: what the limit is for, the median of the rounds' ratios or differences. ``ours``, ``other``: the medians
    of both sides. ``load``: that of the host when the measuring began.
    """

    row: Row
    value: float
    ours: float
    other: float
    rounds: int
    load: float

    @property
    def holds(self) -> bool:
        return self.value <= self.row.limit


@dataclass(frozen=True)
class Unmeasured:
    """A row that cannot be measured on this host, with the reason."""

    row: Row
    reason: str

    @property
    def holds(self) -> bool:
        return False


def turn(ours: Callable[[], float], other: Callable[[], float]) -> Turn:
    """Return a turn that calls ``ours``, then ``other``."""
    return lambda: (ours(), other())


def measure(row: Row, world: World, rounds: int, end: float = math.inf) -> Measured | Unmeasured:
    """Measure a row. An exception becomes the reason why it cannot be measured; none is raised.

    No further round begins after ``end``, in seconds of the monotonic clock.
    """
    load = os.getloadavg()[0]
    amounts: list[tuple[float, float]] = []
    try:
        with row.measure(world) as one_turn:
            for _ in range(row.warm_up):
                one_turn()
            while len(amounts) < rounds and not (amounts and time.monotonic() > end):
                amounts.append(one_turn())
    except Exception as error:
        return Unmeasured(row, reason(error))
    values = [one - two if row.difference else one / two for one, two in amounts]
    value, (ours, other) = statistics.median(values), map(statistics.median, zip(*amounts, strict=True))
    return Measured(row, value, ours, other, len(amounts), load)


def fill(section: Section, world: World) -> Iterator[str | Plot]:
    """Yield what a section yields, and for an exception a sentence with the reason."""
    try:
        yield from section.measure(world)
    except Exception as error:
        yield f"Not measured: {reason(error)}"


def reason(error: Exception) -> str:
    """Return what an exception says, in one line; for a program that failed, with its error output."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, subprocess.CalledProcessError) and error.stderr:
        said = error.stderr if isinstance(error.stderr, str) else error.stderr.decode(errors="replace")
        text = f"{text} {' '.join(said.split())}"
    return text


def seconds(command: Sequence[str], environment: Mapping[str, str] | None = None) -> float:
    """Return the seconds that a program takes, from its start to its end. Raises CalledProcessError."""
    began = time.monotonic()
    subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - began
