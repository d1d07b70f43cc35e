"""The page that ``./dev bench`` writes, and the lines that it prints."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.frame import Measured, Plot, Section, Unmeasured
from vc_core.errors import ConfigError
from vc_hypervisor_qemu.host import find_binary

FOLDER = Path(__file__).parents[1] / "docs/reference"

_HEAD = """# Benchmarks

`./dev bench` measures these figures and writes this page. It exits with 1 if a row is above its limit (*at most*) or
cannot be measured. Each row is compared with a program that does the same work without this project, measured in
turns in the same run: the result is the median of the turns' ratios, or with a plus sign of what is added. The amounts
are medians of the last run; they depend on the machine. *Load* is how many processes wanted a CPU when the row began.
`./dev bench NAME...` measures only these, and `./dev bench --list` lists them.

| name | measured | against | result | at most | ours | other | rounds | load |
|---|---|---|---|---|---|---|---|---|"""

Result = Measured | Unmeasured


def line(result: Result) -> str:
    """Return what is printed when a row has been measured."""
    if isinstance(result, Unmeasured):
        return f"{result.row.name}: not measured: {result.reason}"
    row = result.row
    verdict = "" if result.holds else "  ABOVE ITS LIMIT"
    amounts = f"{result.ours:.3g} {row.unit} / {result.other:.3g} {row.unit}"
    return f"{row.name}: {_value(result)} (at most {_limit(result)}), {amounts}, load {result.load:.1f}{verdict}"


def page(results: Sequence[Result], sections: Mapping[Section, Sequence[str | Plot]]) -> str:
    """Return the whole page."""
    parts = [_HEAD + "".join(f"\n{_cells(result)}" for result in results)]
    figures = [
        f"* {result.row.figure(result.ours, result.other)}"
        for result in results
        if isinstance(result, Measured) and result.row.figure
    ]
    if figures:
        parts.append("\n".join(figures))
    for section, content in sections.items():
        parts.append(f"## {section.title}")
        parts += [one if isinstance(one, str) else f"![{one.alt}]({_plot_path(one).name})" for one in content]
    parts.append(
        f"Last run: {os.cpu_count()} CPUs, {_qemu_version()}, Python {platform.python_version()}, "
        "VMs under emulation (TCG)."
    )
    return "\n\n".join(parts) + "\n"


def write(results: Sequence[Result], sections: Mapping[Section, Sequence[str | Plot]]) -> None:
    """Write the page and its plots. Plots that the page no longer shows are removed."""
    plots = {_plot_path(one): one for content in sections.values() for one in content if isinstance(one, Plot)}
    for path in FOLDER.glob("benchmarks-*.svg"):
        if path not in plots:
            path.unlink()
    for path, plot in plots.items():
        path.write_text(plot.svg, encoding="utf-8")
    (FOLDER / "benchmarks.md").write_text(page(results, sections), encoding="utf-8")


def _plot_path(plot: Plot) -> Path:
    return FOLDER / f"benchmarks-{plot.name}.svg"


def _cells(result: Result) -> str:
    row = result.row
    if isinstance(result, Unmeasured):
        return f"| {row.name} | {row.what} | not measured: {result.reason.replace('|', '/')} | | | | | | |"
    return (
        f"| {row.name} | {row.what} | {row.against} | {_value(result)} | {_limit(result)} "
        f"| {result.ours:.3g} {row.unit} | {result.other:.3g} {row.unit} | {result.rounds} | {result.load:.1f} |"
    )


def _value(result: Measured) -> str:
    return f"{result.value:+.3g} {result.row.unit}" if result.row.difference else f"{result.value:.2f}"


def _limit(result: Measured) -> str:
    row = result.row
    return f"{row.limit:+g} {row.unit}" if row.difference else f"{row.limit:g}"


def _qemu_version() -> str:
    try:
        asked = subprocess.run([find_binary(""), "--version"], capture_output=True, encoding="utf-8", check=True)
    except (ConfigError, OSError, subprocess.CalledProcessError):
        return "no QEMU"
    return asked.stdout.splitlines()[0]
