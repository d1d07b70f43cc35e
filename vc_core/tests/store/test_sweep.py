"""What a process that was killed has left of a pod that no list shows is removed by the next create or delete."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

import vc_core as vc
from vc_core.store.roots import Roots
from vc_core.store.store import Store


def _leave(roots: Roots) -> list[Path]:
    """Leave a half-made pod, a half-deleted one with a log, a lock, and the same of images; return their paths."""
    pods = roots.state / "pods"
    log = pods / ".b.deleted/containers/c/output.log"
    images = [roots.state / "images" / name for name in (".making-k", ".removed-k")]
    for directory in (pods / ".a.new", log.parent, roots.state / "locks", *images):
        directory.mkdir(parents=True, mode=0o700, exist_ok=True)
    for path in (roots.state, pods, images[0].parent):
        path.chmod(0o700)
    for file in (log, pods / ".a.new/config.json", roots.pod_lock("c.d")):
        file.write_text("x", encoding="utf-8")
    return [pods / ".a.new", pods / ".b.deleted", roots.pod_lock("c.d"), *images]


@pytest.mark.parametrize("operation", ["create", "delete", "delete of a pod that is not there"])
def test_leftovers_are_removed_by(operation: str, roots: Roots, mock_config: Callable[..., vc.PodConfig]) -> None:
    if operation == "delete":
        vc.create_pod(mock_config())
    left = _leave(roots)
    match operation:
        case "create":
            vc.create_pod(mock_config())
        case "delete":
            vc.delete_pod("p1")
        case _:
            with pytest.raises(vc.PodNotFoundError):
                vc.delete_pod("p1")
    assert [path for path in left if path.exists()] == []


@pytest.mark.promise("T28")
def test_listing_pods_removes_nothing(roots: Roots) -> None:
    left = _leave(roots)
    assert vc.list_pods() == []
    assert all(path.exists() for path in left)


#: Holds the lock of a pod until its standard input ends.
_AT_WORK = """
import sys
from vc_core.store.store import Store
with Store.here().locked(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("pod_id", ["a", "b", "c.d"])
def test_what_another_process_works_on_is_left_alone(pod_id: str, roots: Roots) -> None:
    left = _leave(roots)
    with subprocess.Popen(
        [sys.executable, "-c", _AT_WORK, pod_id], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "locked\n"
        Store(roots).sweep()
        kept = [path for path in left if path.exists()]
        worker.communicate()
    assert kept == [path for path in left if path.name in (f".{pod_id}.new", f".{pod_id}.deleted", f"{pod_id}.lock")]
    Store(roots).sweep()
    assert [path for path in left if path.exists()] == []


@pytest.mark.parametrize("kind", ["fifo", "file", "link", "directory"])
@pytest.mark.parametrize(
    "place", ["pods/p1", "pods/.p1.new", "pods/.p1.deleted", "locks/p1.lock", "pods/p1/state.json"]
)
def test_a_pod_is_deleted_by_force_whatever_was_planted_at(
    place: str, kind: str, roots: Roots, mock_config: Callable[..., vc.PodConfig]
) -> None:
    vc.create_pod(mock_config())
    path = roots.state / place
    if path.is_dir():
        path.rename(roots.state.parent / "moved")
    else:
        path.unlink(missing_ok=True)
    match kind:
        case "fifo":
            os.mkfifo(path, 0o600)
        case "file":
            path.write_bytes(b"x")
        case "link":
            path.symlink_to(roots.state.parent)
        case _:
            path.mkdir(mode=0o700)
            (path / "below").mkdir()
    assert [pod.id for pod in vc.list_pods()] == ["p1"]
    vc.delete_pod("p1", force=True)
    assert vc.list_pods() == []
    assert [path for path in roots.state.rglob("*") if path.name not in ("pods", "locks", "events")] == []


#: Binds a directory into that of the pod p1 in a mount namespace of its own, and tries to delete the pod.
_WITH_A_MOUNT = """
import os, sys
from pathlib import Path
import vc_core as vc
from vc_core.host import mounts
place = Path(sys.argv[1]) / "mounted"
place.mkdir()
mounts.bind(os.open(sys.argv[2], os.O_PATH), place)
for force in (False, True):
    try:
        vc.delete_pod("p1", force=force)
    except vc.StorageError as error:
        print(error)
"""


@pytest.mark.promise("T07")
@pytest.mark.root
@pytest.mark.needs("mount namespaces")
def test_a_pod_with_a_foreign_mount_in_its_directory_stays_listed_with_the_reason(
    roots: Roots, mock_config: Callable[..., vc.PodConfig], tmp_path: Path
) -> None:
    pod = vc.create_pod(mock_config())
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/file").touch()
    directory = roots.pod_state_dir("p1")
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", _WITH_A_MOUNT, str(directory), str(tmp_path / "foreign")],
        capture_output=True,
        encoding="utf-8",
    )
    sentence = f"'{directory}/mounted' is a mount point; unmount it first, nothing in it was removed"
    assert done.stdout.splitlines() == [sentence, sentence], done.stderr
    assert pod.status().reason == f"it is not deleted: {sentence}"
    assert (tmp_path / "foreign/file").exists()
    pod.delete()


@pytest.mark.parametrize(
    "identity",
    [
        {},
        {"pid": 1, "start_time": 1, "boot_id": ""},
        {"pid": -1, "start_time": 1, "boot_id": ""},
        {"pid": 10**30, "start_time": 1, "boot_id": ""},
        {"pid": "a", "start_time": 1, "boot_id": ""},
        {"pid": 2, "start_time": -1, "boot_id": None},
        {"pid": [], "start_time": {}, "boot_id": []},
    ],
)
def test_a_pod_whose_vm_cannot_exist_is_listed_as_failed_and_deleted_by_force(
    identity: dict[str, object], roots: Roots, mock_config: Callable[..., vc.PodConfig]
) -> None:
    vc.create_pod(mock_config())
    path = roots.pod_state_dir("p1") / "state.json"
    record = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode({**record, "vm": identity, "supervised": True, "state": "running"}))
    assert [(pod.state, "VM identity" in pod.reason) for pod in vc.list_pods()] == [("failed", True)]
    with pytest.raises(vc.StorageError, match="VM identity"):
        vc.delete_pod("p1")
    vc.delete_pod("p1", force=True)
    assert vc.list_pods() == []
