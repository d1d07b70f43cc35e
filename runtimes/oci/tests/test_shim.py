"""The shim ends as the process in the guest ends, forwards signals, and outlives the command that started it."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import cast

import pytest

from vc_core import Process
from vc_runtime import cgroups, shims
from vc_runtime.faults import RuntimeFault
from vc_runtime.shims import Started
from waiting import PATIENCE

pytestmark = [pytest.mark.root, pytest.mark.needs("mount namespaces")]


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
    ours.settimeout(PATIENCE)
    with closing(ours), closing(theirs):
        yield ours, theirs


@pytest.fixture
def null() -> Iterator[int]:
    fd = os.open(os.devnull, os.O_RDWR)
    yield fd
    os.close(fd)


@pytest.fixture
def shim(pair: tuple[socket.socket, socket.socket], null: int) -> Iterator[Started]:
    """Return the shim of a command, connected with ``pair``."""
    started = shims.spawn(sock=pair[1], listens=False, network=None, console=None, root=None, stdio=null)
    pair[1].close()
    yield started
    started.forget()
    started.shim.process.send(signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(started.shim.pid, 0)


def code_of(shim: Started) -> int:
    pidfd = os.pidfd_open(shim.shim.pid)
    try:
        assert select.select([pidfd], [], [], PATIENCE)[0], "the shim did not end"
    finally:
        os.close(pidfd)
    return os.waitstatus_to_exitcode(os.waitpid(shim.shim.pid, 0)[1])


class Running:
    """A process in the guest, of which only the connection is needed."""

    def hand_over(self) -> int:
        return os.open(os.devnull, os.O_RDWR)


def connected(sock: socket.socket) -> socket.socket:
    """Give the shim at the other end of a socket a connection, and return the other end of that."""
    shims.receive_streams(sock).close()
    guest, shims_end = socket.socketpair(type=socket.SOCK_SEQPACKET)
    guest.settimeout(PATIENCE)
    with closing(shims_end):
        socket.send_fds(sock, [b"connection"], [shims_end.fileno()])
    return guest


def test_its_exit_code_is_that_of_the_process(pair: tuple[socket.socket, socket.socket], shim: Started) -> None:
    shim.confirm()
    with closing(connected(pair[0])) as guest:
        guest.send(b'{"kind":"Started"}')
        guest.send(b'{"kind":"Answer","exit_code":42}')
        assert code_of(shim) == 42


def test_where_the_guests_kernel_killed_for_memory_the_hosts_does_too_and_counts_it(
    pair: tuple[socket.socket, socket.socket], null: int
) -> None:
    group = f"vc-shim-test-{os.getpid()}"
    cgroups.make(group)
    limit = cgroups.memory_limit(group)
    if limit is None:
        pytest.skip("no control group can limit memory here")
    shim = shims.spawn(sock=pair[1], listens=False, network=None, console=None, memory=limit, root=None, stdio=null)
    os.close(limit)
    try:
        cgroups.join(group, shim.shim.pid)
        shim.confirm()
        with closing(connected(pair[0])) as guest:
            guest.send(b'{"kind":"Answer","exit_code":137,"out_of_memory":true}')
            assert code_of(shim) == -signal.SIGKILL
        counts = [*Path("/sys/fs/cgroup").glob(f"{group}/memory.events")]
        counts += Path("/sys/fs/cgroup").glob(f"memory/{group}/memory.oom_control")
        assert "oom_kill 1" in counts[0].read_text(encoding="ascii").splitlines()
    finally:
        cgroups.remove(group)


def test_signals_go_to_the_process(pair: tuple[socket.socket, socket.socket], shim: Started) -> None:
    shim.confirm()
    with closing(connected(pair[0])) as guest:
        guest.send(b'{"kind":"Started"}')
        shim.shim.process.send(signal.SIGUSR1)
        assert json.loads(guest.recv(1000)) == {"kind": "Signal", "number": signal.SIGUSR1}


def test_a_process_that_is_lost_ends_it_with_255(pair: tuple[socket.socket, socket.socket], shim: Started) -> None:
    shim.confirm()
    connected(pair[0]).close()
    assert code_of(shim) == 255


def test_it_ends_with_a_command_that_was_killed_before_it_recorded_its_pid(shim: Started) -> None:
    shim.forget()
    assert code_of(shim) == 255


def test_a_signal_ends_one_whose_process_has_not_started(null: int, tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        waiting = shims.spawn(sock=listener, listens=True, network=None, console=None, root=None, stdio=null)
    waiting.confirm()
    waiting.shim.process.send(signal.SIGTERM)
    assert code_of(waiting) == 128 + signal.SIGTERM


def test_it_waits_for_the_next_start_after_one_that_was_killed(null: int, tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        waiting = shims.spawn(sock=listener, listens=True, network=None, console=None, root=None, stdio=null)
    waiting.confirm()
    for attempt in range(2):
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) as start:
            start.settimeout(PATIENCE)
            start.connect(str(tmp_path / "s"))
            if not attempt:
                continue
            with closing(connected(start)) as guest:
                guest.send(b'{"kind":"Answer","exit_code":3}')
                assert code_of(waiting) == 3


#: Stands for the command that attaches: the first one is killed, the next one ends when it gets a signal of the shim.
_ATTACHES = """
import os, socket, sys
s = socket.socket(fileno=3)
s.recv(100)
if not os.path.exists(sys.argv[1]):
    open(sys.argv[1], "x").close()
    os.kill(os.getpid(), 9)
assert b'"kind":"Signal","number":10' in s.recv(100)
s.send(b"exit 9")
"""


def test_after_a_lost_connection_a_command_of_its_attendant_has_its_streams_and_signals(
    null: int, tmp_path: Path
) -> None:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        waiting = shims.spawn(
            sock=listener,
            listens=True,
            network=None,
            console=None,
            root=None,
            stdio=null,
            again=[sys.executable, "-c", _ATTACHES, str(tmp_path / "killed")],
        )
    waiting.confirm()
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) as start:
        start.settimeout(PATIENCE)
        start.connect(str(tmp_path / "s"))
        connected(start).close()
        pidfd, deadline = os.pidfd_open(waiting.shim.pid), time.monotonic() + PATIENCE
        while not select.select([pidfd], [], [], 0.05)[0] and time.monotonic() < deadline:
            waiting.shim.process.send(signal.SIGUSR1)
        os.close(pidfd)
        assert code_of(waiting) == 9


def test_it_is_process_1_with_no_rights_in_namespaces_of_its_own(shim: Started) -> None:
    status = Path(f"/proc/{shim.shim.pid}/status").read_text(encoding="utf-8")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["NSpid"].split()[-1] == "1"
    assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == 0
    for kind in ("pid", "mnt", "net"):
        assert Path(f"/proc/{shim.shim.pid}/ns/{kind}").readlink() != Path(f"/proc/self/ns/{kind}").readlink()


def test_it_takes_less_than_a_megabyte(shim: Started) -> None:
    rollup = Path(f"/proc/{shim.shim.pid}/smaps_rollup").read_text(encoding="utf-8")
    kib = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    assert kib < 1024


def test_a_shim_that_is_killed_before_it_gets_the_process_is_an_error_that_says_so(
    pair: tuple[socket.socket, socket.socket], shim: Started
) -> None:
    shims.receive_streams(pair[0]).close()
    shim.shim.process.send(signal.SIGKILL)
    code_of(shim)
    with pytest.raises(RuntimeFault, match="was killed while it was started: its shim has ended"):
        shims.give(pair[0], cast(Process, Running()))
