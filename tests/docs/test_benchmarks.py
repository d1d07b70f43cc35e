"""`./dev bench` measures all that it can on a host."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """
from benchmarks import __main__ as bench
from benchmarks.ratio import Ratio, Table

def refused():
    yield "a figure"
    raise RuntimeError("this host's CPU has AMX |\\n and no room")

table = Table()
table.add("uml", refused)
table.add("lists", lambda: [Ratio("lists", "python", 2.0, 1.0, 8, 15)])
print(bench.page(table))
print("holds" if table.holds else "does not hold")
"""


#: In a process of its own: what a test imports of this folder would stay imported.
COUNT = """
from pathlib import Path
from benchmarks import plugins
print(plugins._count(Path("none")))
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, encoding="utf-8", timeout=60)


@pytest.mark.slow
def test_the_measured_programs_find_what_they_import_of_the_core() -> None:
    done = run(COUNT)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


@pytest.mark.slow
def test_a_row_that_fails_carries_its_reason_and_the_others_are_measured() -> None:
    done = run(PROGRAM)
    lines = done.stdout.splitlines()
    assert "| uml | not measured: this host's CPU has AMX / and no room | | | | | |" in lines, done.stderr
    assert "| lists | python | 2.00 | 8 | 2 | 1 | 15 |" in lines
    assert "* a figure" in lines
    assert lines[-1] == "does not hold"
