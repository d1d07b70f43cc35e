"""The dialect of 2017 and 2018, which a kernel parameter selects."""

import json
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from guest_vm import TIMEOUT, VM, RawHost, booted

from vc_agent_hyperstart.codec import Code
from vc_core.driver import GuestImage

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, guest_image: GuestImage) -> Iterator[VM]:
    """A VM that speaks API version 4244, with no pod."""
    with booted(tmp_path_factory.mktemp("vm"), guest_image, ("vc.api=4244",)) as vm:
        yield vm


@pytest.fixture(scope="module")
def later(original: VM) -> Iterator[RawHost]:
    """The host, with a pod whose container c1 sleeps."""
    host = RawHost(original)
    assert host.call(
        Code.STARTPOD, {"hostname": "later", "shareDir": "share", "containers": [container("c1", 11)]}
    ) == (
        Code.ACK,
        b"",
    )
    yield host
    host.close()


def container(name: str, stdio: int, *args: str, **more: Any) -> dict[str, Any]:
    process = {"id": "init", "stdio": stdio, "stderr": stdio + 1, "args": list(args or ("sleep", "1000000")), **more}
    return {"id": name, "image": "base", "rootfs": "rootfs", "overlay": True, "process": process}


def execute(
    host: RawHost, process_id: str, *args: str, container: str = "c1", **more: Any
) -> tuple[tuple[int, bytes], int]:
    """Run a command; return how it is answered and its stream."""
    stdio, stderr = host.new_streams()
    process = {"id": process_id, "stdio": stdio, "stderr": stderr, "args": list(args), **more}
    return host.call(Code.EXECCMD, {"container": container, "process": process}), stdio


def ended(host: RawHost, process_id: str, container: str = "c1") -> int:
    """Wait for the event that a process has ended, and return its status."""
    wanted = {"container": container, "process": process_id, "event": "finished"}
    while True:
        for code, payload in host.events:
            event = json.loads(payload)
            status: int = event.pop("status")
            if (code, event) == (Code.PROCESSASYNCEVENT, wanted):
                host.events.remove((code, payload))
                return status
        host.control.settimeout(TIMEOUT)
        code, payload = host.frame()
        if code != Code.NEXT:
            host.events.append((code, payload))


def run(host: RawHost, process_id: str, *args: str, **more: Any) -> tuple[int, bytes, bytes]:
    """Run a command to its end; return its status and output."""
    answer, stdio = execute(host, process_id, *args, **more)
    assert answer == (Code.ACK, b"")
    status = ended(host, process_id, more.get("container", "c1"))
    host.wait_for(lambda: stdio in host.empty)
    return status, host.output.pop(stdio, b""), host.output.pop(stdio + 1, b"")


def test_the_version_is_the_one_of_the_parameter(later: RawHost) -> None:
    assert later.call(Code.GETVERSION) == (Code.ACK, struct.pack(">I", 4244))


def test_the_end_of_a_process_is_an_event_with_its_ids_and_its_stream_only_ends(later: RawHost) -> None:
    assert run(later, "p1", "sh", "-c", "echo out; echo err >&2; exit 5") == (5, b"out\n", b"err\n")
    assert not later.status


@pytest.mark.parametrize("code", [2, 3, 5, 7, 13, 23, 4097, 4098])
def test_commands_of_before_and_after_are_errors(later: RawHost, code: int) -> None:
    assert later.call(code, {}) == (Code.ERROR, b"")


def test_an_id_in_use_is_an_error(later: RawHost) -> None:
    assert execute(later, "twice", "sleep", "1000000")[0] == (Code.ACK, b"")
    assert execute(later, "twice", "true")[0] == (Code.ERROR, b"")
    assert later.call(Code.NEWCONTAINER, container("c1", 71, "true")) == (Code.ERROR, b"")
    assert later.call(Code.NEWCONTAINER, container("hyperstart", 71, "true")) == (Code.ERROR, b"")
    later.call(Code.SIGNALPROCESS, {"container": "c1", "process": "twice", "signal": 9})
    assert ended(later, "twice") == 0
    assert run(later, "twice", "true")[0] == 0


def test_a_command_in_an_unknown_container_is_an_error(later: RawHost) -> None:
    assert execute(later, "p1", "true", container="c9")[0] == (Code.ERROR, b"")


def test_a_signal_reaches_the_process_and_its_children(later: RawHost) -> None:
    answer, stdio = execute(later, "parent", "sh", "-c", "sleep 27182 & echo up; wait")
    assert answer == (Code.ACK, b"")
    later.wait_for(lambda: later.output.get(stdio) == b"up\n")
    assert later.call(Code.SIGNALPROCESS, {"container": "c1", "process": "parent", "signal": 15}) == (Code.ACK, b"")
    ended(later, "parent")
    assert b"27182" not in run(later, "look", "ps")[1]
    assert later.call(Code.SIGNALPROCESS, {"container": "c1", "process": "parent", "signal": 15})[0] == Code.ERROR


def test_a_terminal_is_resized_by_the_ids_of_its_process(later: RawHost) -> None:
    answer, stdio = execute(later, "tty", "sh", "-c", "echo up; read go; stty size", terminal=True)
    assert answer == (Code.ACK, b"")
    later.wait_for(lambda: b"up" in later.output.get(stdio, b""))
    assert later.call(Code.WINSIZE, {"container": "c1", "process": "tty", "row": 12, "column": 34}) == (Code.ACK, b"")
    later.send_stream(stdio, b"go\n")
    assert ended(later, "tty") == 0
    later.wait_for(lambda: stdio in later.empty)
    assert b"12 34" in later.output[stdio]
    assert later.call(Code.WINSIZE, {"container": "c1", "process": "tty", "row": 1, "column": 2})[0] == Code.ERROR


def test_commands_run_in_the_vm_itself(later: RawHost) -> None:
    status, output, _ = run(
        later, "look", "sh", "-c", "ls /run/vc; stty size < /dev/tty", container="hyperstart", terminal=True
    )
    assert status == 0
    assert b"root" in output


@pytest.mark.parametrize("process", [{"user": "nobody-here"}, {"workdir": "/nowhere"}, {"group": "nobody-here"}])
def test_a_process_that_cannot_be_set_up_is_an_error(later: RawHost, process: dict[str, Any]) -> None:
    assert execute(later, "p1", "true", **process)[0] == (Code.ERROR, b"")
    assert run(later, "p1", "true")[0] == 0


def test_a_missing_program_is_acknowledged_and_ends_with_127(later: RawHost) -> None:
    status, _, errors = run(later, "p1", "nosuch")
    assert (status, errors) == (127, b"nosuch: command not found in the container\n")


def test_users_need_not_be_listed_and_groups_need_no_user(later: RawHost) -> None:
    assert run(later, "p1", "id", "-u", user="4711")[1] == b"4711\n"
    assert run(later, "p1", "id", "-G", group="50")[1] == b"50\n"


def test_an_exec_inherits_nothing_of_its_container(later: RawHost) -> None:
    envs = [{"env": "MARK", "value": "1"}]
    assert later.call(Code.NEWCONTAINER, container("env", 31, envs=envs, workdir="/tmp")) == (Code.ACK, b"")
    status, output, _ = run(later, "p1", "sh", "-c", "pwd; env", container="env")
    assert status == 0
    assert output.startswith(b"/\n")
    assert b"MARK" not in output
    later.call(Code.KILLCONTAINER, {"container": "env", "signal": 9})
    ended(later, "init", "env")


def test_a_read_only_container_cannot_be_written(later: RawHost) -> None:
    spec = {**container("fixed", 41, "touch", "/file"), "readOnly": True}
    assert later.call(Code.NEWCONTAINER, spec) == (Code.ACK, b"")
    assert ended(later, "init", "fixed") == 1


def test_a_container_that_ended_is_gone_and_the_pod_stays(later: RawHost) -> None:
    assert later.call(Code.NEWCONTAINER, container("brief", 51, "true")) == (Code.ACK, b"")
    assert ended(later, "init", "brief") == 0
    assert later.call(Code.REMOVECONTAINER, {"container": "brief"}) == (Code.ERROR, b"")
    assert later.call(Code.KILLCONTAINER, {"container": "brief", "signal": 9}) == (Code.ERROR, b"no such container\0")
    assert later.call(Code.NEWCONTAINER, container("brief", 61, "true")) == (Code.ACK, b"")
    assert ended(later, "init", "brief") == 0
    assert Code.PODFINISHED not in [code for code, _ in later.events]


def test_the_pod_outlives_its_last_container_and_after_hello_all_is_as_after_any_hello(
    tmp_path_factory: pytest.TempPathFactory, guest_image: GuestImage, new_host: Callable[[VM], RawHost]
) -> None:
    with booted(tmp_path_factory.mktemp("vm"), guest_image, ("vc.api=4243",)) as vm:
        host = new_host(vm)
        assert host.call(Code.GETVERSION) == (Code.ACK, struct.pack(">I", 4243))
        host.ok(Code.STARTPOD, {"hostname": "later", "shareDir": "share", "containers": [container("c1", 11, "true")]})
        assert ended(host, "init") == 0
        host.ok(Code.NEWCONTAINER, container("c1", 21))
        host.hello()
        assert host.run("c1", "sh", "-c", "kill -9 $$")[0] == 128 + 9
        assert host.refused(Code.EXECCMD, {"container": "c9", "process": {"stdio": 5, "stderr": 6, "args": ["true"]}})
        host.ok(Code.GETPOD)
        host.ok(Code.KILLCONTAINER, {"container": "c1", "signal": 9})
        host.wait_for(lambda: 21 in host.status)
        host.ok(Code.REMOVECONTAINER, {"container": "c1"})


def test_a_version_that_there_never_was_is_refused_at_boot(
    tmp_path_factory: pytest.TempPathFactory, guest_image: GuestImage
) -> None:
    directory = tmp_path_factory.mktemp("vm")
    with (
        pytest.raises((AssertionError, ConnectionError)),
        booted(directory, guest_image, ("vc.api=1", "console=ttyS0")),
    ):
        pass
    assert "vc.api=1 is not between 4242 and 4244" in (directory / "console").read_text(encoding="utf-8")
