"""Does for a long time what the tests do for a short one; ``./dev soak`` calls it.

    soak.py [TIME] [PART...]

TIME is 60, 90s, 15m or 2h, for all parts together; 30m by default. Without parts, all are done, one after the other.
Each ends before its time when it has done as often what docs/reference/promises.md wants. It prints how far it is, each
problem when it happens, and at the end what it counted.
``calls:1201`` begins at the 1,201st system call, to go on where an earlier run ended. The exit code is 1 if a part
found a problem.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import own_groups
import vc_core as vc
from supervised import OF_ANY_ENGINE, POINTS, problems, server_for_vms
from system_calls import campaign, operations
from vc_core.plugins.notifications import QUEUE
from vc_core.plugins.registry import DRAIN_TIMEOUT
from vc_core.store.roots import ROOT_VARIABLE, TEMPLATES_VARIABLE
from vc_core.testing import census
from vc_core.testing.rootfs import make_root_fs

#: Seconds by the letter after a number.
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}

_DEFAULT_TIME = "30m"

#: Cycles after which the memory of this process is compared with that at the end: malloc gives each thread an arena,
#: which are as large as they get after some dozens. It may grow by so many bytes (promise T01).
_WARM_UP, _GROWTH_MAX = 50, 2 << 20

#: Cycles of a pod with QEMU, and lives of mock pods, after which a part ends.
_CYCLES, _LIVES_MAX = 1_000, 100_000

#: Cycles, lives and system calls after which is printed how far they are.
_CYCLES_SHOWN, _LIVES_SHOWN, _CALLS_SHOWN = 25, 1_000, 500

#: Processes that make mock pods at once.
_PROCESSES = 8

#: What each of them does, as often as it gets or until a point in time: lives of pods of its own, and of few that all
#: have. It prints a line for each life, and one for each problem, and goes on after a problem; the traceback goes to
#: the standard error.
_LIVES = """
import contextlib, random, sys, time, traceback
import vc_core as vc

number, deadline, wanted = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
dice = random.Random(number)
refusals = (vc.PodNotFoundError, vc.PodExistsError, vc.StateError)


def live(pod_id):
    vc.create_pod(vc.PodConfig(id=pod_id, hypervisor_type="mock", agent_type="noop"))
    vc.start_pod(pod_id)
    vc.create_container(pod_id, vc.ContainerConfig(id="c"))
    vc.stop_pod(pod_id)
    vc.delete_pod(pod_id)


def report(line):
    sys.stdout.write(line + "\\n")  # a line is one write, so that lines of several processes do not mix
    sys.stdout.flush()


for _ in range(wanted):
    if time.monotonic() > deadline:
        break
    try:
        live(f"own{number}")
        if dice.random() < 0.1:
            try:
                live(f"common{dice.randrange(3)}")
            except refusals:
                pass
            if broken := [f"{one.id}: {one.reason}" for one in vc.list_pods() if one.state == "failed"]:
                report(f"broken records: {broken}")
    except Exception as error:
        traceback.print_exc()
        report(f"{type(error).__name__}: {error}".replace("\\n", " "))
        with contextlib.suppress(vc.PodNotFoundError):
            vc.delete_pod(f"own{number}", force=True)
    report("")
"""


class Tally:
    """What a part has counted: how often it did something, what was wrong, and what else it measured."""

    def __init__(self, what: str, of: int | None = None, shown: int | None = None) -> None:
        self.what, self.of, self._shown = what, of, shown
        self.done = 0
        self.problems: list[str] = []
        self.figures: list[str] = []
        self._began = time.monotonic()

    def count(self) -> None:
        """Count what was done once more; print how far it is after each ``shown`` of them."""
        self.done += 1
        if self._shown is not None and self.done % self._shown == 0:
            print(f"  {self}", flush=True)

    def problem(self, text: str) -> None:
        """Note and print what is wrong."""
        self.problems.append(text)
        print(f"  {text}", flush=True)

    def __str__(self) -> str:
        seconds = time.monotonic() - self._began
        of = "" if self.of is None else f" of {self.of:,}"
        figures = "".join(f", {one}" for one in self.figures)
        return f"{self.done:,}{of} {self.what} in {seconds:.0f} s{figures}, {len(self.problems)} problems"


def cycles(top: Path, deadline: float, _: int) -> Tally:
    """Make, start, use, stop and delete pods with a real VM; the census counts around each cycle."""
    tally = Tally("cycles of a pod with QEMU", _CYCLES, _CYCLES_SHOWN)
    make_root_fs(top / "rootfs")
    container = vc.ContainerConfig(id="c", root_fs=str(top / "rootfs"), cmd=vc.Cmd(args=["sleep", "10000"]))
    config = vc.PodConfig(id="cycle", containers=[container])
    vc.create_template(config)
    memory = 0
    (top / "root").mkdir()
    with own_groups.entered(), _variables({ROOT_VARIABLE: str(top / "root"), TEMPLATES_VARIABLE: "existing"}):
        vc.run_pod(config).delete(force=True)  # makes the directories that stay
        while tally.done < _CYCLES and time.monotonic() < deadline:
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
            tally.count()
            if tally.done == _WARM_UP:
                memory = _memory()
    if memory:
        grown = _memory() - memory
        tally.figures.append(f"the client's memory grew by {grown >> 10} KiB after the first {_WARM_UP}")
        if grown > _GROWTH_MAX:
            tally.problem(f"the client's memory grew by {grown} bytes")
    return tally


def lives(top: Path, deadline: float, _: int) -> Tally:
    """Let processes make and delete mock pods of one store at once."""
    tally = Tally(f"lives of mock pods by {_PROCESSES} processes", _LIVES_MAX, _LIVES_SHOWN)
    with _variables({ROOT_VARIABLE: str(top / "root")}):
        arguments, (reader, writer) = [str(deadline), str(_LIVES_MAX // _PROCESSES)], os.pipe()
        workers = [
            subprocess.Popen([sys.executable, "-c", _LIVES, str(number), *arguments], stdout=writer)
            for number in range(_PROCESSES)
        ]
        os.close(writer)
        with os.fdopen(reader, encoding="utf-8") as lines:
            for line in map(str.rstrip, lines):
                if line:
                    tally.problem(line)
                else:
                    tally.count()
        for number, worker in enumerate(workers):
            if worker.wait():
                tally.problem(f"process {number} ended with {worker.returncode}")
        for pod in vc.list_pods():  # those that all have; a refused operation leaves them as they are
            vc.delete_pod(pod.id, force=True)
    left = [path.name for path in (top / "root").rglob("*") if not path.is_dir()]
    for name in set(left) - {"events", "events.1"}:
        tally.problem(f"left: {name}")
    return tally


def supervisors(top: Path, deadline: float, _: int) -> Tally:
    """Kill the supervisor of a pod with a real VM at each point, again and again."""
    tally = Tally("kills of a supervisor at a point")
    others = "engine.recover.discarded"  # only a driver that finds its VMs itself reaches this point
    points = [point for point in {**POINTS, **OF_ANY_ENGINE} if point != others]
    with server_for_vms(top) as server:
        for point in _forever(points, deadline):
            for problem in problems(server, point):
                tally.problem(f"{point}: {problem}")
            tally.count()
    tally.figures.append(f"{min(tally.done, len(points))} of {len(points)} points")
    return tally


def calls(top: Path, deadline: float, first: int) -> Tally:
    """Let each system call of each operation fail, and kill the process at each, in an order that is the same.

    Begins at the ``first`` of them, and says where the next run has to begin if it does not reach the last.
    """
    tally = Tally("system calls that failed or killed", shown=_CALLS_SHOWN)
    with campaign(top) as every:
        points = [point for operation in operations() for point in every.points(operation)]
        points.sort(key=lambda point: zlib.crc32(str(point).encode()))  # mixed, and the same in each run
        tally.of = len(points)
        for point in points[first - 1 :]:
            if time.monotonic() > deadline:
                tally.figures.append(f"the next run is calls:{first + tally.done}")
                break
            for problem in every.problems(point):
                tally.problem(f"{point}: {problem}")
            tally.count()
    return tally


PARTS: dict[str, Callable[[Path, float, int], Tally]] = {
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
    time_given = arguments and arguments[0].partition(":")[0] not in PARTS
    given, *chosen = arguments if time_given else [_DEFAULT_TIME, *arguments]
    match = re.fullmatch(r"([1-9][0-9]*)([smh]?)", given)
    parts = [re.fullmatch(r"(\w+)(?::([1-9][0-9]*))?", one) for one in chosen or PARTS]
    if match is None or not all(one and one[1] in PARTS and (one[2] is None or one[1] == "calls") for one in parts):
        usage = f"usage: soak [TIME] [PART...]; TIME as 60, 90s, 15m or 2h; parts: {', '.join(PARTS)}, calls:NUMBER"
        print(usage, file=sys.stderr)
        return 2
    share, wrong = int(match[1]) * _UNITS[match[2]] / len(parts), 0
    for part in filter(None, parts):
        with tempfile.TemporaryDirectory(prefix="soak-") as top:
            tally = PARTS[part[1]](Path(top), time.monotonic() + share, int(part[2] or 1))
        print(f"{part[1]}: {tally}", flush=True)
        wrong += len(tally.problems)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
