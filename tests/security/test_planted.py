"""Links, pipes and sockets in the place of every file that a pod makes: nothing waits, and nothing else is written."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import pytest

import vc_core as vc
from vc_core.errors import VCError
from vc_core.store.roots import ROOT_VARIABLE
from vc_core.testing.slowness import scaled

#: Seconds that one operation may take; one that waits for a pipe takes any time.
_TIMEOUT = 60.0


def _socket(path: Path) -> None:
    home = os.open(path.parent, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(f"/proc/self/fd/{home}/{path.name}")
    os.close(home)


PLANTED: dict[str, Callable[[Path, Path], object]] = {
    "pipe": lambda path, _: os.mkfifo(path),
    "link": lambda path, victim: path.symlink_to(victim),
    "dangling-link": lambda path, victim: path.symlink_to(victim.with_name("nothing")),
    "socket": lambda path, _: _socket(path),
}


@pytest.fixture
def victim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a file that links lead to, which must stay as it is; roots of its own for the test."""
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "root"))
    (tmp_path / "outside").mkdir()
    found = tmp_path / "outside/victim"
    found.write_text("precious", encoding="utf-8")
    yield found
    assert found.read_text(encoding="utf-8") == "precious"
    assert [path.name for path in found.parent.iterdir()] == ["victim"]


@contextmanager
def in_time(what: str) -> Iterator[None]:
    """Fail if the block waits."""

    def late(signum: int, frame: FrameType | None) -> None:
        raise AssertionError(f"waits for {what}")

    former = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, scaled(_TIMEOUT))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


def mock_pod(top: Path) -> vc.PodConfig:
    (top / "bundle/rootfs/bin").mkdir(parents=True, exist_ok=True)
    container = vc.ContainerConfig(id="c1", root_fs=str(top / "bundle"), cmd=vc.Cmd(args=["sleep"]))
    return vc.PodConfig(id="p1", hypervisor_type="mock", agent_type="noop", containers=[container])


def live(top: Path) -> None:
    """Let a pod without a VM live a life."""
    vc.run_pod(mock_pod(top))
    vc.stop_pod("p1")


def files_of_a_life(top: Path) -> list[Path]:
    """Return the files that a life makes, and those that it replaces others by, relative to the roots."""
    live(top)
    files = [path.relative_to(top / "root") for path in (top / "root").rglob("*") if not path.is_dir()]
    vc.delete_pod("p1")
    new = [path.with_name(f".{path.name}.new") for path in files if path.suffix == ".json"]
    return sorted([*files, *new])


@pytest.mark.promise("T17")
def test_whatever_is_planted_before_a_pod_is_made_is_an_error_or_is_replaced(tmp_path: Path, victim: Path) -> None:
    files = files_of_a_life(tmp_path)
    assert {"state.json", ".state.json.new", "config.json", "p1.lock"} <= {file.name for file in files}
    for file in files:
        for kind, plant in PLANTED.items():
            shutil.rmtree(tmp_path / "root")
            for parent in reversed((tmp_path / "root" / file).relative_to(tmp_path).parents):
                (tmp_path / parent).mkdir(mode=0o700, exist_ok=True)
            plant(tmp_path / "root" / file, victim)
            with in_time(f"a {kind} as {file}"), suppress(VCError):
                live(tmp_path)
            with in_time(f"a {kind} as {file} while it deletes"), suppress(VCError):
                vc.delete_pod("p1", force=True)


@pytest.mark.promise("T17")
def test_whatever_replaces_a_file_of_a_pod_is_an_error_and_the_pod_can_be_deleted(tmp_path: Path, victim: Path) -> None:
    live(tmp_path)
    pod = tmp_path / "root/state/pods/p1"
    for path in sorted(path for path in pod.rglob("*") if not path.is_dir()):
        for kind, plant in PLANTED.items():
            content = path.read_bytes()
            path.unlink()
            plant(path, victim)
            for operation in (vc.list_pods, lambda: vc.status_pod("p1"), lambda: vc.start_pod("p1")):
                with in_time(f"a {kind} as {path.name}"), suppress(VCError):
                    operation()
            with suppress(VCError):
                vc.stop_pod("p1")
            path.unlink()
            path.write_bytes(content)
        for kind, plant in PLANTED.items():
            plant(path.with_name(f"{path.name}.{kind}"), victim)
    with in_time("what it deletes"):
        vc.delete_pod("p1", force=True)
    assert not pod.exists()


@pytest.mark.promise("T17")
@pytest.mark.root
@pytest.mark.vm
@pytest.mark.slow
def test_what_is_planted_in_a_run_directory_is_named_by_the_error_of_the_start_or_replaced(
    tmp_path: Path, victim: Path
) -> None:
    pod, run_dir = vc.create_pod(vc.PodConfig(id="p1", hypervisor_type="qemu")), tmp_path / "root/run/pods/p1"
    for directory in (run_dir, *list(run_dir.parents)[:2]):
        directory.mkdir(mode=0o700, exist_ok=True, parents=True)
    refused = {"supervisor.log": "pipe", "monitor.sock": "link", "channel.charch0.sock": "pipe"}
    replaced = {"qemu.log": "pipe", "console.log": "link", "qemu.pipe": "socket", "supervisor.call": "dangling-link"}
    for name, kind in (refused | replaced).items():
        PLANTED[kind](run_dir / name, victim)
    try:
        while refused:
            with in_time(f"what is planted in {run_dir}"), pytest.raises(VCError) as caught:
                pod.start()
            [named] = [name for name in refused if f"{run_dir / name}'" in str(caught.value)]
            (run_dir / named).unlink()
            del refused[named]
        pod.start()
        assert [
            name for name in ("qemu.log", "console.log") if not stat.S_ISREG((run_dir / name).lstat().st_mode)
        ] == []
    finally:
        pod.delete(force=True)
