"""The end of a pod, and parameters of the kernel command line."""

import select
import socket
import time
from collections.abc import Callable

import pytest
from guest_vm import TIMEOUT, VM, RawHost

from vc_agent_hyperstart.codec import Code
from vc_core.testing.slowness import within
from waiting import PATIENCE

pytestmark = pytest.mark.vm

#: Seconds from DESTROYPOD to the end of the VM, whatever its processes do.
DESTROY = 3


def start(host: RawHost, *args: str) -> int:
    host.hello()
    host.ok(Code.STARTPOD, {"hostname": "h", "shareDir": "share", "containers": []})
    return host.start_container("c1", *args)


def test_a_pod_that_ignores_sigterm_ends_in_time(fresh: VM, new_host: Callable[[VM], RawHost]) -> None:
    host = new_host(fresh)
    stdio = start(
        host, "sh", "-c", "trap '' TERM; (trap '' TERM; while :; do sleep 1; done) & echo up; while :; do sleep 1; done"
    )
    host.wait_for(lambda: host.output.get(stdio))
    with within(DESTROY):
        host.send(Code.DESTROYPOD)
        assert host.finish(stdio)[0] == 128 + 9
        assert host.reply() == (Code.ACK, b"")
        assert fresh.process.wait(TIMEOUT) == 0


def test_last_words_arrive_and_the_vm_does_not_linger(fresh: VM, new_host: Callable[[VM], RawHost]) -> None:
    host = new_host(fresh)
    stdio = start(
        host, "sh", "-c", "trap 'head -c 300000 /dev/zero; echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done"
    )
    host.wait_for(lambda: host.output.get(stdio))
    with within(DESTROY - 1):
        host.send(Code.DESTROYPOD)
        status, out, _ = host.finish(stdio)
        assert status == 3
        assert len(out) == 300_007
        assert out.endswith(b"bye\n")
        assert host.reply() == (Code.ACK, b"")
        assert fresh.process.wait(TIMEOUT) == 0
    assert "panic" not in fresh.console()


def test_what_a_command_of_the_pod_has_left_has_time_to_end_though_all_containers_have_ended(
    fresh: VM, new_host: Callable[[VM], RawHost]
) -> None:
    host = new_host(fresh)
    host.hello()
    host.ok(Code.STARTPOD, {"hostname": "h", "shareDir": "share", "root": "base/rootfs", "containers": []})
    first = host.start_container("c1", "true")
    command = host.exec("", "sh", "-c", "(trap '' TERM; echo up; while :; do sleep 1; done) & read x")
    host.wait_for(lambda: host.output.get(command))
    host.feed(command, b"\n")
    assert host.finish(first)[0] == 0
    assert host.finish(command)[:2] == (0, b"up\n")
    began = time.monotonic()
    host.send(Code.DESTROYPOD)
    assert host.reply() == (Code.ACK, b"")
    assert time.monotonic() - began >= 2
    assert fresh.process.wait(TIMEOUT) == 0


def test_a_pod_whose_containers_have_ended_ends_at_once(fresh: VM, new_host: Callable[[VM], RawHost]) -> None:
    host = new_host(fresh)
    first = start(host, "sh", "-c", "(trap '' TERM; while :; do sleep 1; done) & echo up")
    assert host.finish(first)[1] == b"up\n"
    with within(1):
        host.send(Code.DESTROYPOD)
        assert host.reply() == (Code.ACK, b"")
    assert fresh.process.wait(TIMEOUT) == 0


def test_a_guest_without_a_pod_powers_off_at_once(fresh: VM, new_host: Callable[[VM], RawHost]) -> None:
    host = new_host(fresh)
    host.send(Code.DESTROYPOD)
    assert host.reply() == (Code.ACK, b"")
    assert fresh.process.wait(TIMEOUT) == 0


def test_a_host_that_does_not_wait_for_the_answer_is_obeyed(fresh: VM, new_host: Callable[[VM], RawHost]) -> None:
    host = new_host(fresh)
    start(host, "sleep", "1000")
    host.send(Code.DESTROYPOD)
    host.close()
    assert fresh.process.wait(TIMEOUT) == 0


def test_a_host_with_a_port_for_receipts_gets_the_count_of_bytes_read(
    exchanged: VM, new_host: Callable[[VM], RawHost]
) -> None:
    host = new_host(exchanged)
    with socket.socket(socket.AF_UNIX) as receipts:
        receipts.connect(str(exchanged.directory / "receipts"))
        receipts.settimeout(PATIENCE)
        while not select.select([receipts], [], [], 0.05)[0]:  # until the guest has seen the connection
            host.ok(Code.PING)
        receipts.recv(65536)
        for _ in range(10):
            host.ok(Code.PING)
        received = 0
        while received < 80:
            received += int.from_bytes(receipts.recv(4, socket.MSG_WAITALL), "big")
        assert received == 80


def test_the_command_line_can_name_the_channels_devices(exchanged: VM, new_host: Callable[[VM], RawHost]) -> None:
    host = new_host(exchanged)
    host.hello()
    host.send_stream(5, b"for no process")
    host.ok(Code.PING)
