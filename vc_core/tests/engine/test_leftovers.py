"""What an interrupted start left is ended, by the core or by the driver, and no other process."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

import distributions
import vc_core as vc
from vc_core.config.ids import pod_uuid
from vc_core.driver.process import ProcessIdentity
from vc_core.engine.engine import Engine
from vc_core.errors import HypervisorError
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
    """A user's own program, in the pod's run directory and with the pod's id in its arguments.

    It opens no file there, which a test may have removed by then.
    """
    yield from started(store.roots.pod_run_dir(pod), "cat", "-", f"{pod}.log")


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


@pytest.mark.promise("T08")
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


#: A hypervisor whose VMs a daemon starts, a file each: nothing of a VM is a process that the core could find.
DAEMON = """
    import os
    from pathlib import Path
    from vc_core.driver import HypervisorCapability, hookimpl
    from vc_core.errors import HypervisorError
    from vc_hypervisor_mock import MockPlugin
    from vc_hypervisor_mock.hypervisor import MockHypervisor

    class DaemonHypervisor(MockHypervisor):
        def __init__(self, pod, config, saved):
            super().__init__(pod, config, saved)
            self._vm = Path(os.environ["DAEMON_VMS"], pod.uuid)

        @property
        def capabilities(self):
            return super().capabilities | {HypervisorCapability.DISCARD}

        async def discard(self, timeout):
            how = os.environ.get("DAEMON", "")
            if how == "exits":
                os._exit(3)
            if how == "fails":
                raise HypervisorError("the daemon does not answer")
            self._vm.unlink(missing_ok=True)

    class Plugin(MockPlugin):
        @hookimpl
        def vc_hypervisor_create(self, pod, config, saved):
            return DaemonHypervisor(pod, config, saved)
"""


@pytest.fixture
def daemon_vm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mock_config: Callable[..., vc.PodConfig], store: Store
) -> Path:
    """The VM that a daemon has of the pod "p1", whose start was interrupted; a file."""
    distributions.install(tmp_path / "site", "daemon", "hypervisors", "daemon", DAEMON)
    vms = tmp_path / "vms"
    vms.mkdir()
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setenv("DAEMON_VMS", str(vms))
    vc.create_pod(dataclasses.replace(mock_config(), hypervisor_type="daemon"))
    store.write(msgspec.structs.replace(store.read("p1"), supervised=True, discards=True, intent="start"))
    vm = vms / pod_uuid(store.make_run_dir("p1"))
    vm.touch()
    return vm


def recover(store: Store) -> None:
    async def main() -> None:
        engine = await Engine.open(store, "p1", Plugins())
        await engine.aclose()

    with store.locked("p1"):
        asyncio.run(main())


def test_the_next_owner_lets_the_driver_discard_what_a_daemon_has(daemon_vm: Path, store: Store) -> None:
    recover(store)
    assert not daemon_vm.exists()
    assert store.read("p1").intent == ""


def test_a_start_records_before_the_vm_that_the_driver_discards_it(
    daemon_vm: Path, mock_config: Callable[..., vc.PodConfig], store: Store
) -> None:
    vc.create_pod(dataclasses.replace(mock_config("p2"), hypervisor_type="daemon"))
    assert not store.read("p2").discards
    vc.start_pod("p2")
    assert store.read("p2").discards


def test_a_start_stays_interrupted_until_the_driver_has_discarded_its_vm(
    daemon_vm: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAEMON", "fails")
    with pytest.raises(HypervisorError, match="the daemon does not answer"):
        recover(store)
    assert daemon_vm.exists()
    assert store.read("p1").intent == "start"


@pytest.mark.slow
def test_a_forced_delete_lets_the_driver_discard_what_a_daemon_has(daemon_vm: Path) -> None:
    vc.delete_pod("p1", force=True)
    assert not daemon_vm.exists()
    assert vc.list_pods() == []


@pytest.mark.slow
def test_a_forced_delete_of_a_pod_with_a_broken_record_lets_the_driver_discard_what_a_daemon_has(
    daemon_vm: Path, store: Store
) -> None:
    (store.roots.pod_state_dir("p1") / "state.json").write_text("{", encoding="utf-8")
    vc.delete_pod("p1", force=True)
    assert not daemon_vm.exists()
    assert vc.list_pods() == []


@pytest.mark.slow
@pytest.mark.parametrize(("how", "why"), [("fails", "the daemon does not answer"), ("exits", "status 3")])
def test_a_forced_delete_logs_what_a_driver_cannot_discard_and_deletes_the_pod(
    daemon_vm: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, how: str, why: str
) -> None:
    monkeypatch.setenv("DAEMON", how)
    vc.delete_pod("p1", force=True)
    assert vc.list_pods() == []
    assert any("pod p1: its VM, or what that has made, may be left" in one.message for one in caplog.records)
    assert why in caplog.text
