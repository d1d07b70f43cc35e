"""Plots of the page: lines over the number of pods, and groups of bars."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.frame import Plot

HERE = Path(__file__).parent

#: ``./dev bench`` makes this environment from ``tools/bench-requirements.lock``.
_PYTHON = HERE.parent / ".cache/bench/bin/python"


@dataclass(frozen=True)
class Line:
    """One line of a plot. Its points are joined, and both axes are logarithmic."""

    label: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Bars:
    """One bar of each group, with the same label and colour in all groups."""

    label: str
    values: Sequence[float]


def lines(name: str, title: str, x: str, y: str, series: Sequence[Line]) -> Plot:
    """Return a plot of lines. ``x`` and ``y`` name what the axes show, with its unit. Raises RuntimeError."""
    return _plot(name, title, {"kind": "lines", "x": x, "y": y, "series": series})


def bars(name: str, title: str, x: str, groups: Sequence[str], series: Sequence[Bars]) -> Plot:
    """Return a plot of horizontal bars. ``x`` names what their lengths show, with its unit. Raises RuntimeError."""
    content: Mapping[str, object] = {
        "kind": "bars",
        "x": x,
        "y": "",
        "groups": list(groups),
        "series": [asdict(one) for one in series],
    }
    return _plot(name, title, content)


def _plot(name: str, title: str, content: Mapping[str, object]) -> Plot:
    if not _PYTHON.exists():
        raise RuntimeError(f"the plot {name} is not drawn: {_PYTHON} does not exist; ./dev bench makes it")
    description = json.dumps({"title": title, **content}, default=asdict)
    drawn = subprocess.run(
        [str(_PYTHON), "-I", str(HERE / "draw.py")],
        input=description,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        check=True,
    )
    return Plot(name, title, drawn.stdout)
