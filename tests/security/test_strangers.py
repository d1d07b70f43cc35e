"""Another user of the host at each file, socket and entry of /proc that belongs to a running pod."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import pytest

from vc_core.store.roots import Roots
from vc_hypervisor_qemu.jail import ids

from .attacked_pod import Posture, Process

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.slow]

#: Users of the host: nobody, which other services run as too, and one as a person has it.
STRANGERS = [65534, 1500]

#: Entries of /proc/PID that Linux shows of any process to everybody (proc(5)). Tables of mounts name the sources.
_PUBLIC = {
    *("arch_status", "attr", "autogroup", "cgroup", "cmdline", "comm", "coredump_filter", "cpu_resctrl_groups"),
    *("cpuset", "fail-nth", "fdinfo", "gid_map", "ksm_merging_pages", "ksm_stat", "latency", "limits", "loginuid"),
    *("make-it-fail", "mountinfo", "mounts", "net", "numa_maps", "oom_adj", "oom_score", "oom_score_adj"),
    *("projid_map", "sched", "schedstat", "sessionid", "setgroups", "smaps_rollup", "stat", "statm", "status", "task"),
    *("timens_offsets", "timers", "uid_map", "wchan"),
}

#: The entry whose mode lets everybody open it for writing; Linux checks the rights when something is written.
_SLACK = "timerslack_ns"

_PTRACE_SEIZE = 0x4206

_libc = ctypes.CDLL(None, use_errno=True)
_T = TypeVar("_T")


def as_user(uid: int, work: Callable[[], _T]) -> _T:
    """Return the result of ``work`` in a process of another user, which has no rights of this one."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            result: object = work()
        except BaseException as error:
            result = error
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(pickle.dumps(result))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        outcome = pickle.loads(pipe.read())
    os.waitpid(child, 0)
    if isinstance(outcome, BaseException):
        raise outcome
    found: _T = outcome
    return found


def _opens(path: Path) -> list[str]:
    """Return in which ways this process can open a file or directory, or connect to a socket."""
    ways = []
    for name, flags in (("reads", os.O_RDONLY), ("writes", os.O_WRONLY)):
        with suppress(OSError):
            fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
            try:
                if name == "writes" or Path(path).is_dir() or os.read(fd, 1):
                    ways.append(name)
            finally:
                os.close(fd)
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        with socket.socket(socket.AF_UNIX, kind) as client, suppress(OSError):
            client.connect(str(path))
            ways.append("connects")
    with suppress(OSError):
        Path(path).unlink()
        ways.append("removes")
    return ways


@pytest.mark.parametrize("uid", STRANGERS)
def test_another_user_can_open_connect_to_or_remove_nothing_of_a_pod(attacked: Posture, uid: int) -> None:
    roots = [attacked.top / "root/state", attacked.top / "root/run"]
    paths = [path for root in roots for path in (root, *root.rglob("*"))]
    sockets = {path.name for path in paths if path.is_socket()}
    assert {"supervisor.sock", "monitor.sock", "console.sock"} <= sockets
    assert {"state.json", "config.json", "supervisor.log", "posture.lock"} <= {path.name for path in paths}
    paths += [ids.LOCKS, Roots.from_environment().cache / "guests"]
    found = as_user(uid, lambda: {str(path): ways for path in paths if (ways := _opens(path))})
    assert found == {}


@pytest.mark.parametrize("uid", STRANGERS)
@pytest.mark.parametrize("process", ["qemu", "init", "supervisor"])
def test_another_user_sees_of_a_pods_process_only_what_linux_shows_of_any(
    attacked: Posture, process: str, uid: int
) -> None:
    one: Process = getattr(attacked, process)

    def look() -> dict[str, list[str]]:
        found = {entry.name: _opens(entry) for entry in one.place.iterdir()}
        for name in ("fd", "ns", "map_files"):
            with suppress(OSError):
                found |= {f"{name}/{entry.name}": _opens(entry) for entry in (one.place / name).iterdir()}
        with suppress(PermissionError), (one.place / _SLACK).open("w", encoding="ascii") as slack:
            slack.write("50000")
            slack.flush()
            found["written"] = [_SLACK]
        del found[_SLACK]
        return {name: ways for name, ways in found.items() if ways and (name not in _PUBLIC or "writes" in ways)}

    assert as_user(uid, look) == {}


@pytest.mark.parametrize("uid", STRANGERS)
@pytest.mark.parametrize("process", ["qemu", "init", "supervisor"])
def test_another_user_can_neither_signal_nor_trace_a_pods_process(attacked: Posture, process: str, uid: int) -> None:
    pid = getattr(attacked, process).pid

    def attack() -> list[str]:
        done = []
        with suppress(PermissionError):
            os.kill(pid, 0)
            done.append("signal")
        with suppress(PermissionError):
            signal.pidfd_send_signal(os.pidfd_open(pid), 0)
            done.append("signal by pidfd")
        if _libc.ptrace(_PTRACE_SEIZE, pid, None, None) == 0:
            done.append("ptrace")
        return done

    assert as_user(uid, attack) == []


def test_the_arguments_of_a_pods_processes_hold_no_secret(attacked: Posture) -> None:
    for process in (attacked.qemu, attacked.init, attacked.supervisor):
        assert "hush" not in process.read("cmdline")


@pytest.mark.parametrize("process", ["qemu", "init", "supervisor"])
def test_a_pods_process_listens_on_no_abstract_socket_and_no_port(attacked: Posture, process: str) -> None:
    one: Process = getattr(attacked, process)
    inodes = {name.removeprefix("socket:[").rstrip("]") for name in one.files if name.startswith("socket:")}
    for table in ("tcp", "tcp6", "udp", "udp6"):
        lines = one.read(f"net/{table}").splitlines()[1:]
        assert not [line for line in lines if line.split()[9] in inodes], table
    # proc(5), net/unix: the inode is the 7th column, and an abstract socket's path begins with "@".
    unix = [line.split(maxsplit=7) for line in one.read("net/unix").splitlines()[1:]]
    assert not [line for line in unix if line[6] in inodes and len(line) > 7 and line[7].startswith("@")]


def test_each_directory_of_a_pod_is_its_owners_alone(attacked: Posture) -> None:
    for root in (attacked.top / "root/state", attacked.top / "root/run"):
        for path in (root, *(path for path in root.rglob("*") if path.is_dir())):
            if attacked.run_dir / "shares" in path.parents:  # mount points, behind directories that are private
                continue
            assert stat.S_IMODE(path.stat().st_mode) & 0o022 == 0, path
        assert stat.S_IMODE(root.stat().st_mode) == 0o700
