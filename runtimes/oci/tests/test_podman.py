"""podman runs containers in virtual machines: what a user types, end to end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_host import MARKS
from podman_host import IMAGE, TIMEOUT, Podman
from podman_host import podman as made_podman
from terminals import typed

import vc_core

pytestmark = [pytest.mark.needs("podman"), *MARKS]


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    with made_podman(tmp_path_factory.mktemp("podman")) as made:
        yield made


@pytest.fixture(scope="module")
def running(podman: Podman) -> str:
    """Return a container that runs, counts in its log, and writes there what it is given."""
    script = (
        'trap "exit 9" TERM; exec 3<&0; while read x <&3; do echo got $x; done & '
        "i=0; while true; do i=$((i+1)); echo $i; sleep 0.2; done"
    )
    podman("run", "--detach", "--interactive", "--name", "counts", "--network", "none", IMAGE, "sh", "-c", script)
    return "counts"


@pytest.fixture(autouse=True)
def cleaned(podman: Podman) -> Iterator[None]:
    yield
    podman.wait_cleaned()


def pods(podman: Podman) -> list[str]:
    """Return the pods of vc_core that there are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIRTCONTAINERS_ROOT", str(podman.top / "vc"))
        return [one.id for one in vc_core.list_pods()]


def test_a_container_gets_its_input_and_its_output_and_exit_code_come_back(podman: Podman) -> None:
    before = pods(podman)
    script = "cat; echo wrong >&2; exit 7"
    done = podman.run("run", "--rm", "-i", "--network", "none", IMAGE, "sh", "-c", script, given="in", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "in", "wrong\n")
    assert pods(podman) == before


def test_a_program_that_does_not_exist_is_reported_as_by_runc(podman: Podman) -> None:
    done = podman.run("run", "--rm", "--network", "none", IMAGE, "nope", check=False)
    assert (done.returncode, "executable file not found in $PATH" in done.stderr) == (127, True)


def test_the_network_of_the_host_is_refused_in_one_sentence(podman: Podman) -> None:
    done = podman.run("run", "--rm", "--network", "host", IMAGE, "true", check=False)
    assert done.returncode == 126
    assert "a container in a virtual machine cannot have the host's network; give it one of its own" in done.stderr


def test_commands_run_in_a_running_container(podman: Podman, running: str) -> None:
    done = podman.run("exec", "-i", running, "sh", "-c", "cat; echo wrong >&2; exit 3", given="in", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "in", "wrong\n")


def test_a_command_that_does_not_exist_is_reported_as_by_runc(podman: Podman, running: str) -> None:
    assert podman.run("exec", running, "/nope", check=False).returncode == 127


def test_a_command_has_a_terminal_of_the_callers_size(podman: Podman, running: str) -> None:
    command = podman.command("exec", "-it", running, "sh", "-c", "read x; stty size; echo got $x")
    code, shown = typed(command, podman.environment, b"typed\n", (31, 77))
    assert (code, b"31 77" in shown, b"got typed" in shown) == (0, True, True), shown


def test_a_command_of_the_runtime_itself_is_on_the_callers_terminal(podman: Podman, running: str) -> None:
    container = podman("inspect", "--format", "{{.Id}}", running)
    script = "read x; stty size; echo got $x; exit 5"
    command = [str(podman.runtime), "exec", "--tty", container, "sh", "-c", script]
    code, shown = typed(command, os.environ, b"typed\n", (32, 78))
    assert (code, b"32 78" in shown, b"got typed" in shown) == (5, True, True), shown


def test_lists_of_processes_show_what_stands_for_the_container(podman: Podman, running: str) -> None:
    assert podman("top", running, "args").splitlines()[1].startswith("vc-shim: sh -c trap")


def test_the_state_is_what_the_specification_names(podman: Podman, running: str) -> None:
    container = podman("inspect", "--format", "{{.Id}}", running)
    done = subprocess.run([podman.runtime, "state", container], capture_output=True, check=True)
    state = json.loads(done.stdout)
    assert (state["id"], state["status"]) == (container, "running")
    assert str(state["pid"]) == podman("inspect", "--format", "{{.State.Pid}}", running)


def test_a_paused_container_stands_still_until_it_is_resumed(podman: Podman, running: str) -> None:
    podman("pause", running)
    before = podman("logs", running)
    assert podman("inspect", "--format", "{{.State.Status}}", running) == "paused"
    assert podman.run("exec", running, "true", check=False).returncode != 0
    assert podman("logs", running) == before
    podman("unpause", running)
    assert podman("exec", running, "echo", "on") == "on"


def test_the_engines_profile_filters_the_system_calls_of_the_container_and_of_its_commands(
    podman: Podman, running: str
) -> None:
    script = "grep Seccomp: /proc/1/status /proc/self/status; unshare --net true"
    done = podman.run("exec", running, "sh", "-c", script, check=False)
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["2", "2"]
    assert "Operation not permitted" in done.stderr


def test_limits_change_while_a_container_runs(podman: Podman, running: str) -> None:
    container = podman("inspect", "--format", "{{.Id}}", running)
    resources = '{"memory": {"limit": 67108864}, "pids": {"limit": 77}}'
    command = [str(podman.runtime), "update", "--resources", "-", container]
    subprocess.run(command, input=resources, encoding="utf-8", check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIRTCONTAINERS_ROOT", str(podman.top / "vc"))
        (changed,) = vc_core.inspect_pod(container).containers
    assert (changed.memory, changed.pids) == (64, 77)


def test_a_container_goes_on_when_its_supervisor_is_killed_and_ends_with_its_own_code(
    podman: Podman, running: str
) -> None:
    container = podman("inspect", "--format", "{{.Id}}", running)
    found = subprocess.run(["pgrep", "-f", f"vc_core.supervisor {container}"], capture_output=True, check=True)
    (supervisor,) = map(int, found.stdout.split())
    shim = int(podman("inspect", "--format", "{{.State.Pid}}", running))
    os.kill(supervisor, signal.SIGKILL)
    assert podman("exec", running, "echo", "still here") == "still here"
    assert Path(f"/proc/{shim}").exists()
    seen = podman("logs", running)
    deadline = time.monotonic() + TIMEOUT
    while podman("logs", running) == seen:
        assert time.monotonic() < deadline, "its output does not reach the engine any more"
    command = podman.command("attach", "--sig-proxy=false", running)
    with subprocess.Popen(
        command, env=podman.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    ) as attached:
        assert attached.stdin is not None
        assert attached.stdout is not None
        attached.stdin.write("typed\n")
        attached.stdin.flush()
        assert "got typed\n" in attached.stdout, "its input does not reach it any more"
        attached.kill()
    podman("stop", "--time", "30", running)
    assert podman("wait", running) == "9"


def test_a_stopped_container_starts_again(podman: Podman, running: str) -> None:
    podman("start", running)
    assert podman("exec", running, "echo", "again") == "again"
    podman("rm", "--force", "--time", "0", running)
    assert pods(podman) == []
    assert podman.recorded() == []


def test_a_container_on_two_networks_reaches_the_host_by_both(podman: Podman) -> None:
    for name, subnet in (("front", "10.97.1.0/24"), ("back", "10.97.2.0/24")):
        podman("network", "create", "--subnet", subnet, name)
    try:
        script = "for to in 10.97.1.1 10.97.2.1; do ping -c 4 -q $to >/dev/null && echo $to; done; ip route"
        output = podman("run", "--rm", "--network", "front,back", IMAGE, "sh", "-c", script)
        assert output.startswith("10.97.1.1\n10.97.2.1\ndefault via 10.97."), output
    finally:
        podman("network", "rm", "front", "back")


def test_the_network_of_the_engine_reaches_the_guest(podman: Podman) -> None:
    server = "mkdir /www; echo served > /www/page; exec httpd -f -p 80 -h /www"
    podman("run", "--detach", "--name", "web", "--publish", "18080:80", IMAGE, "sh", "-c", server)
    address = podman("inspect", "--format", "{{.NetworkSettings.IPAddress}}", "web")
    assert f"inet {address}/" in podman("exec", "web", "ip", "addr", "show", "eth0")
    fetch = [*podman.prefix, "busybox", "wget", "-q", "-O", "-"]
    deadline = time.monotonic() + TIMEOUT
    while True:
        done = subprocess.run([*fetch, "http://127.0.0.1:18080/page"], capture_output=True, encoding="utf-8")
        if done.stdout == "served\n":
            break
        assert time.monotonic() < deadline, done.stderr
    podman("rm", "--force", "--time", "0", "web")


def test_the_containers_of_a_pod_share_one_vm_although_they_are_mounted_later(podman: Podman, tmp_path: Path) -> None:
    infra = ["--infra-image", IMAGE, "--infra-command", "sleep 100000"]
    podman("pod", "create", "--name", "both", "--network", "none", *infra)
    podman("run", "--detach", "--pod", "both", "--name", "one", IMAGE, "sleep", "100001")
    (made,) = pods(podman)
    volume = f"{tmp_path}:/data"
    boot = "/proc/sys/kernel/random/boot_id"
    script = f"cat {boot}; echo kept >/data/file"
    seen = podman("run", "--rm", "--pod", "both", "--volume", volume, IMAGE, "sh", "-c", script)
    assert seen == podman("exec", "one", "cat", boot)
    assert (tmp_path / "file").read_text(encoding="utf-8") == "kept\n"
    assert pods(podman) == [made]
    podman("pod", "rm", "--force", "--time", "0", "both")
    assert pods(podman) == []
