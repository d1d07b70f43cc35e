"""Pods that an older version has stored: listed, started, stopped and deleted by this one."""

from __future__ import annotations

from pathlib import Path

import pytest

import older
import vc_core as vc
from vc_core.store.roots import ROOT_VARIABLE, Roots


@pytest.mark.promise("T27")
def test_pods_that_an_older_version_has_stored_are_listed_started_stopped_and_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "root"))
    roots = Roots.from_environment()
    older.install(roots.state, tmp_path, tmp_path)
    listed = {pod.id: pod for pod in vc.list_pods()}
    states = {"live": "running", "ready": "ready", "running": "stopped", "stopped": "stopped"}
    assert {pod_id: str(pod.state) for pod_id, pod in listed.items()} == states
    assert "the host was rebooted" in listed["running"].reason
    assert [(one.id, one.exit_code) for one in listed["running"].containers] == [("c", None), ("ended", 3)]
    config = vc.inspect_pod("running")
    assert [list(one.cmd.args) for one in config.containers] == [["sleep", "10000"], ["sh", "-c", "exit 3"]]
    assert list(config.volumes) == [vc.Volume("data", str(tmp_path))]
    vc.stop_pod("live")
    for pod_id in ("live", "ready", "stopped"):
        vc.start_pod(pod_id)
        vc.create_container(pod_id, vc.ContainerConfig(id="new"))
        vc.stop_pod(pod_id)
    for pod_id in states:
        vc.delete_pod(pod_id)
    assert {path.name for path in (tmp_path / "root").rglob("*") if not path.is_dir()} <= {"events", "events.1"}
