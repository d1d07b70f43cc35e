"""Input and output after HELLO: no byte is lost or out of order, and no stream stops another."""

import hashlib
import os
from functools import partial

import pytest
from guest_vm import RawHost

from vc_agent_hyperstart.codec import Code, StreamControlType

pytestmark = pytest.mark.vm

MIB = 1 << 20


def test_ten_mib_of_output_arrive_unchanged(host: RawHost) -> None:
    script = f"head -c {10 * MIB} /dev/urandom >/tmp/blob; sha256sum </tmp/blob >&2; cat /tmp/blob; rm /tmp/blob"
    status, out, err = host.run("c1", "sh", "-c", script)
    assert (status, len(out)) == (0, 10 * MIB)
    assert hashlib.sha256(out).hexdigest() == err.decode().split()[0]


def test_ten_mib_of_input_arrive_unchanged(host: RawHost) -> None:
    data = os.urandom(10 * MIB)
    status, out, _ = host.run("c1", "sha256sum", stdin=data)
    assert (status, out.decode().split()[0]) == (0, hashlib.sha256(data).hexdigest())


def test_input_and_output_flow_at_the_same_time(host: RawHost) -> None:
    data = os.urandom(3 * MIB)
    assert host.run("c1", "cat", stdin=data) == (0, data, b"")


@pytest.mark.parametrize(
    "size", [0, 1, 4095, 4096, 4097, 32767, 32768, 32769, 65535, 65536, 65537, 524287, 524288, 524289]
)
def test_output_of_any_size_is_whole_before_the_exit_code(host: RawHost, size: int) -> None:
    status, out, err = host.run("c1", "sh", "-c", f"head -c {size} /dev/zero; exit 9")
    assert (status, len(out), err) == (9, size, b"")


def test_a_full_window_and_the_end_need_no_credit(host: RawHost) -> None:
    host.gives_credit = False
    script = f"head -c {host.WINDOW} /dev/zero; head -c {host.WINDOW} /dev/zero >&2; exit 3"
    status, out, err = host.run("c1", "sh", "-c", script)
    assert (status, len(out), len(err)) == (3, host.WINDOW, host.WINDOW)


def test_output_stops_at_the_window_and_goes_on_with_credit(host: RawHost) -> None:
    host.gives_credit = False
    stdio = host.exec("c1", "cat", "/dev/zero")
    host.wait_for(lambda: len(host.output.get(stdio, b"")) > host.WINDOW - host.HELD)
    assert host.quiet()
    host.give_credit(stdio)
    host.wait_for(lambda: len(host.output[stdio]) > 2 * (host.WINDOW - host.HELD))
    assert host.quiet()
    host.ok(Code.SIGNAL, {"stdio": stdio, "signal": 9})


def test_a_stream_that_is_not_read_stops_no_other(host: RawHost) -> None:
    stalled = host.exec("c1", "cat", "/dev/zero")
    host.gives_credit = False
    host.wait_for(lambda: len(host.output.get(stalled, b"")) > host.WINDOW - host.HELD)
    host.gives_credit = True
    host.consumed[stalled] = len(host.output.pop(stalled))
    status, out, _ = host.run("c1", "head", "-c", str(MIB), "/dev/zero")
    assert (status, len(out)) == (0, MIB)
    host.ok(Code.SIGNAL, {"stdio": stalled, "signal": 9})


def test_a_process_that_does_not_read_holds_up_no_other(host: RawHost) -> None:
    stalled = host.exec("c1", "sleep", "1000")
    for _ in range(host.WINDOW // host.FRAME_PAYLOAD):
        host.send_stream(stalled, bytes(host.FRAME_PAYLOAD))
    data = os.urandom(MIB)
    assert host.run("c1", "cat", stdin=data)[1] == data
    (found,) = (each for each in host.hello()["processes"] if each["stdio"] == stalled)
    assert found["received"] == host.WINDOW
    host.ok(Code.SIGNAL, {"stdio": stalled, "signal": 9})


def test_a_flood_does_not_starve_a_quiet_process(host: RawHost) -> None:
    flood = host.exec("c1", "cat", "/dev/zero")
    host.wait_for(lambda: len(host.output.get(flood, b"")) > host.WINDOW)
    quiet = host.exec("c1", "echo", "heard")
    before = len(host.output[flood])
    assert host.finish(quiet)[1] == b"heard\n"
    assert len(host.output[flood]) - before < 8 * MIB
    host.ok(Code.SIGNAL, {"stdio": flood, "signal": 9})


def test_input_for_a_process_that_closed_it_is_consumed(host: RawHost) -> None:
    stdio = host.exec("c1", "sh", "-c", "exec <&-; echo closed; exec sleep 1000")
    host.wait_for(lambda: host.output.get(stdio))
    host.feed(stdio, bytes(5 * host.WINDOW))
    host.ok(Code.SIGNAL, {"stdio": stdio, "signal": 9})
    assert host.finish(stdio)[0] == 128 + 9


def test_an_empty_frame_is_the_end_of_input(host: RawHost) -> None:
    assert host.run("c1", "wc", "-c", stdin=b"x" * 5) == (0, b"5\n", b"")
    assert host.run("c1", "cat", stdin=b"") == (0, b"", b"")


def test_input_for_an_ended_or_unknown_process_is_dropped(host: RawHost) -> None:
    host.drain()
    stdio = host.exec("c1", "true")
    host.wait_for(lambda: stdio in host.status)
    host.send_stream(stdio, b"late")
    host.send_stream(stdio)
    host.send_stream(424242, b"nobody")
    assert host.finish(stdio) == (0, b"", b"")
    assert host.quiet()
    assert host.output.keys().isdisjoint({stdio, 424242})


def test_a_child_that_keeps_the_output_open_does_not_delay_the_end(host: RawHost) -> None:
    status, out, _ = host.run("c1", "sh", "-c", "sleep 1000 & echo said; exit 6")
    assert (status, out) == (6, b"said\n")
    stdio = host.exec("c1", "sh", "-c", "(trap '' HUP; exec sleep 1000) & echo said; exit 6", terminal=True)
    assert host.finish(stdio)[:2] == (6, b"said\r\n")


def test_credit_for_what_was_never_sent_changes_nothing(host: RawHost) -> None:
    host.gives_credit = False
    stdio = host.exec("c1", "cat", "/dev/zero")
    host.wait_for(lambda: len(host.output.get(stdio, b"")) > host.WINDOW - host.HELD)
    for stream, value in ((stdio, 0), (99, 5), (0, 5)):
        host.send_control(StreamControlType.CREDIT, stream, value)
    assert host.quiet()
    host.send_control(StreamControlType.RELEASE, stdio)
    host.send_control(77, stdio)
    host.send_stream(0, b"short")
    host.ok(Code.SIGNAL, {"stdio": stdio, "signal": 9})
    host.gives_credit = True
    host.give_credit(stdio)
    assert host.finish(stdio)[0] == 128 + 9


def test_a_process_cannot_write_to_an_output_that_the_host_has_closed(host: RawHost) -> None:
    host.gives_credit = False
    for number, redirect in enumerate((" 2>/dev/null", " >&2")):
        stdio = host.exec("c1", "sh", "-c", f"trap '' PIPE; while echo line{redirect}; do :; done; exit 9")
        stream = stdio + number
        host.wait_for(partial(host.output.__contains__, stream))
        host.send_control(StreamControlType.CLOSE, stream)
        assert host.finish(stdio)[0] == 9
    host.gives_credit = True
    stdio = host.exec("c1", "sh", "-c", "read line; echo $line", terminal=True)
    host.send_control(StreamControlType.CLOSE, stdio)
    host.send_control(StreamControlType.CLOSE, 99)
    host.send_stream(stdio, b"said\n")
    assert b"said" in host.finish(stdio)[1]


def test_many_processes_run_at_once(host: RawHost) -> None:
    streams = [host.exec("c1", "sh", "-c", "read word; echo $word; exit 3") for _ in range(100)]
    for stdio in streams:
        host.send_stream(stdio, b"%d\n" % stdio)
    for stdio in reversed(streams):
        assert host.finish(stdio) == (3, b"%d\n" % stdio, b"")


def test_no_process_is_left_unreaped(host: RawHost) -> None:
    host.run("c1", "sh", "-c", "for i in 1 2 3; do (sh -c 'true &' &); done")
    assert host.run("c1", "sh", "-c", "! grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null")[:2] == (0, b"")


def test_input_that_ends_with_the_command_itself_needs_no_frame(host: RawHost) -> None:
    assert host.run("c1", "wc", "-c", noInput=True) == (0, b"0\n", b"")
    stdio = host.exec("c1", "sleep", "1000", noInput=True)
    (found,) = (each for each in host.hello()["processes"] if each["stdio"] == stdio)
    assert found["closed"]
    host.ok(Code.SIGNAL, {"stdio": stdio, "signal": 9})
    # A terminal's input ends by a character only.
    stdio = host.exec("c1", "cat", terminal=True, noInput=True)
    host.send_stream(stdio, b"\x04")
    assert host.finish(stdio)[0] == 0
