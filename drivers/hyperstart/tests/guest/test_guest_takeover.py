"""Another host takes the channels over: whatever the one before left behind, nothing is lost and nothing invented."""

import hashlib
import json
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

import pytest
from guest_vm import TIMEOUT, VM, RawHost

from vc_agent_hyperstart.codec import Code, StreamControlType

pytestmark = pytest.mark.vm


def process_of(host: RawHost, stdio: int) -> Any:
    return next((each for each in host.hello()["processes"] if each["stdio"] == stdio), None)


def test_a_command_cut_anywhere_is_forgotten(host: RawHost) -> None:
    stdio, stderr = host.new_streams()
    payload = json.dumps({"container": "c1", "process": {"stdio": stdio, "stderr": stderr, "args": ["true"]}}).encode()
    frame = struct.pack(">II", Code.EXECCMD, 8 + len(payload)) + payload
    for cut in range(len(frame)):
        host.control.sendall(frame[:cut])
        host.take_over(struct.pack(">Q", cut))
        host.ok(Code.PING)
    assert process_of(host, stdio) is None


def test_input_cut_anywhere_is_forgotten(host: RawHost) -> None:
    stdio = host.exec("c1", "cat")
    payload = b"\xffVCSYNC\0\xff and a half!"
    frame = struct.pack(">QI", stdio, 12 + len(payload)) + payload
    for cut in range(len(frame)):
        host.send_stream(stdio, b"%d " % cut)
        host.stream.sendall(frame[:cut])
        host.take_over(struct.pack(">Q", cut))
    host.send_control(StreamControlType.RESUME, stdio)
    host.send_stream(stdio)
    # What was whole may have been waiting together with the half frame, and is then forgotten with it; but never more.
    status, out, _ = host.finish(stdio)
    assert status == 0
    numbers = [int(word) for word in out.split()]
    assert numbers == sorted(set(numbers))
    assert b"VCSYNC" not in out


def test_a_marker_in_pieces_is_found(host: RawHost) -> None:
    marker = host.MARKER + b"in parts"
    for cut in range(1, len(marker)):
        for sock in (host.stream, host.control):
            sock.sendall(b"junk" + marker[:cut])
        for sock in (host.stream, host.control):
            sock.sendall(marker[cut:])
            assert read_until(sock, marker).endswith(marker)
        host.ok(Code.PING)


def test_a_marker_cut_by_a_marker_is_found(host: RawHost) -> None:
    for cut in range(1, len(host.MARKER) + 8):
        for sock in (host.stream, host.control):
            sock.sendall((host.MARKER + b"deadhost")[:cut])
        host.take_over(b"newhost!")
        host.ok(Code.PING)


def read_until(sock: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        piece = sock.recv(1)
        assert piece
        data += piece
    return data


def test_no_stream_sends_anything_before_it_is_resumed(host: RawHost) -> None:
    stdio = host.exec("c1", "sh", "-c", "while read line; do echo $line; done")
    host.take_over()
    host.send_stream(stdio, b"one\n")
    assert host.quiet()
    host.send_control(StreamControlType.RESUME, stdio)
    host.send_stream(stdio)
    assert host.finish(stdio) == (0, b"one\n", b"")


def test_output_is_sent_again_from_the_byte_that_the_host_names(host: RawHost) -> None:
    host.gives_credit = False
    stdio = host.exec("c1", "sh", "-c", "head -c 2000000 /dev/urandom >/tmp/r; sha256sum </tmp/r >&2; cat /tmp/r")
    host.wait_for(lambda: len(host.output.get(stdio, b"")) > host.WINDOW - host.HELD)
    first = host.output[stdio]
    for position in (0, 1, 4097, 65535, 65536):
        host.take_over()
        host.output.clear()
        host.send_control(StreamControlType.RESUME, stdio, position)
        # Bytes before the position count as consumed, so that as many new ones come.
        host.wait_for(lambda: len(host.output.get(stdio, b"")) > host.WINDOW - host.HELD)
        both = min(len(host.output[stdio]), len(first) - position)
        assert host.output[stdio][:both] == first[position : position + both]
        first = first[:position] + host.output[stdio]
        if position == 0:
            first = host.output[stdio]
        else:
            break
    assert process_of(host, stdio)["stdout_from"] == position
    host.ok(Code.SIGNAL, {"stdio": stdio, "signal": 9})


def test_the_end_is_sent_again_after_each_takeover_until_it_is_released(host: RawHost) -> None:
    stdio = host.exec("c1", "sh", "-c", "echo last words; exit 8")
    for _ in range(3):
        host.wait_for(lambda: stdio in host.status)
        assert host.status.pop(stdio) == 8
        assert host.output.pop(stdio) == b"last words\n"
        host.take_over()
        assert process_of(host, stdio)["status"] == 8
        host.send_control(StreamControlType.RESUME, stdio, 0)
    host.finish(stdio)
    assert process_of(host, stdio) is None
    host.take_over()
    assert host.quiet()


def test_an_ended_process_whose_error_output_is_not_resumed_is_reported(host: RawHost) -> None:
    stdio = host.exec("c1", "sh", "-c", "echo lost >&2; echo kept; exit 8")
    host.wait_for(lambda: stdio in host.status)
    host.take_over()
    host.output.clear()
    host.status.clear()
    host.send_control(StreamControlType.RESUME, stdio, 0)
    assert host.finish(stdio) == (8, b"kept\n", b"")


def test_a_command_of_the_host_before_is_not_answered(host: RawHost) -> None:
    stdio, stderr = host.new_streams()
    host.send(Code.EXECCMD, {"container": "c1", "process": {"stdio": stdio, "stderr": stderr, "args": ["sleep", "9"]}})
    host.take_over()
    host.send(Code.PING)
    assert host.frame() == (Code.ACK, b"")
    host.control.settimeout(0.3)
    with pytest.raises(TimeoutError):
        host.frame()
    host.control.settimeout(TIMEOUT)
    if process_of(host, stdio):  # it may have come too late to be seen at all
        host.ok(Code.SIGNAL, {"stdio": stdio, "signal": 9})


def test_output_survives_hosts_that_die_in_the_middle_of_frames(
    extended: VM, new_host: Callable[[VM], RawHost]
) -> None:
    host = new_host(extended)
    host.take_over()
    host.hello()
    script = "head -c 3000000 /dev/urandom >/tmp/b; sha256sum </tmp/b >/tmp/sum; cat /tmp/b"
    stdio = host.exec("c1", "sh", "-c", script)
    output, hosts = b"", 1
    while True:
        host.output[stdio] = output
        host.consumed[stdio] = len(output)
        try:
            host.wait_for(lambda: stdio in host.status or len(host.output[stdio]) > len(output) + 400_000)  # noqa: B023, this turn's
        finally:
            output = host.output[stdio]
        if stdio in host.status:
            break
        host.stream.recv(4321)  # of a frame that is lost with this host
        host.close()
        host, hosts = new_host(extended), hosts + 1
        host.take_over(struct.pack(">Q", hosts))
        found = process_of(host, stdio)
        assert found["stdout_from"] <= len(output)
        host.send_control(StreamControlType.RESUME, stdio + 1, found["stderr_from"])
        host.send_control(StreamControlType.RESUME, stdio, len(output))
    assert host.finish(stdio)[0] == 0
    assert hosts > 5
    assert hashlib.sha256(output).hexdigest() == host.run("c1", "cat", "/tmp/sum")[1].decode().split()[0]


def test_a_guest_without_a_host_idles_and_loses_nothing(extended: VM, new_host: Callable[[VM], RawHost]) -> None:
    host = new_host(extended)
    host.take_over()
    stdio = host.exec("c1", "sh", "-c", "head -c 1000000 /dev/urandom >/tmp/b; sha256sum </tmp/b >/tmp/sum; cat /tmp/b")
    host.wait_for(lambda: host.output.get(stdio))
    got = host.output[stdio]
    host.close()
    idle_share(extended, 0.5)  # it fills what it may
    assert idle_share(extended, 1.5) < 0.25
    host = new_host(extended)
    host.take_over()
    host.output[stdio] = got
    host.send_control(StreamControlType.RESUME, stdio, len(got))
    status, out, _ = host.finish(stdio)
    assert status == 0
    assert hashlib.sha256(out).hexdigest() == host.run("c1", "cat", "/tmp/sum")[1].decode().split()[0]


def idle_share(vm: VM, seconds: float) -> float:
    """Return which share of a processor the VM takes while nothing happens."""
    before = vm.cpu_seconds()
    threading.Event().wait(seconds)  # there is no event: that nothing happens is the point
    return (vm.cpu_seconds() - before) / seconds
