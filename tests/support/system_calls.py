"""Lets each system call of an operation fail, or kill the process at it, and looks at what is left.

``./dev soak 30m calls`` does that at every call of every operation; the tests do it at a part.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from forked import MOCK, Done, Server
from leftovers import look
from vc_core.store.roots import CACHE_VARIABLE, ROOT_VARIABLE
from vc_core.testing.slowness import scaled

#: Calls with an effect beyond the process, or whose failure is that of a disk or of a table of the kernel.
_PATHS = "open openat mkdir mkdirat rename renameat renameat2 unlink unlinkat rmdir"
_FILES = "read pread64 write fsync fdatasync flock getdents64 stat lstat fstat newfstatat statx readlink readlinkat"
_NEW_FILES = "open openat socket socketpair pipe pipe2 dup fcntl epoll_create1 eventfd2 memfd_create pidfd_open"

#: The errors, each with the calls that Linux lets fail so.
ERRORS = {
    "EIO": f"{_PATHS} {_FILES}".split(),
    "ENOSPC": ["open", "openat", "mkdir", "mkdirat", "rename", "renameat", "renameat2", "write", "fsync"],
    "EROFS": ["open", "openat", "mkdir", "mkdirat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir"],
    "EMFILE": _NEW_FILES.split(),
}

#: The calls at which a process is killed: all that change something, and those between which something was changed.
KILLING = f"{_PATHS} {_FILES} socketpair epoll_create1 close".split()

#: The calls with which a process changes files, sends signals or asks another process.
_WRITES = "write pwrite64 ftruncate truncate link linkat symlink symlinkat chmod fchmod chown mount umount2"
_SIGNALS = "kill tkill tgkill pidfd_send_signal connect sendmsg"
CHANGING = f"{_PATHS} {_WRITES} {_SIGNALS}".split()

#: The id of the pod, and the operations on it: what is run before, and the command.
_RUNNING: list[tuple[str, ...]] = [("pod", "run", "--quiet", "--id", "p", *MOCK)]
_CREATED: list[tuple[str, ...]] = [("pod", "create", "--id", "p", *MOCK)]
OPERATIONS: dict[str, tuple[list[tuple[str, ...]], tuple[str, ...]]] = {
    "create": ([], ("pod", "create", "--id", "p", *MOCK)),
    "run": ([], ("pod", "run", "--id", "p", *MOCK)),
    "list": (_RUNNING, ("pod", "list")),
    "status": (_RUNNING, ("pod", "status", "p")),
    "start": (_CREATED, ("pod", "start", "p")),
    "stop": (_RUNNING, ("pod", "stop", "p")),
    "delete": (_CREATED, ("pod", "delete", "p")),
    "delete by force": (_RUNNING, ("pod", "delete", "--force", "p")),
}
KILLED = ("create", "run", "delete", "delete by force")


@dataclass(frozen=True)
class Point:
    """The ``number``-th system call ``call`` of an operation, and the error that it returns; "" : the process dies."""

    operation: str
    call: str
    number: int
    error: str = ""

    def __str__(self) -> str:
        return f"{self.operation}: {self.call} {self.number}: {self.error or 'kill -9'}"

    @property
    def injection(self) -> str:
        """The argument of strace's option -e."""
        what = f"error={self.error}" if self.error else "signal=KILL"
        return f"inject={self.call}:{what}:when={self.number}"


class Campaign:
    """Tries points, on a server of its own whose roots are below ``top``."""

    def __init__(self, server: Server, top: Path) -> None:
        self._server, self._log = server, top / "strace"

    def points(self, operation: str) -> list[Point]:
        """Return all points of an operation, errors first, by the calls of a run in which nothing fails."""
        self._prepare(operation)
        done = self._traced(operation, [])
        assert done.status == 0, f"{operation}: {done.stderr}"
        numbers = self._numbers()
        look(self._server, stop=True)
        failing = [(call, error) for error, calls in ERRORS.items() for call in calls]
        dying = [(call, "") for call in KILLING] if operation in KILLED else []
        return [
            Point(operation, call, number, error)
            for call, error in [*failing, *dying]
            for number in sorted(numbers.get(call, ()))
        ]

    def problems(self, point: Point) -> Iterator[str]:
        """Try a point; yield what is wrong after it."""
        self._prepare(point.operation)
        done = self._traced(point.operation, ["-e", point.injection])
        # The write of the sentence itself may fail too: the number counts in each thread.
        lost_sentence = point.call == "write" and done.status and not done.stderr
        if point.error and not lost_sentence:
            yield from self._wrong_answer(done)
        listed, seconds, left = look(self._server, stop=True)
        if seconds > scaled(5.0):
            yield f"it was deleted in {seconds:.1f} s"
        if left:
            yield f"left: {', '.join(left)}"
        if not listed and point.operation in ("list", "status", "start", "stop"):
            yield "the pod is gone"
        lost_output = "standard output" in done.stderr
        if listed and point.error and done.status and point.operation == "create" and not lost_output:
            yield f"the pod was refused, and is there: {listed}"
        if any(state == "failed" for state, _ in listed.values()):
            yield f"a broken record: {listed}"

    def changes(self, operation: str) -> list[str]:
        """Return the calls with which an operation changes files or sends signals, its own output left out."""
        self._prepare(operation)
        done = self._traced(operation, ["-e", f"trace={','.join(f'?{call}' for call in CHANGING)}"])
        assert done.status == 0, done.stderr
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        look(self._server, stop=True)
        return [
            line
            for line in lines
            if re.match(rf"\d+ +({'|'.join(CHANGING)})\(", line)
            and not re.search(r" write\(\d+<[^>]*/(out|err)>", line)
            and ("open" not in line or re.search(r"O_(WRONLY|RDWR|CREAT|TRUNC)", line))
        ]

    def _wrong_answer(self, done: Done) -> Iterator[str]:
        if "Traceback" in done.stderr:
            yield f"a traceback: {done.stderr.strip().rpartition(chr(10))[2]}"
        elif done.status not in (0, 1, 125):
            yield f"status {done.status}: {done.stderr}"
        elif done.status and len([one for one in done.stderr.splitlines() if one.startswith("virtc: ")]) != 1:
            yield f"not one sentence: {done.stderr!r}"

    def _prepare(self, operation: str) -> None:
        for command in OPERATIONS[operation][0]:
            done = self._server.run(*command)
            assert done.status == 0, done.stderr

    def _traced(self, operation: str, options: Sequence[str]) -> Done:
        tracer: list[subprocess.Popen[bytes]] = []
        calls = sorted({*KILLING, *(call for some in ERRORS.values() for call in some)})
        # Those that this machine lacks ("?") are left out.
        trace = "trace=" + ",".join(f"?{call}" for call in calls)

        def attach(pid: int) -> None:
            command = ["strace", "-f", "-y", "-qq", "-e", trace, *options, "-o", str(self._log), "-p", str(pid)]
            tracer.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
            end = time.monotonic() + scaled(10.0)
            while b"\nTracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_bytes():
                assert time.monotonic() < end
                assert tracer[0].poll() is None, "strace cannot trace"
                time.sleep(0.001)

        try:
            return self._server.run(*OPERATIONS[operation][1], attach=attach)
        finally:
            tracer[0].wait(scaled(10.0))

    def _numbers(self) -> dict[str, set[int]]:
        """Return the numbers of each call in the log, counted by thread, but of calls on files of this installation.

        Those read its modules and metadata; of them, each 25th is kept.
        """
        counts: Counter[tuple[str, str]] = Counter()
        found: dict[str, set[int]] = {}
        for line in self._log.read_text(encoding="utf-8", errors="replace").splitlines():
            if not (match := re.match(r"(\d+) +(\w+)\(", line)):
                continue
            thread, call = match.groups()
            counts[thread, call] += 1
            if counts[thread, call] % 25 == 0 or not (sys.prefix in line or "/lib/python" in line):
                found.setdefault(call, set()).add(counts[thread, call])
        return found


@contextmanager
def campaign(top: Path) -> Iterator[Campaign]:
    """Yield a campaign with roots below ``top``."""
    variables = {ROOT_VARIABLE: str(top / "root"), CACHE_VARIABLE: str(top / "cache")}
    (top / "work").mkdir()
    with Server(variables, top / "work") as server:
        yield Campaign(server, top)
