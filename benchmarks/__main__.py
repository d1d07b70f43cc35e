"""``./dev bench``: measures the rows and sections of all modules and writes docs/reference/benchmarks.md."""

from __future__ import annotations

import argparse
import signal
import sys

from benchmarks import (
    density,
    engines,
    execs,
    growth,
    jail,
    kubernetes,
    memory,
    peers,
    plugins,
    report,
    ssh,
    starts,
    storage,
    store,
    streams,
)
from benchmarks.frame import Row, Section, fill, measure
from benchmarks.guard import guard
from benchmarks.world import temporary_world

#: What is measured, in the order of the page.
ROWS: tuple[Row, ...] = (
    *starts.ROWS, *execs.ROWS, *store.ROWS, *memory.ROWS, *jail.ROWS, *streams.ROWS, *ssh.ROWS, *plugins.ROWS,
    *engines.ROWS, *kubernetes.ROWS,
)  # fmt: skip
SECTIONS: tuple[Section, ...] = (
    *density.SECTIONS, *growth.SECTIONS, *streams.SECTIONS, *storage.SECTIONS, *peers.SECTIONS, *ssh.SECTIONS,
)  # fmt: skip

#: The names of the rows that ``--guard`` measures.
GUARDED = tuple(row.name for row in ROWS if row.guard is not None)


def main() -> int:
    """Measure and print. Return 0 if every row was measured and none is above its limit, else 1.

    A run of everything writes the page as well.
    """
    parser = argparse.ArgumentParser(prog="./dev bench", description="Measure the rows of the page of benchmarks.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="measure only these, and write no page")
    parser.add_argument("--list", action="store_true", help="list the names")
    parser.add_argument("--guard", action="store_true", help="measure what continuous integration holds, in 90 s")
    arguments = parser.parse_args()
    titles = {row.name: row.what for row in ROWS} | {section.name: section.title for section in SECTIONS}
    chosen = arguments.names or list(titles)
    if unknown := [name for name in chosen if name not in titles]:
        parser.error(f"there is no row or section {unknown[0]!r}; --list lists all")
    rows = [row for row in ROWS if row.name in chosen]
    sections = [section for section in SECTIONS if section.name in chosen]
    if arguments.guard and (unguarded := [one for one in arguments.names if one not in GUARDED]):
        parser.error(f"{unguarded[0]!r} has no limit for --guard; {', '.join(GUARDED)} have one")
    if arguments.list:
        for name in chosen:
            print(f"{name:20} {titles[name]}")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as Ctrl-C, so that no VM is left
    with temporary_world() as world:
        if arguments.guard:
            return guard(rows, world)
        results = []
        for row in rows:
            results.append(measure(row, world, row.rounds))
            print(report.line(results[-1]), flush=True)
        content = {section: list(fill(section, world)) for section in sections}
    for section, parts in content.items():
        print(f"\n{section.title}\n", *(part if isinstance(part, str) else part.alt for part in parts), sep="\n")
    if not arguments.names:
        report.write(results, content)
    return 0 if all(result.holds for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
