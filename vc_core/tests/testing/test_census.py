"""The census finds what a test leaves behind, and nothing else."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from vc_core.testing import census
from waiting import wait_until

CONFTEST = Path(__file__).parents[3] / "conftest.py"


@contextmanager
def descriptor(root: Path) -> Iterator[str]:
    with tempfile.TemporaryFile() as file:
        yield f"descriptor {file.fileno()} of "


@contextmanager
def child(root: Path) -> Iterator[str]:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"x")
        process.stdout.read(1)  # only now is it sure to be cat, and not still on its way there
        yield f"process {process.pid} (cat)"
        process.kill()


@contextmanager
def zombie(root: Path) -> Iterator[str]:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    yield f"process {process.pid} (zombie)"
    process.wait()


def start_orphan(root: Path) -> int:
    """Start a process that is not a child of this one, and that names the root in its environment only."""
    started = subprocess.run(
        ["sh", "-c", "sleep 60 </dev/null >/dev/null 2>&1 & echo $!"],
        env={**os.environ, "VIRTCONTAINERS_ROOT": str(root / "state")},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    pid = int(started.stdout)
    # Until then it is the shell, and within execve(2) it names nothing.
    wait_until(lambda: Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x0060\0", 10.0)
    return pid


@contextmanager
def orphan(root: Path) -> Iterator[str]:
    pid = start_orphan(root)
    yield f"process {pid} (sleep 60)"
    os.kill(pid, signal.SIGKILL)


@contextmanager
def thread(root: Path) -> Iterator[str]:
    end = threading.Event()
    lingering = threading.Thread(target=end.wait, name="lingering")
    lingering.start()
    yield "thread lingering"
    end.set()
    lingering.join()


@contextmanager
def listener(root: Path) -> Iterator[str]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(root / "socket"))
        listening.listen()
        yield f"listening socket {root}/socket"


@contextmanager
def abstract_listener(root: Path) -> Iterator[str]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"\0{root}/socket")
        listening.listen()
        yield f"listening socket @{root}/socket"


@contextmanager
def foreign_mount(root: Path) -> Iterator[str]:
    """A mount in the namespace of a process, which names the root in its arguments."""
    script = 'mount -t tmpfs none "$0" && echo done; exec cat "$0/none" -'
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script, root],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
        yield f"mount in the namespace of process {process.pid}: "
        process.kill()


@contextmanager
def loop_device(root: Path) -> Iterator[str]:
    file = root / "file"
    file.write_bytes(bytes(4096))
    done = subprocess.run(["losetup", "--find", "--show", file], capture_output=True, encoding="utf-8", check=True)
    device = done.stdout.strip()
    yield f"loop device {Path(device).name} of {file}"
    subprocess.run(["losetup", "--detach", device], check=True)


@contextmanager
def control_group(root: Path) -> Iterator[str]:
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()]
    tops = [Path("/sys/fs/cgroup", kind or "", path.lstrip("/")) for _, kind, path in lines if path != "/"]
    top = next((top for top in tops if (top / "cgroup.procs").exists()), None)
    if top is None:
        pytest.skip("this process is in no control group but the first ones")
    group = top / f"vc-{root.name}"
    group.mkdir()
    yield f"control group {group}"
    group.rmdir()


Leak = Callable[[Path], AbstractContextManager[str]]
LEAKS = [
    *(descriptor, child, zombie, orphan, thread, listener, abstract_listener),
    *(pytest.param(leak, marks=pytest.mark.root) for leak in (foreign_mount, control_group)),
    pytest.param(loop_device, marks=[pytest.mark.root, pytest.mark.needs("losetup")]),
]


@pytest.mark.parametrize("leak", LEAKS)
def test_what_is_left_behind_is_found(leak: Leak, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census, "_GRACE", 0)
    counted = census.unchanged(tmp_path, groups=True)
    counted.__enter__()
    with leak(tmp_path) as description, pytest.raises(AssertionError) as caught:
        counted.__exit__(None, None, None)
    assert description in str(caught.value)


@pytest.mark.parametrize("leak", LEAKS)
def test_what_was_there_before_and_what_is_gone_again_is_not_counted(leak: Leak, tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    with leak(tmp_path), census.unchanged(tmp_path, groups=True), leak(tmp_path / "below"):
        pass


def test_what_goes_away_within_a_second_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []

    def end_it() -> int:  # what the census calls after each look that found something
        if not looked:
            os.kill(pid, signal.SIGKILL)
        looked.append(pid)
        return 0

    with census.unchanged(tmp_path):
        pid = start_orphan(tmp_path)
        monkeypatch.setattr(gc, "collect", end_it)
    assert looked, "the census did not see the process"


@pytest.mark.root
@pytest.mark.needs("mount namespaces")
def test_a_process_that_leaves_its_namespaces_while_the_census_looks_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = os.stat

    def end_after(path: str, **options: Any) -> os.stat_result:
        found = stat(path, **options)
        if path == f"/proc/{process.pid}/ns/mnt":
            process.kill()
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # its mountinfo cannot be opened from now on
            looked.append(path)
        return found

    looked: list[str] = []
    with subprocess.Popen(["unshare", "--mount", "cat", "-", tmp_path], stdin=subprocess.PIPE) as process:
        wait_until(lambda: Path(f"/proc/{process.pid}/cmdline").read_bytes().startswith(b"cat\0"), 10.0)
        monkeypatch.setattr(os, "stat", end_after)
        with census.unchanged(tmp_path):
            pass
        monkeypatch.undo()
    assert looked, "the census did not look at its mounts"


def test_what_is_of_another_run_whose_name_only_begins_the_same_is_not_counted(tmp_path: Path) -> None:
    counted = census.unchanged(tmp_path / "run-1")
    counted.__enter__()
    pids = [start_orphan(tmp_path / name) for name in ("run-10", "run-1-of-others", "run-1.old")]
    counted.__exit__(None, None, None)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def test_files_are_counted_where_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census, "_GRACE", 0)
    (tmp_path / "old").touch()
    with census.unchanged(tmp_path):
        (tmp_path / "overlooked").touch()
    with (
        pytest.raises(AssertionError, match=f"file {tmp_path}/new$"),
        census.unchanged(tmp_path, files=[tmp_path]),
    ):
        (tmp_path / "new").touch()


@pytest.mark.root
@pytest.mark.needs("mount namespaces")
def test_a_mount_that_a_test_leaves_is_found(tmp_path: Path) -> None:
    program = textwrap.dedent(f"""
        import pathlib, subprocess
        from vc_core.testing import census
        census._GRACE = 0
        with census.unchanged(pathlib.Path({str(tmp_path)!r})):
            subprocess.run(["mount", "-t", "tmpfs", "none", {str(tmp_path)!r}], check=True)
    """)
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=False
    )
    assert "left behind:\n  mount " in done.stderr
    assert f"{tmp_path} " in done.stderr


@pytest.mark.slow
def test_the_fixture_counts_around_each_test_and_spares_fixtures_of_wider_scope(tmp_path: Path) -> None:
    shutil.copy(CONFTEST, tmp_path)
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent("""
            import subprocess
            import pytest

            @pytest.fixture(scope="module")
            def machine():
                with subprocess.Popen(["sleep", "60"]) as process:
                    yield process
                    process.kill()

            def test_one(): ...
            def test_first_user(machine): ...
            def test_second_user(machine): ...
            def test_leak(machine):
                global leak
                leak = open("/dev/null", encoding="utf-8")
            def test_after(): ...
        """),
        encoding="utf-8",
    )
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            f"--basetemp={tmp_path}/base",
            "-o",
            f"pythonpath={CONFTEST.parent / 'tests/support'}",
            tmp_path,
        ],
        capture_output=True,
        encoding="utf-8",
        check=False,
        cwd=tmp_path,
    )
    assert "5 passed, 1 error" in done.stdout
    assert "ERROR test_it.py::test_leak" in done.stdout
    assert "of /dev/null" in done.stdout
