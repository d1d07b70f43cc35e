"""Processes left by an interrupted start are killed, and no others."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

import vc_core as vc
from vc_core.config.ids import pod_uuid
from vc_core.driver.process import ProcessIdentity
from vc_core.engine.engine import Engine
from vc_core.host import processes
from vc_core.plugins.registry import Plugins
from vc_core.store.store import Store


@pytest.fixture
def pod(mock_config: Callable[..., vc.PodConfig], store: Store) -> str:
    """A pod whose VM would be a process."""
    pod_id = vc.create_pod(mock_config()).id
    store.write(msgspec.structs.replace(store.read(pod_id), supervised=True))
    store.make_run_dir(pod_id)
    return pod_id


@pytest.fixture
def bystander(pod: str, store: Store) -> Iterator[ProcessIdentity]:
    """A user's own program, in the pod's run directory and with the pod's id in its arguments."""
    run_dir = store.roots.pod_run_dir(pod)
    (run_dir / f"{pod}.log").touch()
    yield from started(run_dir, "tail", "-f", f"{pod}.log")


@pytest.fixture
def leftover(pod: str, store: Store) -> Iterator[ProcessIdentity]:
    """A VM's process that is in no record."""
    program = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    run_dir = store.roots.pod_run_dir(pod)
    yield from started(run_dir, *program, "-uuid", pod_uuid(run_dir))


def started(directory: Path, *argv: str) -> Iterator[ProcessIdentity]:
    with subprocess.Popen(argv, cwd=directory, stdin=subprocess.PIPE) as child:
        identity = ProcessIdentity.of(child.pid)
        assert identity is not None
        yield identity
        child.kill()


def test_a_forced_delete_kills_the_vm_and_no_bystander(
    pod: str, bystander: ProcessIdentity, leftover: ProcessIdentity
) -> None:
    vc.delete_pod(pod, force=True)
    assert bystander.alive()
    assert not leftover.alive()


def test_the_next_owner_kills_the_vm_of_an_interrupted_start_and_no_bystander(
    pod: str, store: Store, bystander: ProcessIdentity, leftover: ProcessIdentity
) -> None:
    async def main() -> None:
        engine = await Engine.open(store, pod, Plugins())
        await engine.aclose()

    store.write(msgspec.structs.replace(store.read(pod), intent="start"))
    with store.locked(pod):
        asyncio.run(main())
    assert store.read(pod).intent == ""
    assert bystander.alive()
    assert not leftover.alive()


def test_processes_are_examined_only_after_a_start_that_was_interrupted(
    pod: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans: list[Path] = []

    def scan(run_dir: Path, uuid: str) -> list[ProcessIdentity]:
        scans.append(run_dir)
        return []

    monkeypatch.setattr(processes, "find_vms", scan)

    async def main() -> None:
        engine = await Engine.open(store, pod, Plugins())
        with pytest.raises(vc.VCError):  # a pod of mock has no process
            await engine.start(lambda phrase, fraction: None, {}, None)
        await engine.aclose()

    with store.locked(pod):
        asyncio.run(main())
        assert scans == []
        store.write(msgspec.structs.replace(store.read(pod), intent="start"))
        asyncio.run(main())
    assert scans == [store.roots.pod_run_dir(pod)]
