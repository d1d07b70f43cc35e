"""Runs the command ``virtc`` in forks of a process that has imported everything: in milliseconds, a process each.

What a fork executes from its first system call on is the operation alone, no start of an interpreter and no imports.
So every system call and every failpoint of an operation can be tried in turn.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from vc_core.testing.slowness import scaled

#: Seconds for one command to end.
_TIMEOUT = scaled(60.0)

MOCK = ("--hypervisor", "mock", "--agent", "noop")


@dataclass(frozen=True)
class Done:
    """How a command ended. ``status``: its exit code, or minus the number of the signal that killed it."""

    status: int
    stdout: str
    stderr: str


class Server:
    """The process that forks; a context manager, which ends it.

    ``environment``: variables of all commands, VIRTCONTAINERS_ROOT among them. ``work``: a directory for its files.
    """

    def __init__(self, environment: Mapping[str, str], work: Path) -> None:
        self.work = work
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(work)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env={**os.environ, **environment},
        )
        assert self._answer() == "ready"

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(_TIMEOUT)
        self._process.stdout.close()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def run(
        self,
        *arguments: str,
        failpoints: str = "",
        code: str = "",
        attach: Callable[[int], None] | None = None,
        interpreter: str = sys.executable,
    ) -> Done:
        """Run ``virtc`` with arguments, or Python code, and return how it ended.

        ``failpoints``: in the form of the variable. ``attach`` is called with the pid before the command begins.
        ``interpreter``: with which the command starts supervisors and other processes of Python.
        """
        assert self._process.stdin is not None
        request = {"arguments": arguments, "failpoints": failpoints, "code": code, "interpreter": interpreter}
        print(json.dumps(request), file=self._process.stdin, flush=True)
        pid = self._answer()
        if attach is not None:
            attach(pid)
        print("go", file=self._process.stdin, flush=True)
        status = self._answer()
        out, err = ((self.work / name).read_text(encoding="utf-8", errors="replace") for name in ("out", "err"))
        return Done(status, out, err)

    def call(self, code: str) -> Any:
        """Run Python code and return what it prints, read as JSON. Fails if it raises."""
        done = self.run(code=code)
        assert done.status == 0, done.stderr
        return json.loads(done.stdout)


def _serve(work: Path) -> None:
    """Fork for each request of the standard input; print the pid, and then how the fork ended."""
    _import_everything()
    print('"ready"', flush=True)
    while line := sys.stdin.readline():
        request = json.loads(line)
        wait, go = os.pipe()
        ready, prepared = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(go)
            os.close(ready)
            _child(request, work, wait, prepared)
        os.close(wait)
        os.close(prepared)
        os.read(ready, 1)
        os.close(ready)
        print(pid, flush=True)
        sys.stdin.readline()
        with suppress(BrokenPipeError):  # it was killed at the first call
            os.write(go, b"g")
        os.close(go)
        print(_reaped(pid), flush=True)


def _reaped(pid: int) -> int:
    """Return how a child ended; one that hangs is killed."""
    end = time.monotonic() + _TIMEOUT
    while time.monotonic() < end:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return -99


def _import_everything() -> None:
    """Import what an operation imports, by performing each once in a root that is removed."""
    import pkgutil
    import tempfile
    from importlib import import_module

    import vc_core.cli
    from vc_core.store.roots import ROOT_VARIABLE

    for module in pkgutil.iter_modules(vc_core.cli.__path__, "vc_core.cli."):
        import_module(module.name)
    before = os.environ[ROOT_VARIABLE]
    with tempfile.TemporaryDirectory() as top:
        os.environ[ROOT_VARIABLE] = top
        import vc_core as vc

        config = vc.PodConfig(id="a", hypervisor_type="mock", agent_type="noop")
        vc.run_pod(config)
        vc.create_container("a", vc.ContainerConfig(id="c"))
        vc.delete_container("a", "c", force=True)
        vc.list_pods()
        vc.status_pod("a")
        vc.stop_pod("a")
        vc.delete_pod("a")
    os.environ[ROOT_VARIABLE] = before


def _child(request: Mapping[str, Any], work: Path, wait: int, prepared: int) -> NoReturn:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    for fd, name in ((1, "out"), (2, "err")):
        file = os.open(work / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, fd)
        os.close(file)
    os.close(null)
    from vc_core import failpoints
    from vc_core.cli.main import run

    os.environ[failpoints.VARIABLE] = request["failpoints"]
    failpoints.configure(request["failpoints"])
    sys.executable = request["interpreter"]
    os.close(prepared)
    with suppress(OSError):  # injected
        os.read(wait, 1)
    status = 70
    try:
        if request["code"]:
            exec(request["code"], {})  # noqa: S102 - a test wrote it
            status = 0
        else:
            status = run(list(request["arguments"]))
        sys.stdout.flush()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    os._exit(status)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
