"""Many processes at once on few pods: the store stays whole, and every refusal is one of those that are meant."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import vc_core as vc
from vc_core.store.roots import ROOT_VARIABLE

#: What one process does: operations at random, refused only for reasons that another process can give.
WORK = """
import random, sys
import vc_core as vc

dice = random.Random(int(sys.argv[1]))
refusals = (vc.PodNotFoundError, vc.PodExistsError, vc.StateError, vc.ContainerExistsError)


def config(pod_id):
    return vc.PodConfig(id=pod_id, hypervisor_type="mock", agent_type="noop")


operations = [
    lambda pod_id: vc.run_pod(config(pod_id)),
    vc.start_pod,
    vc.stop_pod,
    vc.delete_pod,
    lambda pod_id: vc.delete_pod(pod_id, force=True),
    lambda pod_id: vc.create_container(pod_id, vc.ContainerConfig(id=f"c{dice.randrange(3)}")),
    lambda pod_id: [one.reason for one in vc.list_pods() if one.state == "failed"] and sys.exit("a broken pod"),
]
for _ in range(200):
    try:
        dice.choice(operations)(f"p{dice.randrange(5)}")
    except refusals:
        pass
"""


@pytest.mark.promise("T02")
@pytest.mark.slow
def test_processes_that_race_on_the_same_pods_break_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "root"))
    workers = [
        subprocess.Popen([sys.executable, "-c", WORK, str(seed)], stderr=subprocess.PIPE, encoding="utf-8")
        for seed in range(5)
    ]
    errors = [worker.communicate(timeout=300)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 5, "\n".join(errors)
    for pod in vc.list_pods():
        vc.delete_pod(pod.id, force=True)
    assert {path.name for path in (tmp_path / "root").rglob("*") if not path.is_dir()} <= {"events", "events.1"}
