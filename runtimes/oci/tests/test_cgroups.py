"""Control groups on the host, in directories as the kernel has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from vc_runtime import cgroups


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where version 1 is mounted, with version 2 beside it."""
    for name in ("memory", "unified"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cgroup.procs").touch()
    monkeypatch.setattr(cgroups, "_MOUNTS", tmp_path)
    return tmp_path


def test_beside_version_1_no_group_is_made_in_version_2_that_no_engine_would_remove(mounts: Path) -> None:
    cgroups.join("kubepods/pod1/c1", 7)
    assert (mounts / "memory/kubepods/pod1/c1/cgroup.procs").read_text(encoding="ascii") == "7\n"
    assert [one.name for one in (mounts / "unified").iterdir()] == ["cgroup.procs"]


def test_beside_version_1_a_process_is_in_version_2_too_where_the_engine_has_made_the_group_above(mounts: Path) -> None:
    (mounts / "unified/machine.slice").mkdir()
    cgroups.join("machine.slice/c1", 7)
    assert (mounts / "unified/machine.slice/c1/cgroup.procs").read_text(encoding="ascii") == "7\n"


def test_a_group_of_version_2_has_the_controllers_of_the_one_above(mounts: Path) -> None:
    (mounts / "cgroup.controllers").write_text("cpu memory\n", encoding="ascii")
    (mounts / "pod1").mkdir()
    (mounts / "pod1/cgroup.controllers").write_text("memory pids\n", encoding="ascii")
    cgroups.join("pod1/c1", 7)
    assert (mounts / "pod1/cgroup.subtree_control").read_text(encoding="ascii") == "+memory\n+pids\n"
