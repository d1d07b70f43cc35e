"""Pods that end with their container, and forced deletes: the supervisor itself stops and deletes the pod."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import vc_core as vc

from .conftest import container, pod_config, supervisors, wait_ended

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.hypervisors("qemu")]

#: Deletes a pod by force, and prints which modules it has loaded.
_DELETES = "import sys, vc_core; vc_core.delete_pod('deleted', force=True); print(*sys.modules)"


def opened(pod_id: str, bundle: Path, *args: str) -> vc.Process:
    """Start a pod that is discarded with its container."""
    config = pod_config(id=pod_id, containers=[container(bundle, *args)])
    with vc.PodPreparation(pod_id) as prepared:
        return prepared.open(config, stderr=None, discard=True)


def test_a_pod_that_is_discarded_is_deleted_behind_the_exit_code_of_its_container(bundle: Path) -> None:
    with opened("brief", bundle, "sh", "-c", "echo out; read line; exit 7") as process:
        (supervisor,) = supervisors("brief")
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"\n")
        assert (process.stdout.read(), process.wait()) == (b"out\n", 7)
    assert wait_ended(supervisor)
    assert "brief" not in [one.id for one in vc.list_pods()]


def test_a_pod_that_is_to_be_discarded_stays_while_another_container_runs(bundle: Path) -> None:
    with opened("long", bundle, "cat") as process:
        vc.create_container("long", container(bundle, container_id="c2"))
        vc.start_container("long", "c2")
        process.kill()
        assert process.wait() == 137
    assert vc.status_container("long", "c2").state is vc.State.RUNNING
    vc.delete_pod("long", force=True)


def test_a_pod_whose_process_was_closed_before_is_not_discarded(bundle: Path) -> None:
    opened("closed", bundle, "sleep", "100000").close()
    vc.kill_container("closed", "c1")
    assert vc.wait_container("closed", "c1") == 137
    assert vc.status_pod("closed").state is vc.State.RUNNING
    vc.delete_pod("closed", force=True)


def test_a_container_that_cannot_start_leaves_no_pod(bundle: Path) -> None:
    with pytest.raises(vc.CommandError, match="nosuch"):
        opened("failed", bundle, "nosuch")
    assert "failed" not in [one.id for one in vc.list_pods()]


def test_a_pod_that_is_opened_has_one_container(bundle: Path) -> None:
    with (
        pytest.raises(vc.ConfigError, match="a pod whose container is opened has one, not 0"),
        vc.PodPreparation() as prepared,
    ):
        prepared.open(pod_config())


def test_a_forced_delete_of_a_pod_that_runs_loads_no_plug_ins(bundle: Path) -> None:
    vc.run_pod(pod_config(id="deleted", containers=[container(bundle)]))
    done = subprocess.run([sys.executable, "-c", _DELETES], capture_output=True, encoding="utf-8", check=True)
    assert not {"vc_core.plugins.registry", "importlib.metadata", "asyncio"}.intersection(done.stdout.split())
    assert "deleted" not in [one.id for one in vc.list_pods()]
