"""A command that is killed at any point leaves what ``delete --force`` removes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import vc_core
from vc_runtime import cgroups, creation, hooks, network, shims
from vc_runtime.deletion import end_shim
from vc_runtime.main import main
from vc_runtime.records import Home, Record, Root
from waiting import PATIENCE

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.needs("mount namespaces", "busybox")]

Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def own_pods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTCONTAINERS_ROOT", str(tmp_path / "vc"))
    monkeypatch.setenv("VIRTCONTAINERS_TEMPLATES", "existing")


@pytest.fixture
def folder(bundle: Make) -> Path:
    """Return a bundle whose program sleeps."""
    busybox = shutil.which("busybox")
    assert busybox is not None
    made = bundle(process={"args": ["/bin/busybox", "sleep", "1000"]})
    shutil.copy(busybox, made / "rootfs/bin/busybox")
    return made


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch, root: Root) -> Callable[..., None]:
    """Return a function that performs a verb in a process that kills itself where it would call ``owner.name``."""

    def perform(owner: object, name: str, *arguments: str) -> None:
        pid = os.fork()
        if not pid:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(owner, name, lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL))
                main(["--root", str(root.path), *arguments])
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL, f"{name} was not called"

    return perform


def delete(root: Root) -> None:
    """Delete the container by force; nothing of it is left, which the census of every test counts too."""
    assert main(["--root", str(root.path), "delete", "--force", "c1"]) == 0
    assert root.records() == []
    assert not root.home("c1").path.exists()
    assert vc_core.list_pods() == []


@pytest.mark.parametrize(
    ("owner", "name"),
    [(Home, "write"), (shims, "spawn"), (cgroups, "join"), (hooks, "run"), (creation, "write_pid")],
    ids=["before the record", "before the shim", "before its group", "before hooks", "before the pid file"],
)
def test_a_create_that_is_killed_leaves_nothing_after_a_delete(
    owner: object, name: str, killed: Callable[..., None], root: Root, folder: Path
) -> None:
    killed(owner, name, "create", "--bundle", str(folder), "--pid-file", str(folder / "pid"), "c1")
    delete(root)


@pytest.fixture
def created(root: Root, folder: Path) -> Iterator[None]:
    """Create a container, and reap its shim, which is a child of this process, at the end."""
    assert main(["--root", str(root.path), "create", "--bundle", str(folder), "c1"]) == 0
    pid = root.home("c1").read().pid
    yield
    os.waitpid(pid, 0)


def test_a_container_that_ended_and_whose_bundle_was_removed_goes_with_the_next_create(
    root: Root, folder: Path, created: None
) -> None:
    end_shim(root.home("c1").read())
    moved = folder.rename(folder.with_name("moved"))
    assert main(["--root", str(root.path), "create", "--bundle", str(moved), "c2"]) == 0
    (left,) = root.records()
    pid = left.pid
    assert (left.id, main(["--root", str(root.path), "delete", "--force", "c2"])) == ("c2", 0)
    os.waitpid(pid, 0)
    deadline = time.monotonic() + PATIENCE
    while subprocess.run(["pgrep", "-f", "--", f"--root {root.path} attend c1"], capture_output=True).returncode == 0:
        assert time.monotonic() < deadline, "the attendant of its shim does not end"


def test_a_member_does_not_start_a_vm_in_the_place_of_that_of_its_sandbox_which_ended(
    root: Root, bundle: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    sandbox = root.home("s1")
    sandbox.create()
    sandbox.write(Record(id="s1", bundle="", pod="s1", container="s1", started=True))
    made = bundle(annotations={"io.kubernetes.cri.sandbox-id": "s1", "io.kubernetes.cri.container-type": "container"})
    assert main(["--root", str(root.path), "create", "--bundle", str(made), "c1"]) == 0
    pid = root.home("c1").read().pid
    assert performed(root, "start", "c1") == 1
    assert "container c1 cannot start: the VM of its sandbox s1 has ended" in capfd.readouterr().err
    os.waitpid(pid, 0)
    assert main(["--root", str(root.path), "delete", "--force", "s1"]) == 0
    delete(root)


@pytest.mark.vm
@pytest.mark.parametrize(
    ("owner", "name"),
    [(network, "connect"), (vc_core.PodPreparation, "open"), (shims, "give")],
    ids=["before the network", "before the VM", "before the shim has it"],
)
def test_a_start_that_is_killed_leaves_nothing_after_a_delete(
    owner: object, name: str, killed: Callable[..., None], root: Root, created: None
) -> None:
    killed(owner, name, "start", "c1")
    assert root.home("c1").read().status == "created"
    delete(root)


def performed(root: Root, *arguments: str) -> int:
    """Perform a verb in a process of its own: some enter namespaces, or close descriptors. Return its exit code."""
    if not (pid := os.fork()):
        os.closerange(3, 4)
        os._exit(main(["--root", str(root.path), *arguments]))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.vm
def test_a_vm_ends_with_its_shim_although_nobody_deletes_the_container_which_can_be_deleted_later(
    root: Root, created: None
) -> None:
    assert performed(root, "start", "c1") == 0
    assert performed(root, "attend", "c1") == 0
    assert len(vc_core.list_pods()) == 1, "it ended although its shim is alive"
    end_shim(root.home("c1").read())
    assert performed(root, "attend", "c1") == 0
    assert vc_core.list_pods() == []
    delete(root)
