"""Sockets at paths of any length, which only QEMU can listen on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vc_core.errors import HypervisorError, VMStartError
from vc_hypervisor_qemu import sockets

PID_1 = 1  #: not this process


@pytest.fixture
def path(tmp_path: Path) -> Path:
    directory = tmp_path / ("d" * 200)
    directory.mkdir()
    return directory / "x.sock"


@pytest.mark.promise("T16")
def test_a_long_run_directory_has_working_sockets(path: Path) -> None:
    with sockets.listen(path) as server, sockets.connect(path, PID_1) as client:
        assert len(str(path)) > 107
        accepted, _ = server.accept()
        with accepted:
            accepted.sendall(b"hello")
            client.setblocking(True)
            assert client.recv(5) == b"hello"


def test_only_this_user_can_connect(path: Path) -> None:
    with sockets.listen(path):
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_connection_does_not_block(path: Path) -> None:
    with sockets.listen(path), sockets.connect(path, PID_1) as client:
        assert client.gettimeout() == 0


def test_a_socket_that_no_process_listens_on_is_replaced(path: Path) -> None:
    sockets.listen(path).close()
    with sockets.listen(path), sockets.connect(path, PID_1):
        pass


def test_a_socket_that_a_process_listens_on_is_not_touched(path: Path) -> None:
    with sockets.listen(path):
        with pytest.raises(VMStartError, match="a process listens there"):
            sockets.listen(path)
        sockets.connect(path, PID_1).close()


def test_a_file_or_a_link_in_the_place_of_a_socket_is_not_touched(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("precious", encoding="utf-8")
    path.symlink_to(target)
    with pytest.raises(VMStartError, match=r"x\.sock' cannot be made: there is a file"):
        sockets.listen(path)
    path.unlink()
    path.write_text("precious", encoding="utf-8")
    with pytest.raises(VMStartError, match="there is a file"):
        sockets.listen(path)
    assert (target.read_text(encoding="utf-8"), path.read_text(encoding="utf-8")) == ("precious", "precious")


@pytest.mark.parametrize("make_dead", [lambda path: None, lambda path: sockets.listen(path).close()])
def test_connecting_to_a_socket_that_no_process_listens_on_is_an_error(path: Path, make_dead: object) -> None:
    assert callable(make_dead)
    make_dead(path)
    with pytest.raises(HypervisorError, match=r"x\.sock' cannot be connected to"):
        sockets.connect(path, PID_1)


def test_a_connection_to_another_process_than_the_pods_qemu_is_refused(path: Path) -> None:
    listen = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind('x.sock'); s.listen(); print(flush=True);"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", listen], cwd=path.parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as stranger:
        assert stranger.stdout is not None
        stranger.stdout.readline()
        with pytest.raises(HypervisorError, match=f"belongs to process {stranger.pid}, which is not the pod's QEMU"):
            sockets.connect(path, PID_1)
        sockets.connect(path, stranger.pid).close()
        assert stranger.stdin is not None
        stranger.stdin.close()


def test_a_socket_with_a_full_queue_is_an_error_at_once(path: Path) -> None:
    with sockets.listen(path):
        waiting = [sockets.connect(path, PID_1) for _ in range(2)]  # listen(1) lets two wait
        with pytest.raises(HypervisorError, match="too many connections wait for QEMU"):
            sockets.connect(path, PID_1)
        for client in waiting:
            client.close()
