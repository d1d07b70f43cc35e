"""Workers begin with the files that take longest, and share the tests of one in which nothing is shared."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import longest_first

SUPPORT = Path(__file__).parent
ROOT = SUPPORT.parents[1]

#: Each test of this file ends only when the other has begun.
MEETING = """
import pathlib, time
import pytest

@pytest.mark.parametrize(("own", "other"), ["ab", "ba"])
def test_meets(own, other):
    place, end = pathlib.Path(__file__).parent, time.monotonic() + 60
    (place / own).touch()
    while not (place / other).exists():
        assert time.monotonic() < end
        time.sleep(0.01)
"""


def run(folder: Path, workers: int, files: dict[str, str]) -> subprocess.CompletedProcess[str]:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    options = ["-v", "-p", "no:cacheprovider", "-p", "longest_first", "--import-mode=importlib", "--dist", "loadfile"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-n", str(workers), "--rootdir", str(folder), str(folder)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(SUPPORT)},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )


@pytest.mark.parametrize("file", [*longest_first.LONGEST, *longest_first.APART])
def test_a_file_that_is_listed_exists(file: str) -> None:
    assert (ROOT / file).is_file()


@pytest.mark.slow
def test_the_longest_file_is_the_first_and_the_others_follow_by_their_numbers_of_tests(tmp_path: Path) -> None:
    listed = longest_first.LONGEST[1]
    one, two = "def test_one(): ...\n", "def test_one(): ...\ndef test_two(): ...\n"
    done = run(tmp_path, 1, {"test_a.py": one, "test_b.py": two, listed: one})
    ran = [line.split()[-1] for line in done.stdout.splitlines() if " PASSED " in line]
    assert ran == [f"{listed}::test_one", "test_b.py::test_one", "test_b.py::test_two", "test_a.py::test_one"]


@pytest.mark.slow
def test_the_tests_of_a_file_in_which_nothing_is_shared_run_at_the_same_time(tmp_path: Path) -> None:
    (file,) = longest_first.APART
    done = run(tmp_path, 2, {file: MEETING})
    assert "2 passed" in done.stdout, done.stdout
