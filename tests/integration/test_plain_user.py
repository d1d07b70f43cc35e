"""Pods of a plain user of the host: no sudo, no rights, and files, network and take-over as root's pods have them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from plain_user import PlainUser
from vc_agent_sshd.testing.openssh import reserved_port
from vc_core.testing.slowness import scaled
from waiting import PATIENCE

pytestmark = [
    pytest.mark.vm,
    pytest.mark.root,  # to become another user
    pytest.mark.hypervisors("qemu"),
    pytest.mark.needs("user namespaces", "mount namespaces"),
]

#: Ids that the user may use beside the own, in the one test that gives him some.
FIRST, COUNT = 1_700_000_000, 65_536


def make_user(place: Path, bundle: Path) -> PlainUser:
    """Return a user who has the bundle, a file that only he can read, and a directory to share."""
    user = PlainUser(place)
    user.take_guest()
    shutil.copytree(bundle, user.home / "bundle", symlinks=True)
    (user.home / "bundle/rootfs/secret").write_text("of the user\n", encoding="utf-8")
    (user.home / "bundle/rootfs/secret").chmod(0o600)
    (user.home / "data").mkdir(mode=0o700)
    (user.home / "data/before").write_text("from the host\n", encoding="utf-8")
    user.own(user.home)
    return user


@pytest.fixture(scope="module")
def user(bundle: Path, root: Path) -> Iterator[PlainUser]:
    with TemporaryDirectory(prefix="plain-", dir="/var/tmp") as place:
        yield make_user(Path(place), bundle)


@pytest.fixture(scope="module")
def port(user: PlainUser) -> Iterator[int]:
    """Run a pod "own" whose container sleeps and serves a page; return the port of the host where it does."""
    script = "mkdir /tmp/www; echo page >/tmp/www/index.html; httpd -p 80 -h /tmp/www; exec sleep 100000"
    made = ["--id", "own", "--bundle", "bundle", "--mount", "data:/data:rw"]
    with reserved_port() as number:
        user.run("virtc", "pod", "run", *made, "--publish", f"{number}:80", "--", "sh", "-c", script)
        yield number
        user.run("virtc", "pod", "stop", "own")
    assert json.loads(user.run("virtc", "pod", "status", "own", "--json").stdout)["state"] == "stopped"
    user.run("virtc", "pod", "delete", "own")
    end = time.monotonic() + PATIENCE
    while user.processes() and time.monotonic() < end:
        pass
    assert not user.processes()
    assert not list((user.runtime / "virtcontainers/pods").iterdir())


def inside(user: PlainUser, script: str) -> str:
    return user.run("virtc", "container", "enter", "own", "1", "--", "sh", "-c", script).stdout


@pytest.mark.usefixtures("port")
def test_status_says_that_the_jail_has_all_but_ids_of_its_own(user: PlainUser) -> None:
    pod = json.loads(user.run("virtc", "pod", "status", "own", "--json").stdout)
    assert (pod["state"], pod["jail"]) == ("running", "namespaces")
    assert pod["jail_missing"] == [f"QEMU has the ids of user {user.uid}, because only root can give it ids of its own"]


@pytest.mark.usefixtures("port")
def test_the_files_of_the_user_belong_to_root_in_the_guest_and_new_ones_to_the_user_on_the_host(
    user: PlainUser,
) -> None:
    data = user.home / "data"
    assert inside(user, "cat /secret; stat -c %u:%g /secret /data/before") == "of the user\n0:0\n0:0\n"
    assert inside(user, "cat /data/before; echo new >/data/new; mkdir /data/dir; rm /data/before") == "from the host\n"
    assert {(one.name, one.stat().st_uid, one.stat().st_gid) for one in data.iterdir()} == {
        ("new", user.uid, user.uid),
        ("dir", user.uid, user.uid),
    }


@pytest.mark.usefixtures("port")
def test_a_command_has_its_exit_code_and_its_output_goes_to_a_pipe_that_another_user_made(user: PlainUser) -> None:
    script = ["sh", "-c", "echo out; echo error >&2; exit 7"]
    done = user.run("virtc", "container", "enter", "own", "1", "--", *script, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "error\n")


def test_a_published_port_of_the_users_pod_answers(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), scaled(10)) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b""
        while chunk := connection.recv(4096):
            answer += chunk
    assert answer.endswith(b"page\n")


@pytest.mark.usefixtures("port")
def test_a_new_supervisor_of_the_user_takes_over_from_one_that_was_killed(user: PlainUser) -> None:
    def supervisors() -> list[int]:
        words = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in user.processes()}
        return [pid for pid, argv in words.items() if argv[2:5] == [b"-m", b"vc_core.supervisor", b"own"]]

    before = user.processes()
    [old] = supervisors()
    inside(user, "echo kept >/data/kept")
    os.kill(old, signal.SIGKILL)
    assert inside(user, "cat /data/kept; echo more >>/data/kept") == "kept\n"
    [new] = supervisors()
    assert user.processes() == before - {old} | {new}, "the VM must be the same"
    assert (user.home / "data/kept").read_text(encoding="utf-8") == "kept\nmore\n"


@pytest.mark.usefixtures("port")
def test_no_other_user_can_enter_a_directory_of_the_users_pods(user: PlainUser) -> None:
    for top in (user.runtime / "virtcontainers", user.home / ".local/state/virtcontainers"):
        assert (top.stat().st_uid, top.stat().st_mode & 0o777) == (user.uid, 0o700), top


def test_a_check_of_the_host_tries_what_the_pods_of_the_user_have(user: PlainUser) -> None:
    report = json.loads(user.run("virtc", "check", "--json").stdout)
    found = {one["name"]: one["found"] for one in report["checks"]}
    assert found["jail"] == "namespaces"
    assert found["mount namespaces"] == "can be made"
    assert not {"user ids", "idmapped mounts"} & set(found)  # only root has them


def test_a_directory_with_a_mount_below_it_is_refused_with_the_reason(user: PlainUser) -> None:
    script = """
from pathlib import Path
from vc_core.host import namespaces, share
from vc_core.host.sources import Source
namespaces.enter(None)
shared = Path("shared").absolute()
share.make_shared_dir(shared)
share.bind_into(shared, "place", Source("the test", "/"))
"""
    done = user.run(sys.executable, "-c", script, check=False)
    assert "'/' cannot be shared with the guest: something is mounted below it, which only root" in done.stderr


@pytest.mark.needs("newuidmap")
def test_files_of_subordinate_ids_of_the_user_have_ids_of_their_own_in_the_guest(user: PlainUser) -> None:
    user.give_ids(f"{FIRST}:{COUNT}")
    theirs = user.home / "theirs"
    theirs.mkdir()
    theirs.joinpath("file").write_text("theirs\n", encoding="utf-8")
    theirs.joinpath("file").chmod(0o600)
    for path, owner, group in ((theirs, user.uid, user.uid), (theirs / "file", FIRST + 32, FIRST + 4)):
        os.chown(path, owner, group)
    arguments = ["-i", "--rm", "--bundle", "bundle", "--mount", "theirs:/theirs"]
    script = "stat -c %u:%g /theirs /theirs/file; cat /theirs/file"
    done = user.run("virtc", "pod", "run", *arguments, "--", "sh", "-c", script)
    assert done.stdout == "0:0\n33:5\ntheirs\n"


def test_a_pod_of_the_user_starts_from_a_template_that_was_made_behind_the_first(user: PlainUser) -> None:
    made = ["--memory", "216", "--bundle", "bundle", "--", "sleep", "100000"]

    def template_of(pod: str) -> str:
        user.run("env", "VIRTCONTAINERS_TEMPLATES=", "virtc", "pod", "run", "--quiet", "--id", pod, *made)
        return str(json.loads(user.run("virtc", "pod", "status", pod, "--json").stdout)["template"])

    assert template_of("boots") == ""
    end = time.monotonic() + PATIENCE
    while not (found := user.run("virtc", "template", "list", "--quiet").stdout.split()) and time.monotonic() < end:
        time.sleep(0.2)
    assert [template_of("cloned")] == found
    done = user.run("virtc", "container", "enter", "cloned", "1", "--", "sh", "-c", "hostname; cat /secret")
    assert done.stdout == "cloned\nof the user\n"
    for pod in ("boots", "cloned"):
        user.run("virtc", "pod", "stop", pod)
        user.run("virtc", "pod", "delete", pod)
    user.run("virtc", "template", "remove", "--all")


def test_a_configuration_file_of_root_s_holds_for_the_user_s_pods_and_templates(user: PlainUser) -> None:
    """In the user namespace of the pod's supervisor root has no id, and the file seems to be another user's."""
    file = user.home.parent / "config.toml"
    file.write_text("[templates]\nsize = 1\n", encoding="utf-8")
    file.chmod(0o644)
    environment = {**user.environment, "VIRTCONTAINERS_CONFIG": str(file)}
    done = user.run(
        "virtc", "pod", "run", "-i", "--rm", "--bundle", "bundle", "--", "echo", "ran", environment=environment
    )
    assert done.stdout == "ran\n"
    made = [
        user.run("virtc", "template", "create", "--quiet", "--memory", memory, environment=environment).stdout.strip()
        for memory in ("216", "217")
    ]
    assert user.run("virtc", "template", "list", "--quiet").stdout.split() == made[1:]
    user.run("virtc", "template", "remove", "--all")
