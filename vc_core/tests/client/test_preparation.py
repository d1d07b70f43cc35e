"""A pod that is begun before its configuration is there: its supervisor starts, and ends if it is not used."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest

import vc_core as vc
from vc_core import aio
from vc_core.client.starting import Starting
from vc_core.host.processes import find_starting_supervisor
from vc_core.store.store import Store
from vc_core.store.templates import Templates

CONFIG = vc.PodConfig(hypervisor_type="mock", agent_type="noop")

#: Prepares a pod as vc-runtime does, and prints the modules that are loaded when the supervisor begins.
_PREPARES = """
import sys
import vc_core as vc
from vc_core.client.starting import Starting

Starting.spawn = lambda self: print(self.pod_id, *sys.modules)
try:
    vc.check_writable_root("/")
except vc.ConfigError:
    pass
with vc.PodPreparation("p1"):
    pass
"""


@pytest.fixture
def template(store: Store) -> None:
    """Let there be a template."""
    cache = Templates(store.roots.cache)
    with cache.making("k1", lambda _: None) as making:
        cache.publish(making, hypervisor="qemu", agent="hyperstart", memory=0, vcpus=0, size_max=1 << 30)


@pytest.mark.usefixtures("template")
def test_a_prepared_pod_runs_with_the_id_that_was_prepared() -> None:
    with vc.PodPreparation("p1") as prepared:
        pod = prepared.run(CONFIG)
    assert pod.id == "p1"
    assert vc.status_pod("p1").state is vc.State.RUNNING
    vc.delete_pod("p1", force=True)


@pytest.mark.usefixtures("template")
def test_a_prepared_pod_without_an_id_gets_a_new_one() -> None:
    async def run() -> str:
        async with aio.PodPreparation() as prepared:
            return (await prepared.run(CONFIG)).id

    pod_id = asyncio.run(run())
    assert [one.id for one in vc.list_pods()] == [pod_id]
    vc.delete_pod(pod_id, force=True)


@pytest.mark.usefixtures("store")
def test_without_a_template_a_prepared_pod_runs_too() -> None:
    with vc.PodPreparation("p1") as prepared:
        assert prepared.run(CONFIG).id == "p1"
    vc.delete_pod("p1", force=True)


@pytest.mark.usefixtures("template")
def test_what_was_prepared_and_is_not_run_ends_with_the_block() -> None:
    with vc.PodPreparation("p1") as prepared:
        starting = prepared._starting
        assert starting is not None
        assert starting._ends is not None
        ready = os.dup(starting._ends[1])
    try:
        assert find_starting_supervisor("p1", ready) == []
        assert vc.list_pods() == []
    finally:
        os.close(ready)


@pytest.mark.usefixtures("template")
def test_a_supervisor_that_cannot_be_started_is_an_error_of_the_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    spawn = Starting.spawn

    def fail(starting: Starting) -> None:
        raise vc.SupervisorError("no")

    monkeypatch.setattr(Starting, "spawn", fail)
    with vc.PodPreparation("p1") as prepared:
        monkeypatch.setattr(Starting, "spawn", spawn)
        assert prepared.run(CONFIG).id == "p1"
    vc.delete_pod("p1", force=True)


@pytest.mark.usefixtures("store")
def test_an_id_that_is_not_valid_is_refused_at_once() -> None:
    with pytest.raises(vc.ConfigError, match="pod id '/' is not valid"), vc.PodPreparation("/"):
        pass


@pytest.mark.usefixtures("template")
def test_the_supervisor_begins_before_the_caller_has_loaded_what_takes_long() -> None:
    done = subprocess.run([sys.executable, "-c", _PREPARES], capture_output=True, encoding="utf-8", check=True)
    pod_id, *modules = done.stdout.split()
    assert pod_id == "p1"
    assert not {"asyncio", "importlib.metadata", "vc_core.client.pods", "vc_core.engine"}.intersection(modules)
