"""A process of root's that holds QEMU's monitor, or listens in QEMU's place: what it gains, and what happens then."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from qemu.qmp import ExecuteError, QMPClient, QMPError

import vc_core as vc
from vc_core.errors import VCError
from vc_core.states import State
from vc_core.store.roots import ROOT_VARIABLE, Roots
from vc_core.store.store import Store
from vc_core.testing.slowness import scaled
from vc_hypervisor_qemu import sockets
from waiting import PATIENCE

from .attacked_pod import Posture, Process, find_supervisor

#: A command of QEMU's monitor and its arguments.
Order = tuple[str, dict[str, object]]

#: An abstract socket of the host's network, on which a test listens.
ABSTRACT = f"vc-attack-{os.getpid()}"

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.slow]


@pytest.fixture(scope="module")
def stolen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Posture]:
    """Return a pod without containers whose supervisor was killed, so that QEMU's sockets are free."""
    top = tmp_path_factory.mktemp("stolen")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ROOT_VARIABLE, str(top / "root"))
        vc.run_pod(vc.PodConfig(id="stolen", hypervisor_type="qemu"))
        try:
            yield Posture(top, Roots.from_environment().pod_run_dir("stolen"), vm_of("stolen"), "stolen")
        finally:
            with suppress(vc.PodNotFoundError):
                vc.delete_pod("stolen", force=True)


def vm_of(pod_id: str) -> int:
    """Return the pid of the process that stands for a pod's VM."""
    vm = Store(Roots.from_environment()).read(pod_id).vm
    assert vm is not None
    return int(vm["pid"])


@pytest.fixture(autouse=True)
def no_supervisor(stolen: Posture) -> Iterator[None]:
    """Kill the supervisor before each test, and the one that a test has left; the VM runs on."""
    kill(find_supervisor("stolen", stolen.top / "root"))
    yield
    kill(find_supervisor("stolen", stolen.top / "root"))


def kill(process: Process | None) -> None:
    """Kill a process, if there is one, and wait for its end."""
    if process is None:
        return
    pidfd = os.pidfd_open(process.pid)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        assert select.select([pidfd], [], [], PATIENCE)[0]
    finally:
        os.close(pidfd)


def commands(top: Path) -> dict[str, Order]:
    """Return what a thief would send: commands that open, write, execute or connect to something of the host."""
    target = str(top / "written-by-qemu")
    connect = {"type": "unix", "data": {"path": str(top / "root/run/pods/stolen/supervisor.sock")}}
    abstract = {"type": "unix", "data": {"path": ABSTRACT, "abstract": True}}
    tcp = {"type": "inet", "data": {"host": "127.0.0.1", "port": "22"}}

    def chardev(kind: str, **data: object) -> Order:
        return "chardev-add", {"id": f"c-{len(str(data))}", "backend": {"type": kind, "data": data}}

    def disk(path: str, read_only: bool) -> Order:
        node = f"n-{len(path)}-{read_only}"
        return "blockdev-add", {"node-name": node, "driver": "file", "filename": path, "read-only": read_only}

    return {
        "read a secret of the host": disk("/etc/shadow", True),
        "read the pod's record": disk(str(top / "root/state/pods/stolen/state.json"), True),
        "read its own memory": disk("/proc/self/mem", True),
        "read a disk of the host": disk("/dev/sda", True),
        "write a file of the host": disk("/etc/passwd", False),
        "change its kernel": disk("/boot/kernel", False),
        "map a file of the host": (
            "object-add",
            {"qom-type": "memory-backend-file", "id": "m", "size": 4096, "mem-path": "/etc/shadow"},
        ),
        "write memory to a file": ("pmemsave", {"val": 0, "size": 4096, "filename": target}),
        "dump the guest": ("dump-guest-memory", {"paging": False, "protocol": f"file:{target}"}),
        "log to a file": chardev("file", out=target),
        "open a terminal": chardev("serial", device="/dev/tty"),
        "connect to the supervisor": chardev("socket", addr=connect, server=False),
        "connect to an abstract socket": chardev("socket", addr=abstract, server=False),
        "connect to a port of the host": chardev("socket", addr=tcp, server=False),
        "attach to the host's network": ("netdev_add", {"type": "tap", "id": "t", "ifname": "tap0", "script": "no"}),
    }


async def steal(stolen: Posture, orders: Mapping[str, Order]) -> list[str]:
    """Send commands as the monitor's only client; return what QEMU accepted. Raises QMPError when it ended."""
    monitor, accepted = QMPClient(), []
    await monitor.connect(sockets.connect(stolen.run_dir / "monitor.sock", stolen.qemu.pid))
    try:
        for what, (command, arguments) in orders.items():
            try:
                await monitor.execute(command, arguments)
                accepted.append(what)
            except ExecuteError:
                continue
    finally:
        with suppress(QMPError, EOFError):
            await monitor.disconnect()
    return accepted


@pytest.mark.promise("T23")
def test_who_has_stolen_the_monitor_can_open_write_or_connect_to_nothing_of_the_host(stolen: Posture) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{ABSTRACT}")
        listener.listen()
        assert asyncio.run(asyncio.wait_for(steal(stolen, commands(stolen.top)), scaled(30))) == []
    assert not (stolen.top / "written-by-qemu").exists()


def test_nothing_is_sent_to_a_process_that_listens_in_the_place_of_qemu(stolen: Posture) -> None:
    real = sorted(path for path in stolen.run_dir.glob("*.sock") if path.name != "supervisor.sock")
    assert {"monitor.sock", "console.sock", "channel.charch0.sock"} <= {path.name for path in real}
    with ExitStack() as stack:
        impostors = []
        for path in real:
            path.rename(path.with_suffix(".real"))
            stack.callback(path.with_suffix(".real").rename, path)
            impostor = stack.enter_context(socket.socket(socket.AF_UNIX))
            directory = os.open(path.parent, os.O_PATH)
            impostor.bind(f"/proc/self/fd/{directory}/{path.name}")
            os.close(directory)
            impostor.listen(8)
            impostor.setblocking(False)
            impostors.append(impostor)
        with pytest.raises(VCError):
            vc.enter_pod("stolen", vc.Cmd(args=["true"]))
        status = vc.status_pod("stolen")
        assert status.state is State.FAILED
        assert "which is not the pod's QEMU" in status.reason
        for impostor in impostors:
            try:
                while True:
                    client, _ = impostor.accept()
                    with client:
                        assert client.recv(100) == b""
            except BlockingIOError:
                pass


def test_a_stolen_monitor_keeps_neither_status_nor_the_end_of_the_pod(stolen: Posture) -> None:
    with sockets.connect(stolen.run_dir / "monitor.sock", stolen.qemu.pid):  # it reads nothing
        assert vc.status_pod("stolen").state in (State.RUNNING, State.FAILED)
        vc.stop_pod("stolen", timeout=4)
        assert vc.status_pod("stolen").state is State.STOPPED
    assert stolen.init.has_ended


@pytest.mark.promise("T23")
def test_an_order_to_execute_a_program_executes_none_and_at_most_ends_the_vm(stolen: Posture) -> None:
    target = stolen.top / "executed"
    vc.start_pod("stolen")
    again = Posture(stolen.top, stolen.run_dir, vm_of("stolen"), "stolen")
    kill(again.supervisor)
    orders: dict[str, Order] = {
        "by a helper": ("netdev_add", {"type": "tap", "id": "b", "helper": f"/bin/touch {target}"}),
        "by a migration": ("migrate", {"uri": f"exec:/bin/touch {target}"}),
    }
    with suppress(QMPError, EOFError):  # the filter of system calls has killed QEMU
        asyncio.run(asyncio.wait_for(steal(again, orders), scaled(30)))
    assert not target.exists()
    vc.delete_pod("stolen", force=True)
    assert again.init.has_ended
