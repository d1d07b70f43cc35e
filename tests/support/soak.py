"""Does for a long time what the tests do for a short one; ``./dev soak`` calls it.

    soak.py [TIME] [PART...]

TIME is 60, 90s, 15m or 2h, for all parts together; 30m by default. Without parts, all are done, one after the other.
Each prints what it counted, for docs/reference/promises.md. The exit code is 1 if one found a problem.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import vc_core as vc
from supervised import OF_ANY_ENGINE, POINTS, problems, server_for_vms
from system_calls import OPERATIONS, campaign
from vc_core.plugins.notifications import QUEUE
from vc_core.plugins.registry import DRAIN_TIMEOUT
from vc_core.store.roots import ROOT_VARIABLE, TEMPLATES_VARIABLE
from vc_core.testing import census
from vc_core.testing.rootfs import make_root_fs

#: Seconds by the letter after a number.
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}

_DEFAULT_TIME = "30m"

#: Cycles after which the memory of this process is compared with that at the end.
_WARM_UP = 3

#: Processes that make mock pods at once.
_PROCESSES = 8

#: What each of them does until the point in time that it gets: lives of pods of its own, and of few that all have.
_LIVES = """
import random, sys, time
import vc_core as vc

number, deadline, lives = sys.argv[1], float(sys.argv[2]), 0
dice = random.Random(number)
refusals = (vc.PodNotFoundError, vc.PodExistsError, vc.StateError)


def live(pod_id):
    vc.create_pod(vc.PodConfig(id=pod_id, hypervisor_type="mock", agent_type="noop"))
    vc.start_pod(pod_id)
    vc.create_container(pod_id, vc.ContainerConfig(id="c"))
    vc.stop_pod(pod_id)
    vc.delete_pod(pod_id)


while time.time() < deadline:
    live(f"own{number}")
    lives += 1
    if dice.random() < 0.1:
        try:
            live(f"common{dice.randrange(3)}")
        except refusals:
            pass
        if broken := [one.id for one in vc.list_pods() if one.state == "failed"]:
            sys.exit(f"broken records: {broken}")
print(lives)
"""


class Tally:
    """What a part has counted: how often it did something, what was wrong, and what else it measured."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.done = 0
        self.of: int | None = None
        self.problems: list[str] = []
        self.figures: list[str] = []
        self._began = time.monotonic()

    def problem(self, text: str) -> None:
        """Note and print what is wrong."""
        self.problems.append(text)
        print(f"  {text}", flush=True)

    def __str__(self) -> str:
        seconds = time.monotonic() - self._began
        of = "" if self.of is None else f" of {self.of:,}"
        figures = "".join(f", {one}" for one in self.figures)
        return f"{self.done:,}{of} {self.what} in {seconds:.0f} s{figures}, {len(self.problems)} problems"


def cycles(top: Path, deadline: float) -> Tally:
    """Make, start, use, stop and delete pods with a real VM; the census counts around each cycle."""
    tally = Tally("cycles of a pod with QEMU")
    make_root_fs(top / "rootfs")
    container = vc.ContainerConfig(id="c", root_fs=str(top / "rootfs"), cmd=vc.Cmd(args=["sleep", "10000"]))
    config = vc.PodConfig(id="cycle", containers=[container])
    vc.create_template(config)
    memory = 0
    (top / "root").mkdir()
    with _variables({ROOT_VARIABLE: str(top / "root"), TEMPLATES_VARIABLE: "existing"}):
        vc.run_pod(config).delete(force=True)  # makes the directories that stay
        while time.monotonic() < deadline:
            try:
                with census.unchanged(top, files=[top / "root"], groups=True):
                    pod = vc.run_pod(config)
                    if pod.enter_container("c", vc.Cmd(args=["echo", "here"])).stdout != b"here\n":
                        tally.problem(f"cycle {tally.done}: a command's output was lost")
                    pod.stop()
                    pod.delete()
                    QUEUE.drain(DRAIN_TIMEOUT)  # its thread ends with the last notification
            except (AssertionError, vc.VCError) as error:
                tally.problem(f"cycle {tally.done}: {error}")
                for one in vc.list_pods():
                    vc.delete_pod(one.id, force=True)
            tally.done += 1
            if tally.done == _WARM_UP:
                memory = _memory()
    tally.figures.append(f"the client's memory grew by {(_memory() - memory) >> 10} KiB")
    return tally


def lives(top: Path, deadline: float) -> Tally:
    """Let processes make and delete mock pods of one store at once."""
    tally = Tally(f"lives of mock pods by {_PROCESSES} processes")
    with _variables({ROOT_VARIABLE: str(top / "root")}):
        until = str(time.time() + deadline - time.monotonic())
        workers = [
            subprocess.Popen(
                [sys.executable, "-c", _LIVES, str(number), until],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
            )
            for number in range(_PROCESSES)
        ]
        for worker in workers:
            output, errors = worker.communicate()
            if worker.returncode:
                tally.problem(errors.strip().rpartition("\n")[2])
            else:
                tally.done += int(output)
        for pod in vc.list_pods():  # those that all have; a refused operation leaves them as they are
            vc.delete_pod(pod.id, force=True)
    left = [path.name for path in (top / "root").rglob("*") if not path.is_dir()]
    for name in set(left) - {"events", "events.1"}:
        tally.problem(f"left: {name}")
    return tally


def supervisors(top: Path, deadline: float) -> Tally:
    """Kill the supervisor of a pod with a real VM at each point, again and again."""
    tally = Tally("kills of a supervisor at a point")
    others = "engine.recover.discarded"  # only a driver that finds its VMs itself reaches this point
    points = [point for point in {**POINTS, **OF_ANY_ENGINE} if point != others]
    with server_for_vms(top) as server:
        for point in _forever(points, deadline):
            for problem in problems(server, point):
                tally.problem(f"{point}: {problem}")
            tally.done += 1
    tally.figures.append(f"{min(tally.done, len(points))} of {len(points)} points")
    return tally


def calls(top: Path, deadline: float) -> Tally:
    """Let each system call of each operation fail, and kill the process at each, in an order that is the same."""
    tally = Tally("system calls that failed or killed")
    with campaign(top) as every:
        points = [point for operation in OPERATIONS for point in every.points(operation)]
        tally.of = len(points)
        random.Random(1).shuffle(points)
        for point in points:
            if time.monotonic() > deadline:
                break
            for problem in every.problems(point):
                tally.problem(f"{point}: {problem}")
            tally.done += 1
    return tally


PARTS: dict[str, Callable[[Path, float], Tally]] = {
    "cycles": cycles,
    "lives": lives,
    "supervisors": supervisors,
    "calls": calls,
}


def _forever(points: Sequence[str], deadline: float) -> Iterator[str]:
    while True:
        for point in points:
            if time.monotonic() > deadline:
                return
            yield point


class _variables:
    """Sets variables of the environment meanwhile."""

    def __init__(self, values: dict[str, str]) -> None:
        self._values, self._before = values, {name: os.environ.get(name) for name in values}

    def __enter__(self) -> None:
        os.environ.update(self._values)

    def __exit__(self, *_: object) -> None:
        for name, value in self._before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _memory() -> int:
    """Return the bytes of memory that this process uses (proc(5), statm: pages, the second field)."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGESIZE")


def main(arguments: Sequence[str]) -> int:
    """Do the parts, each for its share of the time; return the exit code."""
    given, *names = arguments if arguments and arguments[0] not in PARTS else [_DEFAULT_TIME, *arguments]
    match = re.fullmatch(r"([1-9][0-9]*)([smh]?)", given)
    if match is None or not PARTS.keys() >= set(names):
        print(f"usage: soak [TIME] [PART...]; TIME as 60, 90s, 15m or 2h; parts: {', '.join(PARTS)}", file=sys.stderr)
        return 2
    chosen = names or list(PARTS)
    share, wrong = int(match[1]) * _UNITS[match[2]] / len(chosen), 0
    for name in chosen:
        with tempfile.TemporaryDirectory(prefix="soak-") as top:
            tally = PARTS[name](Path(top), time.monotonic() + share)
        print(f"{name}: {tally}", flush=True)
        wrong += len(tally.problems)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
