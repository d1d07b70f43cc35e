"""The spawner's words, and that real namespaces are entered with them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from needs import require
from vc_core.driver import SpawnTarget
from vc_core.errors import ConfigError
from vc_core.testing import Plugins

DRIVER = Plugins().spawner("nsenter")


def wrap(argv: list[str], pid: int = 4711, **options: object) -> list[str]:
    return DRIVER.create(DRIVER.config(options)).wrap(argv, SpawnTarget("c1", pid))


def test_a_command_is_wrapped_as_in_v0_1_0_but_as_a_list() -> None:
    words = "nsenter --target 4711 --mount --uts --ipc --net --pid -- echo hello"
    assert wrap(["echo", "hello"]) == words.split()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"user_namespace": True}, ["--user"]),
        ({"cgroup": "true"}, ["--cgroup"]),
        ({"root": "target", "work_dir": "/srv/a b"}, ["--root", "--wd=/srv/a b"]),
        ({"user": "1000", "group": 0}, ["--setuid=1000", "--setgid=0"]),
    ],
)
def test_an_option_adds_its_word(options: dict[str, Any], words: list[str]) -> None:
    assert wrap(["x"], **options)[8:-2] == words


def test_another_nsenter_can_be_named() -> None:
    assert wrap(["x"], program="/opt/nsenter")[0] == "/opt/nsenter"


@pytest.mark.parametrize("pid", [1, 0, -1, True])
def test_a_pid_that_is_no_container_s_is_refused(pid: int) -> None:
    with pytest.raises(ConfigError, match="container 'c1'"):
        wrap(["x"], pid=pid)


@pytest.mark.parametrize(
    "options",
    [
        {"root": "srv"},
        {"work_dir": 1},
        {"user": -1},
        {"group": "wheel"},
        {"cgroup": "maybe"},
        {"program": ""},
        {"x": 1},
    ],
)
def test_a_bad_option_is_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        wrap(["x"], **options)


@pytest.fixture(scope="module")
def pid() -> Iterator[int]:
    """Return a process in namespaces of its own, with another host name."""
    require("nsenter", "mount namespaces")
    script = "echo inside >/proc/sys/kernel/hostname; mount -t proc proc /proc; echo ready; exec sleep 1000"
    command = ["unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="utf-8") as children:  # noqa: PTH123 - a line of /proc
            yield int(children.read())
        process.kill()


@pytest.mark.root
def test_all_five_namespaces_are_those_of_the_target(pid: int) -> None:
    kinds = ("mnt", "uts", "ipc", "net", "pid")
    inside = subprocess.run(
        wrap(["readlink", *(f"/proc/self/ns/{kind}" for kind in kinds)], pid), capture_output=True, check=True
    )
    outside = subprocess.run(
        ["readlink", *(f"/proc/{pid}/ns/{kind}" for kind in kinds)], capture_output=True, check=True
    )
    assert inside.stdout == outside.stdout
    assert subprocess.run(wrap(["hostname"], pid), capture_output=True, check=True).stdout == b"inside\n"


@pytest.mark.root
def test_no_descriptor_comes_along(pid: int) -> None:
    script = "ls /proc/self/fd; readlink /proc/self/cwd"
    shown = subprocess.run(wrap(["sh", "-c", script], pid), stdin=subprocess.DEVNULL, capture_output=True, check=True)
    # ls has opened the directory as 3
    assert shown.stdout.split() == [b"0", b"1", b"2", b"3", b"/"]


@pytest.mark.promise("T18")
@pytest.mark.root
@settings(max_examples=25, deadline=None)
@given(argv=st.lists(st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"])), max_size=4))
def test_arguments_arrive_byte_for_byte(pid: int, argv: list[str]) -> None:
    shown = subprocess.run(wrap(["printf", "%s\\0", *argv], pid), capture_output=True, check=True).stdout
    assert shown == b"".join(arg.encode() + b"\0" for arg in argv or [""])
