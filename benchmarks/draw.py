"""Draws one plot with matplotlib: reads its description as JSON, writes the picture as SVG.

``plots`` runs this file in an environment of its own, because matplotlib and what it requires are larger than all that
the project is developed with.
"""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Sequence
from itertools import chain
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

#: The background is transparent. This grey has a contrast of more than 4 with a white page and with a dark one.
_GREY = "#757c85"
#: Colours that are as legible on both; lines differ in their markers and dashes too.
_STYLES = (("#2f81f7", "o", "-"), ("#db6d28", "s", "--"), ("#2ea043", "^", "-."), ("#a371f7", "D", ":"))

_SETTINGS = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "benchmarks",  # ids are the same in each run
    "font.size": 11,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    **dict.fromkeys(
        (
            "text.color",
            "axes.edgecolor",
            "axes.labelcolor",
            "axes.titlecolor",
            "xtick.color",
            "ytick.color",
            "grid.color",
        ),
        _GREY,
    ),
}


def draw(plot: dict[str, Any]) -> str:
    """Return the SVG of a plot that ``plots`` describes."""
    with plt.rc_context(_SETTINGS):
        figure, axes = plt.subplots(figsize=(7.2, 4.2), layout="constrained")
        {"lines": _lines, "bars": _bars}[plot["kind"]](axes, plot)
        axes.set_title(plot["title"])
        axes.set_xlabel(plot["x"])
        axes.set_ylabel(plot["y"])
        if len(plot["series"]) > 1:
            figure.legend(loc="outside lower center", ncols=3)
        picture = io.StringIO()
        figure.savefig(picture, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in picture.getvalue().splitlines()) + "\n"


def _lines(axes: Any, plot: dict[str, Any]) -> None:
    """Draw lines over two logarithmic axes."""
    for series, (colour, marker, dashes) in zip(plot["series"], _STYLES, strict=False):
        axes.plot(series["x"], series["y"], label=series["label"], color=colour, marker=marker, linestyle=dashes)
    axes.set_xscale("log")
    axes.set_yscale("log")
    _ticks(axes.xaxis, [series["x"] for series in plot["series"]])
    _ticks(axes.yaxis, [series["y"] for series in plot["series"]])


def _bars(axes: Any, plot: dict[str, Any]) -> None:
    """Draw groups of horizontal bars over a logarithmic axis that begins at 1, the first group at the top."""
    height = 0.8 / len(plot["series"])
    for number, (series, (colour, *_)) in enumerate(zip(plot["series"], _STYLES, strict=False)):
        places = [group + (number + 0.5) * height - 0.4 for group in range(len(plot["groups"]))]
        bars = axes.barh(places, series["values"], height * 0.9, label=series["label"], color=colour)
        axes.bar_label(bars, [f"{value:,.0f}" for value in series["values"]], padding=3)
    axes.set_yticks(range(len(plot["groups"])), plot["groups"])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xscale("log")
    axes.set_xlim(
        1, 10 * max(chain(*(series["values"] for series in plot["series"])))
    )  # the largest has a label beside it
    _ticks(axes.xaxis, [series["values"] for series in plot["series"]])


def _ticks(axis: Any, values: Sequence[Sequence[float]]) -> None:
    """Mark a logarithmic axis with plain numbers: powers of ten, and also 2 and 5 where these would be few."""
    lowest, highest = min(chain(*values)), max(chain(*values))
    few = math.log10(highest / lowest) < 2.5
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())


if __name__ == "__main__":
    mpl.use("svg")
    sys.stdout.write(draw(json.load(sys.stdin)))
