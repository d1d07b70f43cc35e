"""A signal reaches only the process that its identity describes, never one that reused its pid."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from vc_core.config.ids import pod_uuid
from vc_core.driver.process import ProcessIdentity
from vc_core.errors import HypervisorError
from vc_core.host.processes import find_supervisors, find_vms, supervisor_arguments
from waiting import PATIENCE

UUID = pod_uuid(Path("/run/p1"))


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"]) as child:
        yield child
        child.kill()


def identity(child: subprocess.Popen[bytes]) -> ProcessIdentity:
    found = ProcessIdentity.of(child.pid)
    assert found is not None
    return found


def test_an_identity_survives_json(sleeper: subprocess.Popen[bytes]) -> None:
    one = identity(sleeper)
    assert ProcessIdentity.from_mapping(one.to_mapping()) == one
    assert one.alive()


@pytest.mark.promise("T08")
@pytest.mark.parametrize("change", [{"start_time": 1}, {"boot_id": "another"}, {"pid": 1}, {"pid": 0}, {"pid": -1}])
def test_a_pid_that_was_reused_by_another_process_is_never_signalled(
    sleeper: subprocess.Popen[bytes], change: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[object] = []
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda *what: sent.append(what))
    other = replace(identity(sleeper), **change)  # type: ignore[arg-type] # fields by name
    assert not other.alive()
    assert not other.send(signal.SIGKILL)
    assert sent == []
    assert sleeper.poll() is None


#: Run in a pid namespace of its own: lets the kernel give the pid of a process that has ended to another one.
REUSE = """
import subprocess, sys
from pathlib import Path
from vc_core.driver.process import ProcessIdentity

def sleeper():
    return subprocess.Popen(["sleep", "1000"])

def end(child):
    child.kill()
    child.wait()

first = sleeper()
identity = ProcessIdentity.of(first.pid)
end(first)
while True:
    Path("/proc/sys/kernel/ns_last_pid").write_text(str(first.pid - 1))
    second = sleeper()
    # The kernel counts start times in steps of 10 ms: nobody uses up all pids in so short a time.
    if second.pid == first.pid and ProcessIdentity.of(second.pid).start_time != identity.start_time:
        break
    end(second)
print(identity.alive(), identity.kill(1), second.poll())
end(second)
"""


@pytest.mark.promise("T08")
@pytest.mark.root
def test_a_pid_that_the_kernel_gave_out_again_is_not_signalled() -> None:
    alone = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", REUSE]
    done = subprocess.run(alone, capture_output=True, encoding="utf-8", timeout=60)
    assert done.stdout == "False True None\n", done.stderr


def test_no_pidfd_is_left_when_proc_cannot_be_read(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fixture of all tests counts descriptors."""

    def refuse(pid: int) -> list[str]:
        raise OSError(errno.EMFILE, "Too many open files")

    one = identity(sleeper)
    monkeypatch.setattr("vc_core.driver.process.stat_fields", refuse)
    with pytest.raises(OSError, match="Too many"):
        one.open_pidfd()


@pytest.mark.promise("T08")
def test_a_zombie_is_dead(sleeper: subprocess.Popen[bytes]) -> None:
    one = identity(sleeper)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert not one.alive()
    assert one.wait(0)


def test_a_process_whose_first_thread_ended_lives_until_all_did() -> None:
    script = (
        "import ctypes, threading, sys, time\n"
        "threading.Thread(target=lambda: (sys.stdin.read(), None)).start()\n"
        "print('up', flush=True); ctypes.CDLL(None).pthread_exit(None)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        one = identity(child)
        assert child.stdout is not None
        child.stdout.readline()
        while Path(f"/proc/{child.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z":
            pass
        assert not one.wait(0)
        assert one.kill(PATIENCE)
        assert one.wait(0)


@contextmanager
def running(directory: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that works in ``directory`` and has ``words`` in its arguments."""
    argv = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()", *words]
    with subprocess.Popen(argv, cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child
        child.kill()


@pytest.mark.parametrize("words", [["-uuid", UUID], [f"vc.uuid={UUID}"]])
def test_a_vm_is_found_by_its_directory_and_the_uuid_of_its_pod(tmp_path: Path, words: list[str]) -> None:
    with running(tmp_path, *words) as child:
        assert find_vms(tmp_path, UUID) == [identity(child)]
        assert find_vms(tmp_path, pod_uuid(Path("/run/p2"))) == []
        assert find_vms(tmp_path.parent, UUID) == []


@pytest.mark.parametrize("word", ["p1", f"{UUID}.log", f"/tmp/{UUID}", f"guest=p1,uuid={UUID},x=y"])
def test_a_program_with_the_marker_inside_of_an_argument_is_no_vm(tmp_path: Path, word: str) -> None:
    with running(tmp_path, word):
        assert find_vms(tmp_path, UUID) == []


@pytest.mark.promise("T08")
def test_a_vm_of_another_user_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path, UUID):
        monkeypatch.setattr(os, "geteuid", lambda: 4711)
        assert find_vms(tmp_path, UUID) == []


def test_only_what_has_the_arguments_of_a_supervisor_word_for_word_is_one(tmp_path: Path) -> None:
    (tmp_path / "vc_core").mkdir()
    (tmp_path / "vc_core/__init__.py").touch()
    (tmp_path / "vc_core/supervisor.py").write_text("import sys; print(flush=True); sys.stdin.read()", encoding="utf-8")
    ours = [*supervisor_arguments("p1"), "7"]
    others = [
        ["-I", "-c", "import sys; print(flush=True); sys.stdin.read()", *ours],
        [*ours, "x"],
        [*ours[:-1], "x"],
        [*supervisor_arguments("p2"), "7"],
    ]
    with (tmp_path / "log").open("wb") as log, ExitStack() as stack:
        pids = []
        for words in (ours, *others):
            child = subprocess.Popen(
                [sys.executable, *words],
                env={"PYTHONPATH": str(tmp_path)},
                stderr=log,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            stack.enter_context(child)
            stack.callback(child.kill)
            assert child.stdout is not None
            assert child.stdout.readline()
            pids.append(child.pid)
        assert [one.pid for one in find_supervisors("p1", tmp_path / "log", tmp_path / "lock")] == pids[:1]
        assert find_supervisors("p1", tmp_path, tmp_path / "lock") == []


def test_a_process_of_any_name_has_an_identity() -> None:
    name = "ctypes.CDLL(None).prctl(15, b'\\xff) Z 1')"  # PR_SET_NAME
    script = f"import ctypes, sys; {name}; print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert b"\xff" in Path(f"/proc/{child.pid}/stat").read_bytes()
        assert identity(child).alive()
        child.kill()


@pytest.mark.root
def test_a_process_in_another_time_namespace_finds_the_same_process_alive(sleeper: subprocess.Popen[bytes]) -> None:
    script = "import sys; from vc_core.driver.process import ProcessIdentity as I; print(I.of(int(sys.argv[1])))"
    unshare = ["unshare", "--time", "--boottime", "86400", "--fork", "--"]
    elsewhere = subprocess.run(
        [*unshare, sys.executable, "-c", script, str(sleeper.pid)], capture_output=True, encoding="utf-8", check=True
    )
    assert elsewhere.stdout == f"{identity(sleeper)}\n"


def test_a_process_that_cannot_be_watched_for_want_of_descriptors_is_an_error_of_its_hypervisor(
    sleeper: subprocess.Popen[bytes],
) -> None:
    own = identity(sleeper)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(HypervisorError, match=f"process {sleeper.pid} cannot be watched: Too many open files"):
            own.send(signal.SIGTERM)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert sleeper.poll() is None
