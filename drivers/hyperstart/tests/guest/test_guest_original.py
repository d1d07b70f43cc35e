"""The dialect of 2016, for a host that does not send HELLO."""

import os
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from guest_vm import TIMEOUT, VM, RawHost

from vc_agent_hyperstart.codec import Code

pytestmark = pytest.mark.vm


@pytest.fixture
def pod(old: RawHost) -> Iterator[RawHost]:
    """The host, with a pod whose container c1 sleeps; both are gone after the test."""
    pod = {"hostname": "old-pod", "shareDir": "share", "containers": [container("c1", 11, "sleep", "1000")]}
    assert old.call(Code.STARTPOD, pod) == (Code.ACK, b"")
    yield old
    for name in ("c1", "c2"):
        old.call(Code.KILLCONTAINER, {"container": name, "signal": 9})
    while Code.PODFINISHED not in [code for code, _ in old.events]:
        old.events.append(old.frame())


def container(name: str, stdio: int, *args: str, **more: Any) -> dict[str, Any]:
    process = {"terminal": False, "stdio": stdio, "stderr": stdio + 1, "args": list(args), **more}
    return {"id": name, "image": "base", "rootfs": "rootfs", "overlay": True, "process": process}


def command(stdio: int, *args: str, name: str = "c1", **more: Any) -> dict[str, Any]:
    process = {"terminal": False, "stdio": stdio, "stderr": stdio + 1, "args": list(args), **more}
    return {"container": name, "process": process}


def ended(host: RawHost, stdio: int) -> tuple[int, bytes, bytes]:
    host.wait_for(lambda: stdio in host.status)
    return host.status.pop(stdio), host.output.pop(stdio, b""), host.output.pop(stdio + 1, b"")


def test_ready_is_sent_once_a_boot(old: RawHost) -> None:
    old.send(Code.PING)
    assert [old.frame() for _ in range(2)] == [(Code.NEXT, struct.pack(">I", 8)), (Code.ACK, b"")]


def test_the_next_values_add_up_to_the_bytes_sent(old: RawHost) -> None:
    message = struct.pack(">II", Code.PING, 8 + 5000) + bytes(5000)
    for byte in message[:20]:
        old.control.sendall(bytes([byte]))
    old.control.sendall(message[20:700])
    old.control.sendall(message[700:])
    assert old.reply() == (Code.ACK, b"")
    assert old.nexts == len(message)
    assert old.call(Code.PING, bytes(1_000_000)) == (Code.ACK, b"")
    assert old.nexts == len(message) + 1_000_008


def test_bytes_are_acknowledged_before_the_frame_is_whole(old: RawHost) -> None:
    message = struct.pack(">II", Code.PING, 8 + 1024) + bytes(1024)
    for start in range(0, len(message), 512):
        old.control.sendall(message[start : start + 512])
        while old.nexts < min(start + 512, len(message)):
            code, payload = old.frame()
            assert code == Code.NEXT
            old.nexts += int.from_bytes(payload, "big")
    assert old.frame() == (Code.ACK, b"")


def test_pipelined_commands_are_answered_one_by_one(old: RawHost) -> None:
    old.control.sendall(struct.pack(">II", Code.PING, 8) * 3)
    assert [old.frame() for _ in range(6)] == [(Code.NEXT, struct.pack(">I", 8)), (Code.ACK, b"")] * 3


def test_errors_carry_no_payload(old: RawHost) -> None:
    for code in (
        Code.STOPPOD,
        Code.RESTARTCONTAINER,
        Code.CMDFINISHED,
        Code.ACK,
        Code.ERROR,
        Code.PODFINISHED,
        Code.NEXT,
        23,
    ):
        assert old.call(code) == (Code.ERROR, b"")
    assert old.call(Code.SIGNAL, {"stdio": 1, "signal": 9}) == (Code.ERROR, b"")
    wrong: list[object] = [{"hostname": "x", "containers": None}, {"containers": []}, {"hostname": "x", "unknown": 1}]
    for pod in (b"", b"{", *wrong):
        assert old.call(Code.STARTPOD, pod) == (Code.ERROR, b"")
    assert old.call(Code.NEWCONTAINER, container("c1", 1, "true")) == (Code.ERROR, b"")
    assert old.call(Code.GETVERSION) == (Code.ACK, struct.pack(">I", 4242))


def test_podfinished_has_the_statuses_and_a_new_pod_can_start(old: RawHost) -> None:
    for _ in range(2):
        containers = [container("c1", 11, "sh", "-c", "read x; exit 9"), container("c2", 13, "sh", "-c", "exit 4")]
        old.ok(Code.STARTPOD, {"hostname": "old-pod", "shareDir": "share", "containers": containers})
        assert ended(old, 13)[0] == 4
        old.send_stream(11)
        assert ended(old, 11)[0] == 9
        assert old.frame() == (Code.PODFINISHED, struct.pack(">II", 9, 4))
    assert old.call(Code.EXECCMD, command(21, "true")) == (Code.ACK, b"")
    assert ended(old, 21)[0] == 125


def test_a_command_runs_and_its_end_is_an_empty_frame_and_the_status(pod: RawHost) -> None:
    pod.ok(Code.EXECCMD, command(21, "sh", "-c", "echo out; echo err >&2; exit 5"))
    assert ended(pod, 21) == (5, b"out\n", b"err\n")


def test_what_cannot_start_is_acknowledged_and_ends_with_its_code(pod: RawHost) -> None:
    pod.ok(Code.EXECCMD, command(21, "nosuch"))
    assert ended(pod, 21) == (127, b"", b"nosuch: command not found in the container\n")
    pod.ok(Code.EXECCMD, command(21, "/etc/passwd"))
    assert ended(pod, 21)[0] == 126
    for more in ({"user": "eve"}, {"user": "4321"}, {"group": "extra"}, {"workdir": "/nowhere"}):
        pod.ok(Code.EXECCMD, command(21, "true", **more))
        assert ended(pod, 21)[0] == 125
    pod.ok(Code.EXECCMD, command(21, "true", name="c9"))
    assert ended(pod, 21) == (125, b"", b"")


def test_death_by_signal_reports_zero(pod: RawHost) -> None:
    pod.ok(Code.EXECCMD, command(21, "sh", "-c", "kill -9 $$"))
    assert ended(pod, 21)[0] == 0


def test_a_child_that_keeps_the_output_open_delays_the_end(pod: RawHost) -> None:
    pod.ok(Code.EXECCMD, command(21, "sh", "-c", "sleep 1000 & echo $! >/tmp/child; exit 3"))
    assert pod.quiet()
    pod.ok(Code.EXECCMD, command(31, "sh", "-c", "until kill $(cat /tmp/child) 2>/dev/null; do usleep 20000; done"))
    assert ended(pod, 31)[0] == 0
    assert ended(pod, 21)[0] == 3


def test_input_larger_than_an_original_keeps_is_not_lost(pod: RawHost) -> None:
    data = os.urandom(3 << 20)
    pod.ok(Code.EXECCMD, command(21, "cat"))

    def send() -> None:
        for start in range(0, len(data), 4084):
            pod.send_stream(21, data[start : start + 4084])

    sender = threading.Thread(target=send)
    sender.start()
    pod.gives_credit = False
    received = b""
    while len(received) < len(data):
        stream, payload = pod.stream_frame()
        assert stream == 21
        received += payload
    sender.join()
    assert received == data
    pod.send_stream(21)
    assert ended(pod, 21)[0] == 0


def test_files_are_written_and_read(pod: RawHost) -> None:
    where = b'{"container":"c1","file":"/tmp/file"}'
    assert pod.call(Code.WRITEFILE, where + b"}bytes\0") == (Code.ACK, b"")
    assert pod.call(Code.READFILE, where) == (Code.ACK, b"}bytes\0")
    assert pod.call(Code.READFILE, {"container": "c9", "file": "/tmp/file"}) == (Code.ERROR, b"")


def test_interfaces_and_routes_are_those_of_ipv4(pod: RawHost) -> None:
    def interface(address: str, mask: str) -> dict[str, Any]:
        return {"device": "lo", "ipAddresses": [{"ipAddress": address, "netMask": mask}]}

    assert pod.call(Code.SETUPINTERFACE, interface("198.51.100.5", "255.255.255.0")) == (Code.ACK, b"")
    assert pod.call(Code.SETUPINTERFACE, interface("fec0::5", "64")) == (Code.ERROR, b"")
    assert pod.call(Code.SETUPROUTE, {"routes": [{"dest": "192.0.2.0/24", "device": "lo"}]}) == (Code.ACK, b"")
    pod.call(Code.EXECCMD, command(81, "busybox", "ip", "route"))
    assert b"192.0.2.0/24 dev lo" in ended(pod, 81)[1]


def test_processors_and_memory_are_asked_for_without_an_answer_but_ack(pod: RawHost) -> None:
    assert pod.call(Code.ONLINECPUMEM) == (Code.ACK, b"")


@pytest.mark.parametrize("code", [23, 24, 25, 4097, 4098])
def test_commands_of_later_hosts_are_errors(pod: RawHost, code: int) -> None:
    assert pod.call(code, {"container": "c1", "device": "lo"}) == (Code.ERROR, b"")


def test_an_unknown_stream_is_closed(pod: RawHost) -> None:
    pod.send_stream(4711, b"x")
    assert pod.stream_frame() == (4711, b"")


def test_a_signal_given_as_a_string_is_none(pod: RawHost) -> None:
    pod.ok(Code.KILLCONTAINER, {"container": "c1", "signal": "9"})
    pod.ok(Code.EXECCMD, command(21, "true"))
    assert ended(pod, 21)[0] == 0
    assert pod.call(Code.KILLCONTAINER, {"container": "c9", "signal": 9}) == (Code.ERROR, b"")


def test_a_half_command_of_a_host_that_left_does_not_harm_the_next(
    original: VM, new_host: Callable[[VM], RawHost]
) -> None:
    for cut in (1, 7, 8, 20):
        host = new_host(original)
        host.control.sendall((struct.pack(">II", Code.PING, 100) + bytes(50))[:cut])
        host.stream.sendall(struct.pack(">QI", 5, 50)[:cut])
        host.close()
        threading.Event().wait(0.3)  # the guest sees that a host left, but not where in the bytes the next one began
        host = new_host(original)
        assert host.call(Code.PING) == (Code.ACK, b"")
        host.send_stream(4711)
        assert host.stream_frame() == (4711, b"")
        host.close()


def test_output_waits_for_the_next_host(original: VM, new_host: Callable[[VM], RawHost]) -> None:
    host = new_host(original)
    host.ok(Code.STARTPOD, {"hostname": "h", "shareDir": "share", "containers": [container("c1", 11, "sleep", "1000")]})
    host.ok(Code.EXECCMD, command(21, "sh", "-c", "read line; sleep 0.5; echo $line"))
    host.send_stream(21, b"for you\n")
    host.close()
    host = new_host(original)
    assert ended(host, 21)[:2] == (0, b"for you\n")
    host.ok(Code.KILLCONTAINER, {"container": "c1", "signal": 9})
    assert host.frame() == (Code.PODFINISHED, bytes(4))


def test_a_pod_that_cannot_start_powers_the_vm_off(fresh: VM, new_host: Callable[[VM], RawHost]) -> None:
    host = new_host(fresh)
    missing = {**container("c1", 11, "true"), "image": "nowhere"}
    assert host.call(Code.STARTPOD, {"hostname": "h", "shareDir": "share", "containers": [missing]}) == (
        Code.ERROR,
        b"",
    )
    assert fresh.process.wait(TIMEOUT) == 0


def test_a_clone_gets_the_time_and_new_random_numbers_before_a_host_says_hello(old: RawHost) -> None:
    """WAKE is the one command of this project before HELLO, which the guest does not need for it."""
    now = 4_000_000_000_123_456_789  # in the year 2096
    assert old.call(Code.WAKE, {"time": now, "entropy": "a0" * 64}) == (Code.ACK, b"")
    assert old.call(Code.STARTPOD, {"hostname": "h", "shareDir": "share", "containers": []}) == (Code.ACK, b"")
    assert old.call(Code.WAKE, {"time": now, "entropy": "a0" * 64}) == (Code.ERROR, b"")
    stdio = 21
    assert old.call(Code.NEWCONTAINER, container("c1", stdio, "stat", "-c", "%X", "/proc/self")) == (Code.ACK, b"")
    assert int(ended(old, stdio)[1]) >= now // 10**9
    while Code.PODFINISHED not in [code for code, _ in old.events]:
        old.events.append(old.frame())
    for entropy in ("", "a0" * 63, "a0" * 65, "zz" * 64):
        assert old.call(Code.WAKE, {"time": 1, "entropy": entropy}) == (Code.ERROR, b"")
