"""Hosts that break the protocol: a bad frame must never end pid 1."""

import json
import random
import struct
from collections.abc import Callable

import pytest
from guest_vm import TIMEOUT, VM, RawHost

from vc_agent_hyperstart.codec import Code, StreamControlType

pytestmark = pytest.mark.vm


@pytest.mark.parametrize("length", [0, 1, 7, (1 << 20) + 1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_command_of_impossible_length_is_an_error_until_the_next_takeover(host: RawHost, length: int) -> None:
    host.control.sendall(struct.pack(">II", Code.PING, length))
    code, payload = host.reply()
    assert (code, json.loads(payload)["reason"].startswith("a command's length is impossible")) == (Code.ERROR, True)
    host.send(Code.PING)
    host.control.settimeout(0.3)
    with pytest.raises(TimeoutError):
        host.frame()
    host.control.settimeout(TIMEOUT)
    host.take_over()
    host.ok(Code.PING)


def test_a_command_of_one_mib_is_taken(host: RawHost) -> None:
    host.ok(Code.PING, bytes((1 << 20) - 8))
    host.ok(Code.PING)


@pytest.mark.parametrize("length", [0, 11, 65537, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_stream_frame_of_impossible_length_waits_for_a_takeover(host: RawHost, length: int) -> None:
    stdio = host.exec("c1", "cat")
    host.stream.sendall(struct.pack(">QI", stdio, length))
    host.send_stream(stdio, b"lost\n")
    host.take_over()
    host.send_control(StreamControlType.RESUME, stdio)
    host.send_stream(stdio, b"found\n")
    host.send_stream(stdio)
    assert host.finish(stdio) == (0, b"found\n", b"")


BAD_JSON = [
    *(
        b"",
        b" ",
        b"{",
        b"}",
        b"[",
        b"[]",
        b"1",
        b"null",
        b'"x"',
        b"{}x",
        b'{"a"}',
        b'{"a":}',
        b'{"a":1,}',
        b"{,}",
        b'{"a" 1}',
    ),
    *(
        b'{"a":01}',
        b'{"a":1.}',
        b'{"a":.5}',
        b'{"a":1e}',
        b'{"a":-}',
        b'{"a":+1}',
        b'{"a":nul}',
        b'{"a":tru',
        b"{'a':1}",
    ),
    *(
        b'{"a":"',
        b'{"a":"\\',
        b'{"a":"\\x"}',
        b'{"a":"\\u12"}',
        b'{"a":"\\u12g4"}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\ud800\\u0041"}',
    ),
    *(b'{"a":"\\udc00"}', b'{"a":"\\u0000"}', b'{"a":"\n"}', b'{"a":"\0"}', b'{"a":\0}', b"\xff\xfe", b"[" * 100_000),
    *(
        b'{"a":' * 50_000,
        b"[" + b"," * 70_000 + b"]",
        b'{"a":[' + b"1," * 70_000 + b"1]}",
        b"\0" * 1000,
        b'"' * 1001,
        b"\\" * 1001,
    ),
]


@pytest.mark.parametrize("payload", BAD_JSON, ids=lambda payload: repr(payload[:12]))
def test_bad_json_is_an_error(host: RawHost, payload: bytes) -> None:
    for code in (Code.STARTPOD, Code.NEWCONTAINER, Code.EXECCMD, Code.KILLCONTAINER, Code.REMOVECONTAINER, Code.HELLO):
        assert host.refused(code, payload)["reason"]


@pytest.mark.parametrize("seed", range(5))
def test_random_changes_of_good_commands_never_end_the_guest(host: RawHost, seed: int) -> None:
    chance = random.Random(seed)
    process = {
        "stdio": 901,
        "stderr": 902,
        "args": ["true", "x"],
        "envs": [{"env": "A", "value": "é\n"}],
        "user": "bob",
    }
    commands = [
        (Code.EXECCMD, {"container": "c1", "process": process}),
        (Code.EXECCMD, {"container": "", "process": process | {"terminal": True, "rows": 2, "columns": 3}}),
        (Code.NEWCONTAINER, {"id": "c8", "image": "base", "rootfs": "rootfs", "overlay": True, "process": process}),
        (
            Code.NEWCONTAINER,
            {
                **{"id": "c9", "image": "base", "rootfs": "rootfs", "overlay": True, "process": process},
                "fsmap": [{"source": "base/rootfs/etc", "path": "/a/b", "readOnly": True, "writable": False}],
            },
        ),
        (
            Code.NEWCONTAINER,
            {
                **{"id": "c8", "image": "base", "rootfs": "rootfs", "overlay": True, "process": process},
                **{"readOnly": True, "memory": 64, "pids": 5, "capabilities": ["CAP_KILL"], "noNewPrivs": True},
                **{"rlimits": [{"name": "core", "soft": 0, "hard": 1}], "sysctl": {"kernel.msgmax": "8192"}},
            },
        ),
        (Code.SETUPINTERFACE, {"device": "lo", "ipAddresses": [{"ipAddress": "127.0.0.2", "netMask": "255.0.0.0"}]}),
        (Code.SETUPROUTE, {"routes": [{"dest": "127.9.0.0/16", "gateway": "", "device": "lo"}]}),
        (Code.WRITEFILE, {"container": "c1", "file": "/tmp/file"}),
        (Code.READFILE, {"container": "c1", "file": "/tmp/file"}),
        (Code.STATS, {"container": "c1"}),
        (Code.SIGNALPROCESS, {"container": "c1", "process": "x", "signal": 1}),
        (Code.WINSIZE, {"seq": 901, "row": 1, "column": 2}),
        (Code.SIGNAL, {"stdio": 901, "signal": 0}),
        (Code.REMOVECONTAINER, {"container": "c8"}),
    ]
    for _ in range(100):
        code, message = chance.choice(commands)
        payload = bytearray(json.dumps(message).encode())
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(payload))
            if chance.random() < 0.5:
                payload[at] = chance.choice(b'{}[]",:0\\\xff\0 e-')
            else:
                del payload[at : at + chance.randint(1, 9)]
                payload += b"}"
        host.call(code, bytes(payload))
    host.ok(Code.PING)


@pytest.mark.parametrize("seed", range(10))
def test_noise_on_both_channels_ends_with_a_takeover(host: RawHost, seed: int) -> None:
    chance = random.Random(seed)
    for sock in (host.control, host.stream):
        for _ in range(20):
            sock.sendall(chance.choice((host.MARKER, b"", struct.pack(">QI", 0, 29)))[: chance.randrange(26)])
            sock.sendall(chance.randbytes(chance.randrange(300)))
    host.take_over(b"after it")
    host.ok(Code.PING)
    assert host.run("c1", "echo", "well")[1] == b"well\n"


def test_a_host_that_reads_no_answers_cannot_make_the_guest_grow(
    extended: VM, new_host: Callable[[VM], RawHost]
) -> None:
    host = new_host(extended)
    host.take_over()
    host.control.settimeout(1)
    pings = struct.pack(">II", Code.PING, 8) * 1_000_000
    with pytest.raises(TimeoutError):  # the guest stops reading
        host.control.sendall(pings * 10)
    host.close()
    host = new_host(extended)
    host.take_over()
    host.ok(Code.PING)


def test_signals_of_a_container_that_meet_a_process_before_its_execve_do_not_reach_the_agent(
    fresh: VM, new_host: Callable[[VM], RawHost]
) -> None:
    host = new_host(fresh)
    host.hello()
    host.ok(Code.STARTPOD, {"hostname": "h", "shareDir": "share", "containers": []})
    # Whoever ignores a signal hands that on; the one it is about to become does not ignore it.
    script = "trap '' SEGV; echo up; while :; do kill -SEGV -1; kill -KILL -1; done"
    stdio = host.start_container("c1", "sh", "-c", script)
    host.wait_for(lambda: host.output.get(stdio))
    assert {host.run("c1", "true")[0] for _ in range(100)} <= {0, 128 + 9, 128 + 11}
    host.ok(Code.KILLCONTAINER, {"container": "c1", "signal": 9})
    assert host.finish(stdio)[0] == 128 + 9
    assert "died" not in fresh.console()
