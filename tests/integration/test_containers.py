"""Containers of a running pod, one by one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import vc_core as vc
from vc_core.testing.slowness import within
from waiting import PATIENCE

from .conftest import container, pod_config, supervisors, virtc, virtc_path

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.hypervisors("qemu", "uml")]


Added = Callable[..., vc.Container]


@pytest.fixture
def added(pod: vc.Pod, bundle: Path) -> Iterator[Added]:
    """Return a function that adds a container to the shared pod; all are deleted afterwards."""
    made: list[vc.Container] = []

    def add(container_id: str, *args: str) -> vc.Container:
        made.append(pod.create_container(container(bundle, *args, container_id=container_id)))
        return made[-1]

    yield add
    for one in made:
        one.delete(force=True)


def test_a_container_added_to_a_running_pod_starts_stops_and_starts_again(added: Added) -> None:
    one = added("web", "sh", "-c", "echo up; exec sleep 1000")
    assert one.status().state == "ready"
    one.start()
    assert one.enter(vc.Cmd(args=["touch", "/tmp/mark"])).exit_code == 0
    one.stop()
    status = one.status()
    assert (status.state, status.exit_code) == ("stopped", 128 + 15)
    one.start()
    assert one.enter(vc.Cmd(args=["ls", "/tmp"])).stdout == b"", "a restarted container has a fresh writable layer"
    assert one.status().exit_code is None
    one.stop()
    assert Path(one.status().log_path).read_text(encoding="utf-8") == "up\nup\n"


def test_a_deleted_container_is_gone_and_its_id_free(added: Added, pod: vc.Pod, bundle: Path) -> None:
    one = added("brief", "sleep", "1000")
    one.start()
    with pytest.raises(vc.StateError, match="without force"):
        one.delete()
    one.delete(force=True)
    assert [each.id for each in pod.status().containers] == ["c1"]
    again = pod.create_container(container(bundle, "true", container_id="brief"))
    again.start()
    assert again.wait() == 0


def test_a_deleted_container_leaves_the_root_to_another_one_that_has_it(
    added: Added, pod: vc.Pod, tmp_path: Path, bundle: Path
) -> None:
    root = shutil.copytree(bundle, tmp_path / "bundle", symlinks=True)
    first, second = (
        pod.create_container(vc.ContainerConfig(id=name, root_fs=str(root), cmd=vc.Cmd(args=["sleep", "1000"])))
        for name in ("first", "second")
    )
    for one in (first, second):
        one.start()
        assert one.enter(vc.Cmd(args=["echo", "here"])).stdout == b"here\n"
    first.stop(force=True)
    first.delete()
    assert second.enter(vc.Cmd(args=["sh", "-c", "ls /bin | grep -x sh"], user="1000")).stdout == b"sh\n"
    second.stop(force=True)
    second.delete()


def test_a_container_that_ignores_to_be_stopped_is_killed_at_the_timeout(added: Added) -> None:
    one = added("stubborn", "sh", "-c", "trap '' TERM; touch /tmp/deaf; while :; do sleep 1; done")
    one.start()
    one.enter(vc.Cmd(args=["sh", "-c", "until [ -e /tmp/deaf ]; do usleep 10000; done"]))
    with within(6):
        one.stop(timeout=1)
    assert one.status().exit_code == 128 + 9


def test_every_wait_returns_the_exit_code(added: Added) -> None:
    one = added("job", "sh", "-c", "read line; exit 9")
    command = [virtc_path(), "container", "start", "-i", "shared", "job"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as client:
        while one.status().state != "running":
            threading.Event().wait(0.02)
        codes: list[int] = []
        waiters = [threading.Thread(target=lambda: codes.append(one.wait())) for _ in range(3)]
        for waiter in waiters:
            waiter.start()
        client.communicate(b"go\n", timeout=PATIENCE)
        for waiter in waiters:
            waiter.join(PATIENCE)
    assert codes == [9, 9, 9]
    assert client.returncode == 9
    assert one.wait() == 9


def test_a_wait_survives_the_loss_of_the_supervisor(bundle: Path) -> None:
    script = "until [ -e /tmp/go ]; do usleep 10000; done; exit 6"
    codes: list[int] = []
    with vc.run_pod(pod_config(id="patient", containers=[container(bundle, "sh", "-c", script)])) as pod:
        one = pod.container("c1")
        waiter = threading.Thread(target=lambda: codes.append(one.wait()))
        waiter.start()
        one.enter(vc.Cmd(args=["true"]))
        os.kill(supervisors("patient")[0], signal.SIGKILL)
        one.enter(vc.Cmd(args=["touch", "/tmp/go"]))
        waiter.join(PATIENCE)
    assert codes == [6]


def test_waiting_for_a_container_that_ends_with_its_pod_is_an_error_with_that_reason(bundle: Path) -> None:
    failures: list[str] = []

    def wait() -> None:
        try:
            stopped.container("c1").wait()
        except vc.StateError as error:
            failures.append(str(error))

    with vc.run_pod(pod_config(containers=[container(bundle)])) as stopped:
        waiter = threading.Thread(target=wait)
        waiter.start()
        stopped.enter_container("c1", vc.Cmd(args=["true"]))
        stopped.stop(force=True)
        waiter.join(PATIENCE)
    assert len(failures) == 1
    assert "ended without an exit code" in failures[0]


def test_a_container_that_cannot_start_is_an_error_with_the_reason_and_stays_ready(added: Added) -> None:
    one = added("broken", "no-such-command")
    with pytest.raises(vc.CommandError, match="no-such-command"):
        one.start()
    assert one.status().state == "ready"


def test_a_container_starts_while_the_output_of_another_floods(added: Added) -> None:
    flood = added("flood", "sh", "-c", "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done")
    flood.start()
    with within(10):
        calm = added("calm", "sh", "-c", "echo calm; exec sleep 1000")
        calm.start()
        assert calm.enter(vc.Cmd(args=["echo", "x"])).stdout == b"x\n"
    flood.stop(force=True)


def test_the_command_does_the_same(pod: vc.Pod, bundle: Path) -> None:
    outputs = [
        virtc("container", *words).stdout
        for words in (
            ("create", "shared", "--id", "cli", "--rootfs", str(bundle), "--", "sleep", "1000"),
            ("start", "shared", "cli"),
            ("status", "shared", "cli"),
            ("enter", "shared", "cli", "--", "echo", "in"),
            ("stop", "shared", "cli"),
            ("wait", "shared", "cli"),
            ("delete", "shared", "cli"),
        )
    ]
    assert outputs[:2] == [b"Created container cli\n", b"Container cli started\n"]
    assert outputs[2].startswith(b"CONTAINER ID  STATE\ncli           running\n")
    assert outputs[3:] == [b"in\n", b"Container cli stopped\n", b"143\n", b"Container cli deleted\n"]


@pytest.mark.parametrize("wanted", ["hup", 10, "SIGUSR2"])
def test_a_signal_reaches_a_container_by_name_or_number(added: Added, wanted: int | str) -> None:
    one = added(
        "trapped",
        "sh",
        "-c",
        'for s in HUP USR1 USR2; do trap "echo $s; exit 3" $s; done; echo up; while :; do usleep 9000; done',
    )
    one.start()
    log = Path(one.status().log_path)
    end = time.monotonic() + PATIENCE
    while log.read_text(encoding="utf-8") != "up\n":
        assert time.monotonic() < end
    one.kill(wanted)
    assert one.wait() == 3
    assert log.read_text(encoding="utf-8").split()[1] in str({"hup": "HUP", 10: "USR1"}.get(wanted, wanted))
