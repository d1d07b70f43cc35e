"""podman of a plain user runs containers in virtual machines: what the user types, end to end."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from engine_host import MARKS
from podman_host import IMAGE, TIMEOUT, Podman, podman_of
from terminals import typed

from plain_user import PlainUser

pytestmark = [pytest.mark.needs("podman", "catatonit", "slirp4netns", "newuidmap", "user namespaces"), *MARKS]

#: The first subordinate id of the user.
SUBORDINATE = 1_700_000_000

#: Names the boot of a VM.
BOOT = "/proc/sys/kernel/random/boot_id"

#: What serves a page, counts in its log, and ends with a code of its own.
SCRIPT = """\
trap "exit 9" TERM
mkdir -p /www; echo served >/www/page; httpd -p 80 -h /www
i=0; while true; do i=$((i+1)); echo $i; sleep 0.2; done
"""

POD = """
kind: Pod
metadata: {{name: web}}
spec:
  volumes: [{{name: data, hostPath: {{path: {data}}}}}]
  containers:
  - name: one
    image: {image}
    command: [sh, -c, {script}]
    ports: [{{containerPort: 80, hostPort: 18083}}]
  - name: two
    image: {image}
    command: [sh, -c, "echo kept >/data/file; exec sleep 100000"]
    volumeMounts: [{{name: data, mountPath: /data}}]
"""


@pytest.fixture(scope="module")
def user() -> Iterator[PlainUser]:
    with TemporaryDirectory(prefix="podman-", dir="/var/tmp", ignore_cleanup_errors=True) as place:
        made = PlainUser(Path(place), uid=54322)
        made.give_ids(f"{SUBORDINATE}:65536")
        made.give_device(Path("/dev/net/tun"))
        made.take_guest()
        yield made


@pytest.fixture(scope="module")
def podman(user: PlainUser) -> Iterator[Podman]:
    with podman_of(user) as made:
        yield made


@pytest.fixture(scope="module")
def running(podman: Podman, user: PlainUser) -> str:
    """Return a container of a pod that runs; the pod is the only one, because each VM takes seconds to boot."""
    data = user.home / "data"
    data.mkdir(mode=0o700)
    user.own(data)
    text = POD.format(image=IMAGE, data=data, script=json.dumps(SCRIPT))
    (user.home / "pod.yaml").write_text(text, encoding="utf-8")
    podman("kube", "play", "--network", "slirp4netns", str(user.home / "pod.yaml"))
    return "web-one"


def pods(user: PlainUser) -> list[str]:
    return [one["id"] for one in json.loads(user.run("virtc", "pod", "list", "--json").stdout)]


def test_a_users_pod_of_a_kubernetes_file_is_one_vm_of_the_user(podman: Podman, user: PlainUser, running: str) -> None:
    (pod,) = pods(user)
    assert json.loads(user.run("virtc", "pod", "status", pod, "--json").stdout)["jail"] == "namespaces"
    assert all(path.stat().st_uid == user.uid for path in (user.home / ".local/state/virtcontainers").iterdir())
    (boot,) = {podman("exec", name, "cat", BOOT) for name in (running, "web-two")}
    file = user.home / "data/file"
    assert (file.read_text(encoding="utf-8"), file.stat().st_uid) == ("kept\n", user.uid)
    joined = ["run", "--rm", "-i", "--pod", "web", IMAGE, "sh", "-c", f"cat {BOOT} -; exit 4"]
    done = podman.run(*joined, given="in", check=False)
    assert (done.returncode, done.stdout) == (4, f"{boot}\nin")


def test_commands_run_in_a_container_of_a_user(podman: Podman, running: str) -> None:
    done = podman.run("exec", "-i", running, "sh", "-c", "cat; echo wrong >&2; exit 3", given="in", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "in", "wrong\n")


def test_a_command_of_a_user_has_a_terminal_of_the_callers_size(podman: Podman, running: str) -> None:
    command = podman.command("exec", "-it", running, "sh", "-c", "read x; stty size; echo got $x")
    code, shown = typed(command, podman.environment, b"typed\n", (31, 77))
    assert (code, b"31 77" in shown, b"got typed" in shown) == (0, True, True), shown


def test_a_users_lists_of_processes_show_what_stands_for_the_container(podman: Podman, running: str) -> None:
    assert podman("top", running, "args").splitlines()[1].startswith("vc-shim: sh -c trap")


def test_a_port_that_a_user_publishes_reaches_the_guest(podman: Podman, running: str) -> None:
    fetch = ["busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:18083/page"]
    deadline = time.monotonic() + TIMEOUT
    while (done := subprocess.run(fetch, capture_output=True, encoding="utf-8")).stdout != "served\n":
        assert time.monotonic() < deadline, done.stderr


def test_what_a_container_of_a_user_writes_is_seen_by_podman_and_can_be_copied(podman: Podman, running: str) -> None:
    podman("exec", running, "sh", "-c", "echo kept >/kept; chown 7:8 /kept; ln -s /kept /link")
    assert {"A /kept", "A /link"} <= set(podman("diff", running).splitlines())
    podman("cp", f"{running}:/kept", str(podman.top / "copied"))
    assert (podman.top / "copied").read_text(encoding="utf-8") == "kept\n"
    podman("cp", str(podman.top / "copied"), f"{running}:/given")
    assert podman("exec", running, "sh", "-c", "cat /given; stat -c %u:%g /kept") == "kept\n7:8"


def test_a_users_container_restarts_stops_with_its_own_code_and_its_output_is_logged(
    podman: Podman, running: str
) -> None:
    podman("restart", "--time", "30", running)
    assert podman("exec", running, "cat", "/kept") == "kept"
    podman("stop", "--time", "30", running)
    assert podman("wait", running) == "9"
    assert podman("logs", running).split().count("1") == 2


def test_nothing_is_left_of_a_pod_that_its_user_removes(podman: Podman, user: PlainUser, running: str) -> None:
    podman("kube", "play", "--down", str(user.home / "pod.yaml"))
    assert pods(user) == []
