"""Lets each system call of an operation fail, or kill the process at it, and looks at what is left.

``./dev soak 2h calls`` does that at every call of every operation; the tests do it at a part.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import supervised
import vc_core
from forked import MOCK, Done, Server
from leftovers import look
from vc_core.store.roots import CACHE_VARIABLE, ROOT_VARIABLE
from vc_core.testing import census
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

#: With these flags a call of open(2) may change something, and fail as one that does.
_OPENS, _WRITING = ("open", "openat"), re.compile("O_(WRONLY|RDWR|CREAT|TRUNC)")
_OF_WRITING = ("ENOSPC", "EROFS", "")

#: Calls of a supervisor that change processes, mounts or sockets.
_PROCESSES = "mount umount2 bind listen sendmsg fchmod execve clone clone3 vfork kill pidfd_send_signal"

#: The calls at which a process is killed: all that change something. A kill at another call leaves what a kill at the
#: next of these leaves, because the kernel takes back all else that a process has.
KILLING = f"{_PATHS} write fsync {_PROCESSES}".split()

#: The calls with which a process changes files, sends signals or asks another process.
_WRITES = "write pwrite64 ftruncate truncate link linkat symlink symlinkat chmod fchmod chown mount umount2"
_SIGNALS = "kill tkill tgkill pidfd_send_signal connect sendmsg"
CHANGING = f"{_PATHS} {_WRITES} {_SIGNALS}".split()

#: Of calls that are the same work again and again one of so many is tried.
_OF_REPEATED = 25

#: A command of ``virtc``, or Python code.
Command = tuple[str, ...] | str

#: The id of the pod, and what is run before an operation on it.
_CREATE: Command = ("pod", "create", "--id", "p", *MOCK)
_RUN: Command = ("pod", "run", "--quiet", "--id", "p", *MOCK)
_ADD: Command = ("container", "create", "--id", "c", "p")
_FORCE: Command = ("pod", "delete", "--force", "p")

#: Stands for the code that makes a pod whose VM is a process that sleeps.
_NAP: Command = ("a pod of the hypervisor nap",)

#: What a supervisor does in its life: it starts and stops a pod, and a container and a command in it.
_LIFE = """
import sys
import vc_core as vc
try:
    vc.start_pod("p")
    vc.enter_container("p", "c1", vc.Cmd(args=["true"]))
    vc.stop_container("p", "c1")
    vc.start_container("p", "c1")
    vc.stop_pod("p")
except vc.VCError as error:
    sys.exit(print(f"virtc: {error}", file=sys.stderr) or 1)
"""


@dataclass(frozen=True)
class Operation:
    """What is run before, and the command.

    ``executed``: not the calls of its own process are tried, but those of the Python processes that it executes.
    ``changes``: it changes something, so that it is also killed at its calls.
    """

    before: Sequence[Command]
    command: Command
    executed: bool = False
    changes: bool = True


#: The operations on pods without a process of their own.
OPERATIONS = {
    "create": Operation([], _CREATE),
    "run": Operation([], _RUN),
    "list": Operation([_RUN], ("pod", "list"), changes=False),
    "status": Operation([_RUN], ("pod", "status", "p"), changes=False),
    "start": Operation([_CREATE], ("pod", "start", "p")),
    "stop": Operation([_RUN], ("pod", "stop", "p")),
    "pause": Operation([_RUN], ("pod", "pause", "p")),
    "resume": Operation([_RUN, ("pod", "pause", "p")], ("pod", "resume", "p")),
    "restart": Operation([_RUN], ("restart", "p")),
    "add a container": Operation([_RUN], _ADD),
    "delete a container": Operation([_CREATE, _ADD], ("container", "delete", "p", "c")),
    "delete": Operation([_CREATE], ("pod", "delete", "p")),
    "delete by force": Operation([_RUN], _FORCE),
    "delete by force, the process that stops it": Operation([_RUN], _FORCE, executed=True),
    "repair": Operation([_RUN], ("repair", "--apply"), changes=False),
    "prune": Operation([_RUN, ("pod", "stop", "p")], ("prune",)),
}

#: Those on pods with a supervisor, for which root's rights are needed.
SUPERVISED = {
    "start, its client": Operation([_NAP], ("pod", "start", "p")),
    "enter, its client": Operation([_NAP, ("pod", "start", "p")], supervised.ENTER),
    "stop, its client": Operation([_NAP, ("pod", "start", "p")], ("pod", "stop", "p")),
    "delete by force, its client": Operation([_NAP, ("pod", "start", "p")], _FORCE),
    "supervisor": Operation([_NAP], _LIFE, executed=True),
}

_ALL = {**OPERATIONS, **SUPERVISED}

#: In the reason of a pod that failed because nothing could end its VM.
_UNSTOPPED = re.compile("it could not be stopped|could not be undone")

#: Those that end the pod, or make it.
_MAY_END = ("create", "run", "delete", "prune")

#: A Python that lets strace trace it, with the numbers of its calls counted from where it executes the interpreter on.
_TRACED_PYTHON = """#!{python} -IS
import os, sys
waiting, traced = os.pipe()
if not os.fork():
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    pid = os.getppid()
    tracer = os.fork()
    if not tracer:
        os.closerange(3, 4096)
        log = {log!r} + "." + str(pid)
        os.execvp("strace", [*{command!r}, "-o", log, "-p", str(pid)])
    while b"\\nTracerPid:\\t0\\n" in open("/proc/%d/status" % pid, "rb").read():
        if os.waitpid(tracer, os.WNOHANG)[0]:
            break
    os.write(traced, b"g")
    os._exit(0)
os.read(waiting, 1)
os.close(waiting)
os.close(traced)
os.execv({python!r}, [{python!r}, *sys.argv[1:]])
"""


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
        self._server, self._top = server, top

    def points(self, operation: str) -> list[Point]:
        """Return all points of an operation, errors first, by the calls of a run in which nothing fails."""
        done = self._traced(operation, [])
        assert done.status == 0, f"{operation}: {done.stderr}"
        look(self._server, stop=True)
        numbers = self._numbers()
        failing = [(call, error) for error, calls in ERRORS.items() for call in calls]
        dying = [(call, "") for call in KILLING] if _ALL[operation].changes else []
        return [
            Point(operation, call, number, error)
            for call, error in [*failing, *dying]
            for number, writes in sorted(numbers[call].items())
            if writes or call not in _OPENS or error not in _OF_WRITING
        ]

    def problems(self, point: Point) -> list[str]:
        """Try a point; return what is wrong after it."""
        counted = census.unchanged(self._top)
        counted.__enter__()
        found = list(self._problems(point))
        try:
            counted.__exit__(None, None, None)
        except AssertionError as error:
            found.append(" ".join(str(error).split()))
        return found

    def _problems(self, point: Point) -> Iterator[str]:
        operation = _ALL[point.operation]
        done = self._traced(point.operation, ["-e", point.injection])
        if point.error or operation.executed:
            has_table = point.operation == "repair" and done.stdout
            may_lack = not operation.executed and self._lost_words()
            yield from _wrong_answer(done, sentences={0} if has_table else {0, 1} if may_lack else {1})
        listed, seconds, left = look(self._server, stop=True)
        if seconds > scaled(5.0):
            yield f"it was deleted in {seconds:.1f} s"
        if left:
            yield f"left: {', '.join(left)}"
        if not listed and not point.operation.startswith(_MAY_END):
            yield "the pod is gone"
        lost_output = "standard output" in done.stderr
        if listed and point.error and done.status and point.operation == "create" and not lost_output:
            yield f"the pod was refused, and is there: {listed}"
        if any(state == "failed" and not _UNSTOPPED.search(reason) for state, reason in listed.values()):
            yield f"a broken record: {listed}"

    def _lost_words(self) -> bool:
        """Return whether a write to the standard error failed: a number counts in each thread of the process."""
        return any(re.search(r" write\(2<.* \(INJECTED\)$", line) for lines in self._logs() for line in lines)

    def changes(self, operation: str) -> list[str]:
        """Return the calls with which an operation changes files or sends signals, its own output left out."""
        done = self._traced(operation, ["-e", f"trace={','.join(f'?{call}' for call in CHANGING)}"])
        assert done.status == 0, done.stderr
        look(self._server, stop=True)
        return [
            line
            for lines in self._logs()
            for line in lines
            if re.match(rf"\d+ +({'|'.join(CHANGING)})\(", line)
            and not re.search(r" write\(\d+<[^>]*/(out|err)>", line)
            and ("open" not in line or _WRITING.search(line))
        ]

    def _run(self, command: Command, **options: object) -> Done:
        if command == _NAP:
            command = supervised.creation(self._server.work, "nap")
        if isinstance(command, str):
            return self._server.run(code=command, **options)  # type: ignore[arg-type] # passed on
        return self._server.run(*command, **options)  # type: ignore[arg-type]

    def _traced(self, name: str, options: Sequence[str]) -> Done:
        operation, log = _ALL[name], self._top / "strace"
        for command in operation.before:
            done = self._run(command)
            assert done.status == 0, done.stderr
        for old in self._top.glob("strace*"):
            old.unlink()
        # Calls that this machine lacks ("?") are left out.
        calls = sorted({*KILLING, *(call for some in ERRORS.values() for call in some)})
        trace = "trace=" + ",".join(f"?{call}" for call in calls)
        strace = ["strace", "-f", "-y", "-qq", "-e", trace, *options]
        if operation.executed:
            python = self._top / "python"
            python.write_text(_TRACED_PYTHON.format(python=sys.executable, log=str(log), command=strace), "utf-8")
            python.chmod(0o755)
            return self._run(operation.command, interpreter=str(python))
        tracer: list[subprocess.Popen[bytes]] = []

        def attach(pid: int) -> None:
            # Of the programs that it executes, the calls are not its own.
            command = [*strace, "--detach-on=execve", "-o", str(log), "-p", str(pid)]
            tracer.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
            end = time.monotonic() + scaled(10.0)
            while b"\nTracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_bytes():
                assert time.monotonic() < end
                if tracer[0].poll() is not None:
                    assert tracer[0].returncode == 0, "strace cannot trace"
                    break  # killed at once
                time.sleep(0.001)

        try:
            return self._run(operation.command, attach=attach)
        finally:
            tracer[0].wait(scaled(10.0))

    def _logs(self) -> Iterator[list[str]]:
        for log in self._top.glob("strace*"):
            yield log.read_text(encoding="utf-8", errors="replace").splitlines()

    def _numbers(self) -> dict[str, dict[int, bool]]:
        """Return the numbers of each call in the logs, counted by thread, and whether one opens a file for writing.

        Of repeated calls, some are left out: those on files of this installation and on processes of this host, and all
        before the first on a module of this project, which start the interpreter.
        """
        found: dict[str, dict[int, bool]] = defaultdict(dict)
        for lines in self._logs():
            begun = not any(_OURS in line for line in lines)
            counts: Counter[tuple[str, str]] = Counter()
            for line in lines:
                begun = begun or _OURS in line
                if match := re.match(r"(\d+) +(\w+)\(", line):
                    thread, call = match.groups()
                    counts[thread, call] += 1
                    number = counts[thread, call]
                    if (begun and not _REPEATED.search(line)) or number % _OF_REPEATED == 0:
                        found[call][number] = found[call].get(number, False) or bool(_WRITING.search(line))
        return found


#: Where the modules of this project are.
_OURS = str(Path(vc_core.__file__).parent)

#: Names of files that hold code or metadata, and of what is read of each process of this host.
_REPEATED = re.compile("|".join(map(re.escape, (sys.prefix, "/lib/python", _OURS, "/src/", "/site/"))) + r"|/proc/\d")


def _wrong_answer(done: Done, sentences: set[int]) -> Iterator[str]:
    if "Traceback" in done.stderr:
        yield f"a traceback: {done.stderr.strip().rpartition(chr(10))[2]}"
    elif done.status not in (0, 1, 125):
        yield f"status {done.status}: {done.stderr}"
    elif done.status and sum(one.startswith("virtc: ") for one in done.stderr.splitlines()) not in sentences:
        yield f"not one sentence: {done.stderr!r}"


def operations() -> Mapping[str, Operation]:
    """Return the operations that this user can try, by name."""
    return _ALL if os.geteuid() == 0 else OPERATIONS


@contextmanager
def campaign(top: Path) -> Iterator[Campaign]:
    """Yield a campaign with roots below ``top``."""
    variables = {ROOT_VARIABLE: str(top / "root"), CACHE_VARIABLE: str(top / "cache")}
    (top / "work").mkdir()
    variables |= supervised.furnish_naps(top / "work")
    with Server(variables, top / "work") as server:
        yield Campaign(server, top)
