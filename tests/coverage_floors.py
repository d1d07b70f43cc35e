"""Holds each package to its floor: the share of its lines that the quick tests must run at least.

Called by ``./dev coverage`` with the report of ``coverage json``. The floors are in ``coverage-floors.toml``; one may
rise, and falls only with a reason in the commit.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

FLOORS = Path(__file__).with_name("coverage-floors.toml")


def shares(report: dict[str, Any]) -> dict[str, float]:
    """Return the share of lines that were run, in percent, by package; a report is of ``coverage json``."""
    covered, lines = Counter[str](), Counter[str]()
    for path, file in report["files"].items():
        package = path.partition("/src/")[2].partition("/")[0]
        covered[package] += file["summary"]["covered_lines"]
        lines[package] += file["summary"]["num_statements"]
    return {package: 100 * covered[package] / lines[package] for package in sorted(lines)}


def main(report: str) -> int:
    """Print share and floor of each package, and return 1 if a package is below its floor or has none."""
    found = shares(json.loads(Path(report).read_text(encoding="utf-8")))
    floors: dict[str, float] = tomllib.loads(FLOORS.read_text(encoding="utf-8"))
    below = [package for package in sorted(found | floors) if found.get(package, 0) < floors.get(package, 101)]
    for package in sorted(found | floors):
        print(f"{package:24} {found.get(package, 0):5.1f} % of lines, floor {floors.get(package, 'missing')}")
    for package in below:
        print(f"{package} is below its floor in {FLOORS.name}", file=sys.stderr)
    return 1 if below else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
