"""Plots of the page: lines over the number of pods, and groups of bars."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.environments import ROOT, interpreter
from benchmarks.frame import Plot

_DRAW = Path(__file__).with_name("draw.py")

#: What the drawing program imports: these versions, of files with these hashes.
_LOCK = ROOT / "tools/bench-requirements.lock"


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
    """Return a plot of lines. ``x`` and ``y`` name what the axes show, with its unit. Raises CalledProcessError."""
    return _plot(name, title, {"kind": "lines", "x": x, "y": y, "series": series})


def bars(name: str, title: str, x: str, groups: Sequence[str], series: Sequence[Bars]) -> Plot:
    """Return a plot of horizontal bars. ``x`` names what their length is, with its unit. Raises CalledProcessError."""
    return _plot(name, title, {"kind": "bars", "x": x, "y": "", "groups": groups, "series": series})


def _plot(name: str, title: str, content: Mapping[str, object]) -> Plot:
    python = interpreter("bench", "--require-hashes", "-r", str(_LOCK))
    description = json.dumps({"title": title, **content}, default=asdict)
    command = [python, "-I", str(_DRAW)]
    drawn = subprocess.run(command, input=description, capture_output=True, encoding="utf-8", check=True)
    return Plot(name, title, drawn.stdout)
