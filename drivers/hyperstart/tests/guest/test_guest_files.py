"""Files of containers that the host reads and writes, and settings of the kernel that come with a container."""

import json
import os
from typing import Any

import pytest
from guest_vm import RawHost

from vc_agent_hyperstart.codec import Code

pytestmark = pytest.mark.vm

#: A control frame of 1 MiB less its header, which is what READFILE can answer.
MOST = (1 << 20) - 8


def write(host: RawHost, path: str, data: bytes, container: str = "c1") -> tuple[int, bytes]:
    return host.call(Code.WRITEFILE, json.dumps({"container": container, "file": path}).encode() + data)


def read(host: RawHost, path: str, container: str = "c1") -> bytes:
    return host.ok(Code.READFILE, {"container": container, "file": path})


@pytest.mark.parametrize("data", [b"", b"}{ braces", bytes(range(256)) * 1000], ids=len)
def test_what_is_written_to_a_file_is_read_from_it_byte_for_byte(host: RawHost, data: bytes) -> None:
    assert write(host, "/tmp/file", data) == (Code.ACK, b"")
    assert read(host, "/tmp/file") == data
    assert host.run("c1", "cat", "/tmp/file")[1] == data


def test_a_file_that_is_written_is_made_with_the_usual_mode_or_else_keeps_its_own(host: RawHost) -> None:
    host.run("c1", "rm", "-f", "/tmp/new", "/tmp/old")
    host.run("c1", "sh", "-c", "echo much longer than what comes > /tmp/old; chmod 600 /tmp/old")
    for name in ("new", "old"):
        assert write(host, f"/tmp/{name}", b"data") == (Code.ACK, b"")
    assert host.run("c1", "stat", "-c", "%a %s", "/tmp/new", "/tmp/old")[1] == b"644 4\n600 4\n"


def test_the_largest_file_that_an_answer_holds_is_read_and_a_larger_one_is_refused(host: RawHost) -> None:
    host.run("c1", "sh", "-c", f"head -c {MOST} /dev/zero > /tmp/large")
    assert read(host, "/tmp/large") == bytes(MOST)
    host.run("c1", "sh", "-c", "echo >> /tmp/large")
    reason = f"'/tmp/large' in container 'c1' has more than {MOST} bytes"
    assert host.refused(Code.READFILE, {"container": "c1", "file": "/tmp/large"}) == {"reason": reason}


def test_a_file_without_a_size_is_read_to_its_end(host: RawHost) -> None:
    assert read(host, "/proc/sys/kernel/hostname") == b"pod-host\n"


def test_links_lead_to_what_the_container_s_processes_see_there_and_never_out_of_its_root(host: RawHost) -> None:
    host.run(
        "c1", "sh", "-c", "echo inner > /tmp/passwd; cd /tmp; ln -sf /tmp/passwd l1; ln -sf ../../../tmp/passwd l2"
    )
    assert read(host, "/tmp/l1") == read(host, "/tmp/l2") == read(host, "/../../tmp/passwd") == b"inner\n"
    assert write(host, "/tmp/l2", b"changed") == (Code.ACK, b"")
    assert host.run("c1", "cat", "/tmp/passwd")[1] == b"changed"


@pytest.mark.parametrize(
    ("make", "path", "reason"),
    [
        ("true", "/nowhere/file", "No such file or directory"),
        ("ln -sf /proc/1/root /tmp/magic", "/tmp/magic/etc/passwd", "Symbolic link loop"),
        ("busybox mkfifo /tmp/pipe", "/tmp/pipe", "is not a regular file"),
        ("true", "/tmp", "is not a regular file"),
        ("true", "/dev/null", "is not a regular file"),
    ],
)
def test_what_is_not_a_file_is_not_read(host: RawHost, make: str, path: str, reason: str) -> None:
    host.run("c1", "sh", "-c", make)
    assert reason in host.refused(Code.READFILE, {"container": "c1", "file": path})["reason"]


def test_what_is_not_a_file_is_not_written_to(host: RawHost) -> None:
    host.run("c1", "busybox", "mkfifo", "/tmp/pipe")
    for path in ("/tmp/pipe", "/dev/full", "/tmp", "/nowhere/file"):
        code, answer = write(host, path, b"data")
        assert code == Code.ERROR
        assert path in json.loads(answer)["reason"]


def test_files_of_a_container_that_ended_are_there_until_it_is_removed(host: RawHost) -> None:
    assert host.finish(host.start_container("writer", "sh", "-c", "echo result > /result"))[0] == 0
    assert read(host, "/result", "writer") == b"result\n"
    host.ok(Code.REMOVECONTAINER, {"container": "writer"})
    refused = host.refused(Code.READFILE, {"container": "writer", "file": "/result"})
    assert refused == {"reason": "there is no container 'writer'"}


def test_the_agent_is_not_held_up_by_a_file_of_the_kernel_that_has_nothing_to_say(host: RawHost) -> None:
    host.call(Code.READFILE, {"container": "c1", "file": "/proc/kmsg"})
    host.ok(Code.PING)


def test_a_container_comes_with_settings_of_the_kernel(host: RawHost) -> None:
    name = f"ipc{os.getpid()}"
    sysctl = {"kernel.msgmax": "4321", "net/ipv4/ip_default_ttl": "77"}
    stdio = host.start_container(
        name, "cat", "/proc/sys/kernel/msgmax", "/proc/sys/net/ipv4/ip_default_ttl", sysctl=sysctl
    )
    assert host.finish(stdio) == (0, b"4321\n77\n", b"")
    host.ok(Code.REMOVECONTAINER, {"container": name})


@pytest.mark.parametrize(
    ("sysctl", "reason"),
    [
        ({"no.such": "1"}, "sysctl 'no.such': No such file or directory"),
        ({"kernel.msgmax": "many"}, "sysctl 'kernel.msgmax': Invalid argument"),
        ({"kernel.msgmax": 1}, "'sysctl' has a value that is not a string"),
    ],
)
def test_a_setting_that_the_kernel_does_not_take_is_an_error(
    host: RawHost, sysctl: dict[str, Any], reason: str
) -> None:
    process = {"stdio": 5, "stderr": 6, "args": ["true"]}
    container = {"id": "c2", "image": "base", "rootfs": "rootfs", "overlay": True, "process": process, "sysctl": sysctl}
    assert host.refused(Code.NEWCONTAINER, container) == {"reason": reason}
