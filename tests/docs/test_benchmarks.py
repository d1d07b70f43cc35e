"""`./dev bench` measures all that it can on a host."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from vc_core.testing.slowness import scaled

ROOT = Path(__file__).parents[2]

#: Rows whose measuring is arithmetic, for what the frame does with any row.
FRAME = """
from contextlib import contextmanager
from benchmarks import guard, report
from benchmarks.frame import Plot, Row, Section, fill, measure

@contextmanager
def refused(world):
    raise RuntimeError("this host's CPU has AMX |\\n and no room")
    yield

@contextmanager
def doubled(world):
    yield lambda: (2.0, 1.0)

def drawn(world):
    yield Plot("growth", "how it grows", "<svg/>")
    raise RuntimeError("no room")

def row(name, measured, limit, **more):
    return Row(name, name, "python", measured, limit=limit, rounds=15, **more)
"""

#: Each program has a process of its own: what a test imports of this folder would stay imported.
COUNT = """
from pathlib import Path
from xml.etree import ElementTree
from benchmarks import plugins
print(plugins._count(Path("none")))
"""


def run(program: str, timeout: float = 60) -> str:
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=scaled(timeout))
    assert done.returncode == 0, done.stderr
    return done.stdout


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=scaled(60))


@pytest.mark.slow
def test_the_measured_programs_find_what_they_import_of_the_core() -> None:
    assert int(run(COUNT)) > 0


@pytest.mark.slow
def test_a_row_that_fails_carries_its_reason_and_the_others_are_measured() -> None:
    lines = run(
        FRAME + "print(report.page([measure(one, None, 3) for one in"
        " (row('uml', refused, 1), row('lists', doubled, 8))], {}))"
    ).splitlines()
    assert "| uml | uml | not measured: this host's CPU has AMX / and no room | | | | | | |" in lines
    assert any(line.startswith("| lists | lists | python | 2.00 | 8 | 2 s | 1 s | 3 |") for line in lines)


@pytest.mark.slow
def test_a_row_with_a_limit_in_its_unit_is_held_to_the_difference() -> None:
    assert run(FRAME + "print(measure(row('m', doubled, 1, difference=True), None, 3).holds)") == "True\n"
    assert run(FRAME + "print(measure(row('m', doubled, 1), None, 3).holds)") == "False\n"


@pytest.mark.slow
def test_a_section_that_fails_keeps_what_it_had_and_says_why() -> None:
    printed = run(
        FRAME + "section = Section('growth', 'Growth', drawn)\n"
        "print(report.page([], {section: list(fill(section, None))}))"
    ).splitlines()
    assert "## Growth" in printed
    assert "![how it grows](benchmarks-growth.svg)" in printed
    assert "Not measured: no room" in printed


@pytest.mark.slow
def test_the_guard_measures_a_row_again_before_it_fails_the_run() -> None:
    again = "state = iter([9.0, 9.0, 2.0])\n"
    again += "@contextmanager\ndef calmer(world):\n    yield lambda amount=next(state): (amount, 1.0)\n"
    guarded = "rows = [row('calmer', calmer, 1, guard=2.5, guard_rounds=1)]\nprint(guard.guard(rows, None))"
    assert run(FRAME + again + guarded).splitlines()[-1] == "0"


@pytest.mark.slow
@pytest.mark.parametrize("measured", ["doubled", "refused"])
def test_the_guard_fails_the_run_for_a_row_that_stays_above_its_limit_or_cannot_be_measured(measured: str) -> None:
    guarded = f"print(guard.guard([row('m', {measured}, 1, guard=1.5)], None))"
    assert run(FRAME + guarded).splitlines()[-1] == "1"


@pytest.mark.slow
def test_the_guard_begins_no_row_when_its_time_is_over() -> None:
    guarded = "print(guard.guard([row('m', refused, 1, guard=1.5)], None, budget=0))"
    assert run(FRAME + guarded).splitlines() == ["m: not measured: no time is left", "0"]


@pytest.mark.slow
def test_a_name_that_no_row_has_is_a_usage_error() -> None:
    done = bench("warmer")
    assert done.returncode == 2
    assert "no row or section 'warmer'; --list lists all" in done.stderr


@pytest.mark.slow
def test_a_row_that_the_guard_does_not_hold_is_a_usage_error() -> None:
    done = bench("--guard", "cold")
    assert done.returncode == 2
    assert "'cold' has no limit for --guard; warm, " in done.stderr


@pytest.mark.slow
def test_listing_names_measures_nothing() -> None:
    done = bench("--list")
    assert done.returncode == 0
    assert "list " in done.stdout


@pytest.mark.slow
def test_a_project_that_cannot_be_measured_is_named_with_the_reason_beside_the_others() -> None:
    program = """
from benchmarks import peers
from benchmarks.peer import Figures

def fails(world):
    raise RuntimeError("no qemu-img")

peers._PEERS = (("quicksand", fails), ("bare", lambda world: ("bare QEMU", Figures(1.25, 0.004, 2.5, 80.0))))
print(*peers.SECTIONS[0].measure(None), sep="\\n")
"""
    printed = run(program).splitlines()
    assert "Not measured: quicksand: no qemu-img" in printed
    assert "| bare QEMU | 1.25 | 4.0 | 2.50 | 80 |" in printed


@pytest.mark.slow
def test_the_processes_of_a_virtual_machine_include_those_that_its_first_one_started() -> None:
    program = """
import os, subprocess
from benchmarks import proc
script = "exec 3<&0; cat <&3 & echo; wait"
with subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
    shell.stdout.readline()
    found = proc.descendants(os.getpid())
    print(len(found), found[0] == shell.pid, proc.memory(shell.pid) > 0, proc.cpu_seconds(shell.pid) > 0)
    shell.kill()
    os.waitid(os.P_PID, shell.pid, os.WEXITED | os.WNOWAIT)
    print(proc.memory(shell.pid))
"""
    assert run(program) == "2 True True True\n0.0\n"


#: What is drawn -> texts in it.
DRAWN = {
    "lines('n', 'Growth', 'pods', 'seconds', [Line('list', [1, 100], [0.1, 2]), Line('start', [1, 100], [1, 1])])": {
        *("Growth", "pods", "seconds", "list", "start", "100")
    },
    "bars('n', 'Rates', 'MiB/s', ['read', 'write'], [Bars('9p', [120, 1234]), Bars('host', [900, 12000])])": {
        *("Rates", "MiB/s", "read", "write", "9p", "host", "1,234", "12,000")
    },
}


@pytest.fixture(scope="module")
def pictures() -> dict[str, str]:
    """What is drawn -> the picture. The first run of all installs Matplotlib."""
    program = (
        f"import json\nfrom benchmarks.plots import *\nprint(json.dumps([{', '.join(f'{one}.svg' for one in DRAWN)}]))"
    )
    return dict(zip(DRAWN, json.loads(run(program, 600)), strict=True))


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize("drawn", DRAWN)
def test_a_plot_is_an_svg_with_its_axes_series_and_figures_as_text(pictures: dict[str, str], drawn: str) -> None:
    shown = {text.strip() for element in ElementTree.fromstring(pictures[drawn]).iter() for text in element.itertext()}
    assert DRAWN[drawn] <= shown
