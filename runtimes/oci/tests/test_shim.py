"""The shim ends as the process in the guest ends, forwards signals, and outlives the command that started it."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from vc_runtime import shims
from vc_runtime.shims import Started

pytestmark = [pytest.mark.root, pytest.mark.needs("mount namespaces")]

#: Seconds for a shim to do something.
TIMEOUT = 20.0


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
    ours.settimeout(TIMEOUT)
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
        assert select.select([pidfd], [], [], TIMEOUT)[0], "the shim did not end"
    finally:
        os.close(pidfd)
    return os.waitstatus_to_exitcode(os.waitpid(shim.shim.pid, 0)[1])


def connected(sock: socket.socket) -> socket.socket:
    """Give the shim at the other end of a socket a connection, and return the other end of that."""
    shims.receive_streams(sock).close()
    guest, shims_end = socket.socketpair(type=socket.SOCK_SEQPACKET)
    guest.settimeout(TIMEOUT)
    with closing(shims_end):
        socket.send_fds(sock, [b"connection"], [shims_end.fileno()])
    return guest


def test_its_exit_code_is_that_of_the_process(pair: tuple[socket.socket, socket.socket], shim: Started) -> None:
    shim.confirm()
    with closing(connected(pair[0])) as guest:
        guest.send(b'{"kind":"Started"}')
        guest.send(b'{"kind":"Answer","exit_code":42}')
        assert code_of(shim) == 42


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
            start.settimeout(TIMEOUT)
            start.connect(str(tmp_path / "s"))
            if not attempt:
                continue
            with closing(connected(start)) as guest:
                guest.send(b'{"kind":"Answer","exit_code":3}')
                assert code_of(waiting) == 3


def test_one_that_lost_its_connection_gets_another_from_its_attendant(null: int, tmp_path: Path) -> None:
    again = "import socket; s = socket.socket(fileno=3); s.recv(100); s.send(b'exit 9')"
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
            again=[sys.executable, "-c", again],
        )
    waiting.confirm()
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) as start:
        start.settimeout(TIMEOUT)
        start.connect(str(tmp_path / "s"))
        connected(start).close()
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
