"""What a driver gets of a pod: an identity that no other pod of the host has, and the way to its mounts."""

from __future__ import annotations

from pathlib import Path

from vc_core.config.pod import PodConfig
from vc_core.driver.context import PodContext

CONFIG = PodConfig(id="p1")


def uuid(run_dir: Path) -> str:
    return PodContext.of(CONFIG, run_dir).uuid


def test_pods_of_one_id_in_two_state_roots_have_two_uuids(tmp_path: Path) -> None:
    one, other = (tmp_path / root / "pods" / "p1" for root in ("one", "other"))
    assert uuid(one) != uuid(other)


def test_a_pod_has_the_same_uuid_whether_its_directory_exists_and_however_it_is_named(tmp_path: Path) -> None:
    run_dir = tmp_path / "run" / "p1"
    before = uuid(run_dir)
    run_dir.mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "run")
    assert before == uuid(run_dir) == uuid(tmp_path / "link" / "p1")


def test_a_context_without_a_supervisor_has_no_mount_namespace(tmp_path: Path) -> None:
    assert PodContext.of(CONFIG, tmp_path).mount_namespace is None
