"""A supervisor that is started before its pod is stored: it loads drivers, and ends if the pod is not stored."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import vc_core as vc
from vc_core import trace
from vc_core.client.connect import find_supervisor
from vc_core.client.interpreters import run_blocking
from vc_core.client.starting import Starting
from vc_core.host.processes import find_starting_supervisor
from vc_core.store.records import PodRecord
from vc_core.store.store import Store
from vc_core.store.templates import Templates
from vc_core.supervisor.ready import OK
from vc_core.testing.slowness import scaled
from waiting import PATIENCE, wait_until

CONFIG = vc.PodConfig(id="p1", hypervisor_type="qemu", agent_type="hyperstart")


@pytest.fixture
def traced(store: Store, tmp_path: Path) -> Store:
    """Return a store whose supervisors write a trace."""
    environment = {**store.roots.environment, trace.VARIABLE: str(tmp_path / "trace")}
    (tmp_path / "trace").touch()
    return replace(store, roots=replace(store.roots, environment=environment))


@pytest.fixture
def template(store: Store) -> None:
    """Let there be a template of the hypervisor and the agent."""
    cache = Templates(store.roots.cache)
    with cache.making("k1", lambda _: None) as making:
        cache.publish(making, hypervisor="qemu", agent="hyperstart", memory=0, vcpus=0, size_max=1 << 30)


@pytest.fixture
def starting(traced: Store) -> Iterator[Starting]:
    starting = Starting(traced, "p1")
    yield starting
    starting.close()


def test_without_a_template_of_its_drivers_no_supervisor_is_started_early(store: Store, starting: Starting) -> None:
    cache = Templates(store.roots.cache)
    with cache.making("k1", lambda _: None) as making:
        cache.publish(making, hypervisor="qemu", agent="sshd", memory=0, vcpus=0, size_max=1 << 30)
    starting.spawn_early(CONFIG)
    assert not starting.waits


@pytest.mark.usefixtures("template")
def test_a_supervisor_that_is_started_early_loads_modules_and_then_serves(
    traced: Store, starting: Starting, tmp_path: Path
) -> None:
    starting.spawn_early(CONFIG)
    assert starting.waits
    # A plain user's process has one thread until it enters its namespaces, so it loads no drivers before.
    loaded = b"load modules" if os.geteuid() else b"load drivers"
    wait_until(lambda: loaded in (tmp_path / "trace").read_bytes())
    assert not traced.roots.pod_run_dir("p1").exists(), "it holds something of a pod that is not there"
    record = PodRecord(id="p1", hypervisor="qemu", agent="hyperstart", supervised=True, created_at=0.0)
    with traced.locked("p1"):
        traced.create(CONFIG, record)
    deadline = time.monotonic() + PATIENCE
    assert run_blocking(starting.serve(record, deadline)) == OK
    link = run_blocking(find_supervisor(traced, "p1", deadline))
    assert link is not None
    run_blocking(link.close())
    with traced.locked("p1", scaled(20)):  # the supervisor held it, and ends without a client
        pass


@pytest.mark.usefixtures("template")
def test_a_supervisor_whose_pod_is_not_stored_is_ended(starting: Starting) -> None:
    starting.spawn_early(CONFIG)
    ready = os.dup(starting._ends[1]) if starting._ends else -1
    try:
        wait_until(lambda: find_starting_supervisor("p1", ready))
        starting.close()
        assert find_starting_supervisor("p1", ready) == []
    finally:
        os.close(ready)


@pytest.mark.usefixtures("template")
def test_a_supervisor_whose_starter_is_killed_before_the_pod_is_stored_ends(starting: Starting) -> None:
    starting.spawn_early(CONFIG)
    assert starting._ends is not None
    ready = os.dup(starting._ends[1])
    try:
        starting._close_ends()  # as the kernel does
        wait_until(lambda: find_starting_supervisor("p1", ready) == [])
    finally:
        os.close(ready)


@pytest.mark.usefixtures("template")
def test_a_pod_that_is_refused_leaves_no_supervisor(store: Store, tmp_path: Path) -> None:
    container = vc.ContainerConfig(id="c1", root_fs=str(tmp_path / "missing"), cmd=vc.Cmd(args=["true"]))
    with pytest.raises(vc.ConfigError, match="missing"):
        vc.run_pod(replace(CONFIG, containers=[container]))
    assert store.ids() == []


def test_a_supervisor_that_is_not_needed_is_gone_whatever_it_was_executing(store: Store) -> None:
    for number in range(60):
        starting = Starting(store, f"unused{number}")
        starting.spawn()
        threading.Event().wait(number % 12 / 1000)  # in which it becomes one program after the other
        starting.close()
        assert [one for one in Path("/proc").glob("[0-9]*/cmdline") if is_of(starting.pod_id, one)] == []


def is_of(pod_id: str, arguments: Path) -> bool:
    try:
        return pod_id.encode() in arguments.read_bytes().split(b"\0")
    except OSError:  # it has ended
        return False
