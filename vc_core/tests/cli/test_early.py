"""The supervisor of ``virtc pod run`` is started before the command's modules are loaded, where that is of use."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import vc_core as vc
from vc_core import trace
from vc_core.cli import early
from vc_core.client import pods
from vc_core.client.interpreters import run_blocking
from vc_core.client.starting import Starting
from vc_core.host.processes import find_starting_supervisor
from vc_core.store.roots import ROOT_VARIABLE
from vc_core.store.store import Store
from vc_core.store.templates import Templates
from waiting import PATIENCE

RUN = ("pod", "run", "-i", "--rm", "--bundle", "b", "--", "ls", "--id")


@pytest.fixture
def template(store: Store) -> None:
    """Let there be a template."""
    cache = Templates(store.roots.cache)
    with cache.making("k1", lambda _: None) as making:
        cache.publish(making, hypervisor="qemu", agent="hyperstart", memory=0, vcpus=0, size_max=1 << 30)


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Return the ids of the pods whose supervisors are started, which are none here."""
    spawned: list[str] = []
    monkeypatch.setattr(Starting, "spawn", lambda self: spawned.append(self.pod_id))
    yield spawned
    early.take()


@pytest.mark.usefixtures("template")
def test_a_run_of_a_new_pod_starts_a_supervisor_which_is_taken_once(spawned: list[str]) -> None:
    early.begin(RUN)
    starting = early.take()
    assert starting is not None
    assert spawned == [starting.pod_id]
    assert early.take() is None


@pytest.mark.parametrize(
    "arguments",
    [
        ("pod", "list"),
        ("pod", "run", "--id", "p1", *RUN[2:]),
        ("pod", "run", "--id=p1", *RUN[2:]),
        ("pod", "run", "--help"),
        ("pod", "run", "--timeline", *RUN[2:]),
        (),
    ],
)
@pytest.mark.usefixtures("template")
def test_other_commands_start_none(arguments: tuple[str, ...], spawned: list[str]) -> None:
    early.begin(arguments)
    assert spawned == []


def test_without_a_template_none_is_started(store: Store, spawned: list[str]) -> None:
    early.begin(RUN)
    assert spawned == []
    assert not (store.roots.cache / "templates").exists()


@pytest.mark.usefixtures("template")
def test_a_supervisor_that_cannot_be_started_is_the_commands_business(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    early.begin(RUN)
    starting = early.take()
    assert starting is not None
    assert not starting.waits


def test_a_supervisor_for_another_pod_is_ended(store: Store) -> None:
    starting = Starting(store, "p2")
    starting.spawn()
    assert starting._ends is not None
    ready = os.dup(starting._ends[1])
    try:
        config = vc.PodConfig(id="p1", hypervisor_type="mock", agent_type="noop")
        assert run_blocking(pods.run_pod(config, supervisor=starting)) == ("p1", None)
        assert find_starting_supervisor("p2", ready) == []
    finally:
        os.close(ready)
        vc.delete_pod("p1", force=True)


@pytest.mark.usefixtures("template")
def test_a_supervisor_of_a_command_that_fails_ends_with_it(store: Store, tmp_path: Path) -> None:
    written = tmp_path / "trace"
    written.touch()
    virtc = str(Path(sys.executable).with_name("virtc"))
    done = subprocess.run(
        [virtc, "pod", "run", "--no-such-option"],
        env={**os.environ, trace.VARIABLE: str(written)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    end = time.monotonic() + PATIENCE
    while b"load modules" not in written.read_bytes() or any(map(of_this_test, Path("/proc").glob("[0-9]*"))):
        assert time.monotonic() < end
        time.sleep(0.02)


def of_this_test(process: Path) -> bool:
    """Return whether a process is a supervisor that uses the state root of this test."""
    try:
        words, environment = ((process / name).read_bytes().split(b"\0") for name in ("cmdline", "environ"))
    except OSError:
        return False
    root = f"{ROOT_VARIABLE}={os.environ[ROOT_VARIABLE]}".encode()
    return b"vc_core.supervisor" in words and root in environment
