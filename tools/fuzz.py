"""Runs the fuzzers; `./dev fuzz TIME` calls it.

    fuzz.py TIME [NAME...]

TIME is 60, 90s, 10m or 2h, for each fuzzer; without names all run, as many at once as there are processors. For each it
prints one line: how many inputs were executed, or that it cannot run here and why, or where the input is that was
found. Then the exit code is 1, and beside the input is a file with the report of the crash. A found input that is moved
to the corpus of its fuzzer is executed first from then on, here and in the tests.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

TOP = Path(__file__).parents[1]

#: Fuzzers of the guest agent, in C, and of the host's side, in Python. The corpus of each is in corpus/NAME beside it.
GUEST, HOST = TOP / "drivers/hyperstart/tests/guest/fuzz", TOP / "tests/fuzz"

#: Programs, present inputs, and findings.
WORK = TOP / ".cache/fuzz"

#: Seconds by the letter after a number.
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}

#: Exit code of a fuzzer that cannot run on this host.
CANNOT_RUN = 3

#: Seconds to build a fuzzer, and to execute its corpus and the last input, beside TIME.
GRACE = 300


class Fuzzer(NamedTuple):
    """One fuzzer. ``also``: another whose corpus it executes too."""

    name: str
    directory: Path
    also: str = ""

    @property
    def corpus(self) -> list[Path]:
        """The inputs that it begins with."""
        names = [self.name, *([self.also] if self.also else [])]
        return sorted(path for name in names for path in (self.directory / "corpus" / name).iterdir())

    def command(self, work: Path) -> list[str]:
        """Return the program and its first arguments; one in C is compiled into ``work``. Raises CalledProcessError."""
        if self.directory == HOST:
            return [sys.executable, str(HOST / f"fuzz_{self.name}.py")]
        return [str(_compiled(self.name, work / self.name))]


@functools.cache
def _compiled(name: str, program: Path) -> Path:
    """Compile a fuzzer, once in a process; return ``program``. Raises CalledProcessError."""
    subprocess.run([GUEST / "build", name, program], check=True, capture_output=True, encoding="utf-8")
    return program


FUZZERS = (
    Fuzzer("agent", GUEST),
    Fuzzer("channel", GUEST),
    Fuzzer("json", GUEST, also="spec"),
    Fuzzer("spec", GUEST, also="json"),
    Fuzzer("users", GUEST),
    Fuzzer("frames", HOST),
    Fuzzer("supervisor", HOST),
)


class Result(NamedTuple):
    """How a run ended: one sentence, and whether it found something."""

    sentence: str
    found: bool = False


def run(fuzzer: Fuzzer, seconds: float, work: Path = WORK) -> Result:
    """Run one fuzzer for so many seconds; what it finds is saved below ``work``."""
    work.mkdir(parents=True, exist_ok=True)
    present = work / f"{fuzzer.name}.input"
    if fuzzer.directory == GUEST and shutil.which("gcc") is None:
        return Result("cannot run: there is no gcc; install the Debian packages gcc and libc6-dev")
    try:
        command = fuzzer.command(work)
    except subprocess.CalledProcessError as error:
        return Result(f"cannot be compiled: {error.stderr}", found=True)
    words = [*command, str(seconds), str(secrets.randbits(32)), str(present), *map(str, fuzzer.corpus)]
    try:
        done = subprocess.run(words, capture_output=True, encoding="utf-8", errors="replace", timeout=seconds + GRACE)
        code, output, errors = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired:
        code, output, errors = 1, "", "it did not end in time\n"
    if code == 0:
        present.unlink(missing_ok=True)
        return Result(output.strip())
    if code == CANNOT_RUN:
        return Result(f"cannot run: {errors.strip().splitlines()[-1]}")
    return Result(f"found {_save(fuzzer, present, errors)}", found=True)


def _save(fuzzer: Fuzzer, present: Path, report: str) -> Path:
    """Keep an input and the report of what it does; return its path."""
    kept = present.with_name("found") / f"{fuzzer.name}-{hashlib.sha256(present.read_bytes()).hexdigest()[:12]}"
    kept.parent.mkdir(exist_ok=True)
    shutil.move(present, kept)
    kept.with_name(f"{kept.name}.txt").write_text(report, encoding="utf-8")
    return kept


def seconds_of(text: str) -> int:
    """Return a time such as 90s in seconds. Raises ValueError."""
    match = re.fullmatch(r"([0-9]{1,6})([smh]?)", text)
    if match is None:
        raise ValueError(f"{text!r} is no time; give one such as 60, 90s, 10m or 2h")
    return int(match[1]) * UNITS[match[2]]


def main(arguments: Sequence[str]) -> int:
    """Run what the arguments name, and return the exit code."""
    names = [fuzzer.name for fuzzer in FUZZERS]
    try:
        time, *chosen = arguments
        seconds = seconds_of(time)
        if unknown := set(chosen) - set(names):
            raise ValueError(f"there is no fuzzer {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    except ValueError as error:
        reason = error if arguments else "give a time for each fuzzer, such as 60, 90s, 10m or 2h"
        print(f"./dev fuzz: {reason}", file=sys.stderr)
        return 2
    wanted = [fuzzer for fuzzer in FUZZERS if not chosen or fuzzer.name in chosen]
    found = False
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for fuzzer, result in zip(wanted, pool.map(partial(run, seconds=seconds), wanted), strict=True):
            print(f"{fuzzer.name:12}{result.sentence}", flush=True)
            found |= result.found
    return int(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
