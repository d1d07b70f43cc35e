"""Commands after HELLO: the pod, its containers, and the reasons of commands that fail."""

import json
import struct
from collections.abc import Callable
from typing import Any

import pytest
from guest_vm import VM, RawHost

from vc_agent_hyperstart.codec import Code

pytestmark = pytest.mark.vm


def test_hello_answers_with_every_feature_of_the_protocol(host: RawHost) -> None:
    answer = host.hello()
    assert answer["version"] == 1
    assert set(answer["features"]) >= {
        *("no-next", "reasons", "exec-ack", "signal", "status128", "drain", "credit", "sync", "pod-stays", "overlay"),
        *("confinement", "stats", "isolation"),
    }


def test_hello_lists_the_processes_that_the_host_has_not_released(host: RawHost) -> None:
    stdio = host.exec("c1", "sh", "-c", "echo out; read line; echo err >&2; exit 3")
    host.send_stream(stdio, b"line\n")
    host.wait_for(lambda: stdio in host.status)
    (found,) = (each for each in host.hello()["processes"] if each["stdio"] == stdio)
    assert found == {
        **{"container": "c1", "init": False, "stdio": stdio, "stderr": stdio + 1, "terminal": False},
        **{"ended": True, "status": 3, "received": 5, "consumed": 5, "closed": False},
        **{"stdout_from": 0, "stderr_from": 0},
    }
    host.finish(stdio)
    host.ok(Code.PING)
    assert stdio not in [each["stdio"] for each in host.hello()["processes"]]


def test_the_guest_reports_once_what_it_did_and_when(host: RawHost) -> None:
    host.ok(Code.TIMES)
    assert host.run("c1", "true") == (0, b"", b"")
    report = json.loads(host.ok(Code.TIMES))
    (phase,) = (each for each in report["phases"] if each["name"] == "start a process")
    assert 0 < phase["begin"] < phase["end"] < report["now"]
    assert json.loads(host.ok(Code.TIMES))["phases"] == []


def test_the_guest_keeps_a_bounded_number_of_phases(host: RawHost) -> None:
    for _ in range(70):
        host.run("c1", "true")
    assert len(json.loads(host.ok(Code.TIMES))["phases"]) == 64


@pytest.mark.parametrize("token", ["ff" * 16, "00", "zz" * 16, ""])
def test_hello_with_another_token_is_refused(host: RawHost, token: str) -> None:
    assert host.refused(Code.HELLO, {"version": 1, "token": token})


def test_the_version_is_that_of_2016(host: RawHost) -> None:
    assert host.ok(Code.GETVERSION) == struct.pack(">I", 4242)


def test_ping_getpod_and_ready_are_acknowledged_without_next(host: RawHost) -> None:
    for code in (Code.PING, Code.GETPOD, Code.READY):
        host.send(code)
        assert host.frame() == (Code.ACK, b"")


@pytest.mark.parametrize("code", [3, 5, 7, 9, 10, 13, 14, 23, 99, 4095, 2**32 - 1])
def test_an_unknown_command_is_refused(host: RawHost, code: int) -> None:
    assert str(code) in host.refused(code)["reason"]
    host.ok(Code.PING)


def test_a_second_pod_is_refused(host: RawHost) -> None:
    pod = {"hostname": "other", "shareDir": "share", "containers": []}
    assert host.refused(Code.STARTPOD, pod) == {"reason": "a pod is started already"}


def test_a_container_id_in_use_is_refused(host: RawHost) -> None:
    process = {"stdio": 11, "stderr": 12, "args": ["true"]}
    container = {"id": "c1", "image": "base", "rootfs": "rootfs", "overlay": True, "process": process}
    assert host.refused(Code.NEWCONTAINER, container) == {"reason": "container 'c1' exists already"}


def test_a_stream_number_in_use_is_refused(host: RawHost) -> None:
    stdio = host.exec("c1", "sleep", "1000")
    for process in ({"stdio": stdio, "stderr": 7}, {"stdio": 7, "stderr": stdio}):
        command = {"container": "c1", "process": {**process, "args": ["true"]}}
        assert host.refused(Code.EXECCMD, command) == {"reason": f"stream {stdio} is in use by another process"}


@pytest.mark.parametrize(
    ("process", "reason", "code"),
    [
        ({"args": ["nosuch"]}, "nosuch: command not found in the container", 127),
        ({"args": ["/bin/nosuch"]}, "/bin/nosuch: No such file or directory", 127),
        ({"args": ["/bin/script"]}, "/bin/script: the interpreter it needs is not in the container", 127),
        ({"args": [""]}, ": command not found in the container", 127),
        ({"args": ["/etc/passwd"]}, "/etc/passwd: permission denied, is it executable?", 126),
        ({"args": ["/etc"]}, "/etc: is a directory", 126),
        ({"args": ["true"], "workdir": "/no"}, "working directory '/no': No such file or directory", 125),
        (
            {"args": ["true"], "user": "bob", "workdir": "/locked"},
            "working directory '/locked': Permission denied",
            125,
        ),
        ({"args": ["true"], "user": "eve"}, "user 'eve' is not in the container's /etc/passwd", 125),
        ({"args": ["true"], "group": "no"}, "group 'no' is not in the container's /etc/group", 125),
        (
            {"args": ["true"], "envs": [{"env": "A=B", "value": ""}]},
            "environment variable 'A=B': Invalid argument",
            125,
        ),
    ],
)
def test_a_command_that_cannot_start_is_an_error_with_reason_and_exit_code(
    host: RawHost, process: dict[str, Any], reason: str, code: int
) -> None:
    stdio, stderr = host.new_streams()
    command = {"container": "c1", "process": {"stdio": stdio, "stderr": stderr, **process}}
    assert host.refused(Code.EXECCMD, command) == {"reason": reason, "exit_code": code}
    assert stdio not in [each["stdio"] for each in host.hello()["processes"]]


@pytest.mark.parametrize(
    ("process", "reason"),
    [
        ({"args": []}, "the process has no 'args'"),
        ({"args": ["true"], "stdio": 0}, "'stdio' and 'stderr' must be between 1 and 2^63-1"),
        ({"args": ["true"], "stdio": 2**63}, "'stdio' and 'stderr' must be between 1 and 2^63-1"),
        ({"args": ["true"], "stderr": 0}, "a process without a terminal needs a 'stderr' stream"),
        ({"args": ["true"], "stderr": 5}, "'stdio' and 'stderr' are the same stream"),
        ({"args": "true"}, "'args' is not a list"),
        ({"args": ["true", 1]}, "'args' is not a list of strings"),
        ({"args": ["true"], "stdio": -1}, "'stdio' is -1, not a whole number"),
        ({"args": ["true"], "terminal": "no"}, "'terminal' is not true or false"),
        ({"args": ["true"], "color": 1}, "the process has an unknown key 'color'"),
        ({"args": ["true"], "envs": [{"value": "x"}]}, "the variable has no 'env'"),
        ({"args": ["nul\0"]}, "the message is not valid JSON: a NUL character in a string"),
    ],
)
def test_a_process_that_makes_no_sense_is_refused(host: RawHost, process: dict[str, Any], reason: str) -> None:
    command = {"container": "c1", "process": {"stdio": 5, "stderr": 6, **process}}
    assert host.refused(Code.EXECCMD, command) == {"reason": reason}


def test_exec_in_an_unknown_container_is_refused(host: RawHost) -> None:
    command = {"container": "c9", "process": {"stdio": 5, "stderr": 6, "args": ["true"]}}
    assert host.refused(Code.EXECCMD, command) == {"reason": "there is no container 'c9'", "exit_code": 125}


def test_a_container_that_cannot_start_leaves_its_name_and_streams_free(host: RawHost) -> None:
    process = {"stdio": 5, "stderr": 6, "args": ["nosuch"]}
    container = {"id": "c2", "image": "base", "rootfs": "rootfs", "overlay": True, "process": process}
    missing = "root 'base/nowhere' in the shared directory: No such file or directory"
    assert host.refused(Code.NEWCONTAINER, {**container, "rootfs": "nowhere"}) == {"reason": missing}
    assert host.refused(Code.NEWCONTAINER, container)["exit_code"] == 127
    host.ok(Code.NEWCONTAINER, {**container, "process": {**process, "args": ["true"]}})
    assert host.finish(5) == (0, b"", b"")
    host.ok(Code.REMOVECONTAINER, {"container": "c2"})


def test_the_root_must_be_below_the_shared_directory(host: RawHost) -> None:
    process = {"stdio": 5, "stderr": 6, "args": ["true"]}
    for image in ("../..", "/", "base/../../etc"):
        container = {"id": "c2", "image": image, "overlay": True, "process": process}
        assert (
            host.refused(Code.NEWCONTAINER, container)["reason"] == f"root '{image}' leads out of the shared directory"
        )


def test_a_container_that_runs_cannot_be_removed_and_one_that_ended_can(host: RawHost) -> None:
    stdio = host.start_container("c2", "sleep", "1000")
    assert host.refused(Code.REMOVECONTAINER, {"container": "c2"}) == {"reason": "container 'c2' still runs"}
    host.ok(Code.KILLCONTAINER, {"container": "c2", "signal": 15})
    host.wait_for(lambda: stdio in host.status)
    assert host.status[stdio] == 128 + 15
    host.ok(Code.KILLCONTAINER, {"container": "c2", "signal": 9})
    command = {"container": "c2", "process": {"stdio": 5, "stderr": 6, "args": ["true"]}}
    assert host.refused(Code.EXECCMD, command) == {"reason": "container 'c2' does not run", "exit_code": 125}
    host.ok(Code.REMOVECONTAINER, {"container": "c2"})
    assert stdio not in [each["stdio"] for each in host.hello()["processes"]]
    gone = {"reason": "there is no container 'c2'"}
    assert host.refused(Code.KILLCONTAINER, {"container": "c2", "signal": 9}) == gone
    assert host.refused(Code.REMOVECONTAINER, {"container": "c2"}) == gone


def test_the_end_of_a_container_is_the_end_of_its_processes(host: RawHost) -> None:
    host.start_container("c2", "sh", "-c", "(sleep 1000; echo never) & read line", process={"envs": []})
    other = host.exec("c2", "sleep", "1000")
    host.ok(Code.KILLCONTAINER, {"container": "c2", "signal": 9})
    assert host.finish(other) == (128 + 9, b"", b"")
    assert host.run("c1", "ps")[1].count(b"sleep") == 1
    host.ok(Code.REMOVECONTAINER, {"container": "c2"})


def test_a_signal_reaches_the_process_of_a_stream(host: RawHost) -> None:
    stdio = host.exec("c1", "sh", "-c", 'trap "echo caught; exit 5" USR1; echo ready; while :; do read line; done')
    host.wait_for(lambda: host.output.get(stdio))
    host.ok(Code.SIGNAL, {"stdio": stdio, "signal": 10})
    host.send_stream(stdio, b"\n")
    assert host.finish(stdio) == (5, b"ready\ncaught\n", b"")
    assert host.refused(Code.SIGNAL, {"stdio": 999, "signal": 10}) == {"reason": "there is no process with stream 999"}


def test_a_process_without_an_id_is_not_found_by_it(host: RawHost) -> None:
    for process in ({}, {"process": ""}):
        assert host.refused(Code.SIGNALPROCESS, {"container": "c1", "signal": 9, **process}) == {
            "reason": "there is no process '' in container 'c1'"
        }


@pytest.mark.parametrize("signal", [1, 9, 15, 34])
def test_death_by_signal_is_128_and_its_number(host: RawHost, signal: int) -> None:
    assert host.run("c1", "sh", "-c", f"kill -{signal} $$")[0] == 128 + signal


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_the_exit_code_is_the_program_s(host: RawHost, code: int) -> None:
    assert host.run("c1", "sh", "-c", f"exit {code}")[0] == code


def test_a_failed_pod_starts_nothing_and_can_be_tried_again(fresh: VM, new_host: Callable[[VM], RawHost]) -> None:
    host = new_host(fresh)
    host.hello()
    usual: dict[str, Any] = {"image": "base", "rootfs": "rootfs", "overlay": True}
    good, bad = ({"id": name, **usual} for name in ("good", "bad"))
    good["process"] = {"stdio": 1, "stderr": 2, "args": ["sleep", "1000"]}
    bad["process"] = {"stdio": 3, "stderr": 4, "args": ["nosuch"]}
    pod = {"hostname": "h", "shareDir": "share", "containers": [good, bad]}
    assert host.refused(Code.STARTPOD, pod)["exit_code"] == 127
    assert host.refused(Code.STARTPOD, {**pod, "shareDir": "nowhere"})["reason"].startswith(
        "mount of the shared directory"
    )
    assert host.refused(Code.NEWCONTAINER, good) == {"reason": "no pod is started"}
    assert host.hello()["processes"] == []
    bad["process"]["args"] = ["sh", "-c", "exit 7"]
    host.ok(Code.STARTPOD, pod)
    assert host.finish(3) == (7, b"", b"")
    assert b"nosuch" not in host.run("good", "ps")[1]


def test_what_came_and_went_leaves_no_files_memory_or_mounts_in_the_guest(host: RawHost) -> None:
    def census() -> tuple[int, int]:
        script = "cut -f1 /proc/sys/fs/file-nr; grep -E '^(AnonPages|Shmem):' /proc/meminfo"
        words = host.run("c1", "sh", "-c", script)[1].split()
        return int(words[0]), int(words[2]) + int(words[5])

    def come_and_go() -> None:
        for _ in range(20):
            assert host.run("c1", "cat", stdin=bytes(100_000))[0] == 0
            host.refused(Code.EXECCMD, {"container": "c1", "process": {"stdio": 5, "stderr": 6, "args": ["nosuch"]}})
        for _ in range(5):
            stdio = host.start_container("c9", "dd", "if=/dev/zero", "of=/filled", "bs=1024k", "count=4")
            assert host.finish(stdio)[0] == 0
            host.ok(Code.REMOVECONTAINER, {"container": "c9"})

    come_and_go()
    files, kib = census()
    for _ in range(5):
        come_and_go()
    files_later, kib_later = census()
    # The kernel counts files roughly, per processor; a descriptor lost per start would be 125 or more.
    assert files_later - files < 60
    assert kib_later - kib < 1024
