"""The containers of a pod at work: what is left, and what is raised, when their start or their end goes wrong."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import vc_core as vc
from vc_core.driver.agent import AgentCapability, GuestProcessId
from vc_core.driver.hypervisor import HypervisorCapability
from vc_core.engine.containers import Attachment, Containers, SharedDirectories
from vc_core.engine.ledger import Ledger
from vc_core.engine.machine import Machine
from vc_core.errors import AgentError, CommandError, ConfigError, HypervisorError, NotSupportedError, StorageError
from vc_core.host import quota, share
from vc_core.states import State
from vc_core.store import files
from vc_core.store.records import ContainerRecord, PodRecord
from vc_core.store.store import Store


class FakeHypervisor:
    """Has disks that come and go."""

    capabilities = frozenset({HypervisorCapability.HOTPLUG})

    def __init__(self) -> None:
        self.disks: set[str] = set()
        self.refuses_to_detach = False

    async def attach(self, device: Any, timeout: float) -> None:
        self.disks.add(device.id)

    async def detach(self, device_id: str, timeout: float) -> None:
        if self.refuses_to_detach:
            raise HypervisorError("the disk stays")
        self.disks.discard(device_id)

    def disk_location(self, device_id: str) -> str:
        return device_id

    def user_namespace(self) -> None:
        return None

    def save(self) -> dict[str, object]:
        return {"disks": sorted(self.disks)}


class FakeAgent:
    """Starts containers until the test makes it fail; one that is killed ends with 137."""

    capabilities = frozenset({AgentCapability.DISKS, AgentCapability.LIMITS})

    def __init__(self) -> None:
        self.fails: BaseException | None = None
        self.end: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.removed: list[str] = []
        self.paused: list[bool] = []

    async def start_container(self, container: Any, io: Any, timeout: float) -> GuestProcessId:
        if self.fails is not None:
            raise self.fails
        return GuestProcessId(container.id, "first")

    async def pause_container(self, container_id: str, timeout: float) -> None:
        self.paused.append(True)

    async def resume_container(self, container_id: str, timeout: float) -> None:
        self.paused.append(False)

    async def wait(self, process: GuestProcessId) -> int:
        return await asyncio.shield(self.end)

    async def signal_container(self, container_id: str, signal: int, timeout: float) -> None:
        self.end.set_result(128 + signal)

    async def remove_container(self, container_id: str, timeout: float) -> None:
        if container_id in self.removed:
            raise AgentError(f"the guest cannot remove the container: there is no container {container_id!r}")
        self.removed.append(container_id)

    def save(self) -> dict[str, object]:
        return {"agent": "saved"}


class FakeIO:
    """Streams that note that they were closed."""

    closed = False
    has_input = False

    def close(self) -> None:
        self.closed = True


class Silence:
    """No extensions."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


class Pod:
    """A running pod with one container, whose root is a disk."""

    def __init__(self, store: Store, tmp_path: Path) -> None:
        self.config = vc.ContainerConfig(id="c1", cmd=vc.Cmd(args=["true"]), root_fs=str(tmp_path / "disk.img"))
        pod = vc.PodConfig(id="p1", hypervisor_type="mock", agent_type="noop", containers=[self.config])
        record = PodRecord(
            id="p1",
            state=State.RUNNING,
            hypervisor="mock",
            agent="noop",
            supervised=True,
            created_at=time.time(),
            containers={"c1": ContainerRecord()},
        )
        store.create(pod, record)
        self.ledger = Ledger(store, "p1", Silence())  # type: ignore[arg-type]
        self.hypervisor, self.agent, self.io = FakeHypervisor(), FakeAgent(), FakeIO()
        self.machine = Machine(self.ledger, self.hypervisor, self.agent)  # type: ignore[arg-type]
        self.containers = Containers(
            self.ledger, store.roots, SharedDirectories(tmp_path / "share"), asyncio.create_task
        )

    async def start(self) -> None:
        await self.containers.start(self.machine, self.config, Attachment(self.io))  # type: ignore[arg-type]

    async def delete(self) -> None:
        await self.containers.remove(self.machine, "c1")
        self.ledger.remove_container("c1")


@pytest.fixture(autouse=True)
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a disk that begins as ext4 does, and let nothing be mounted."""
    (tmp_path / "disk.img").write_bytes(bytes(1024 + 56) + b"\x53\xef" + bytes(1024))
    monkeypatch.setattr(share, "unbind", lambda *_: None)


def test_what_a_container_with_a_memory_limit_may_write_to_memory_leaves_room_for_its_processes(
    store: Store, tmp_path: Path
) -> None:
    async def sizes(memory: int) -> tuple[int, list[int]]:
        pod = Pod(store, tmp_path)
        pod.config = replace(pod.config, mounts=[vc.Mount.parse(":/tmp")], memory=memory)
        started: list[Any] = []

        async def start_container(container: Any, io: Any, timeout: float) -> GuestProcessId:
            started.append(container)
            return GuestProcessId(container.id, "first")

        pod.agent.start_container = start_container  # type: ignore[method-assign]
        pod.agent.capabilities |= {AgentCapability.MOUNT_OPTIONS}
        await pod.start()
        pod.agent.end.set_result(0)
        await pod.containers.wait("c1")
        return started[0].confinement.overlay_size, [mount.size for mount in started[0].mounts]

    assert asyncio.run(sizes(100)) == (50, [25])


def test_containers_get_their_stop_signals_and_are_killed_when_the_time_is_over(store: Store, tmp_path: Path) -> None:
    async def run() -> None:
        pod = Pod(store, tmp_path)
        sent: list[int] = []

        async def signal_container(container_id: str, signal: int, timeout: float) -> None:
            sent.append(signal)
            if signal == 9:
                pod.agent.end.set_result(128 + signal)

        pod.agent.signal_container = signal_container  # type: ignore[method-assign]
        await pod.start()
        began = time.monotonic()
        await pod.containers.ask_to_end(pod.machine, 0.3)
        assert sent == [15, 9]
        assert time.monotonic() - began >= 0.3
        await pod.containers.wait("c1")

    asyncio.run(run())


def test_the_end_of_a_container_whose_pod_stops_is_recorded_while_the_guest_stops(store: Store, tmp_path: Path) -> None:
    async def run() -> None:
        pod = Pod(store, tmp_path)
        await pod.start()
        pod.containers.stopping = True
        await pod.containers.ask_to_end(pod.machine, 5)
        assert store.read("p1").containers["c1"].state is State.RUNNING
        await pod.containers.wait("c1")
        ended = store.read("p1").containers["c1"]
        assert (ended.state, ended.exit_code) == (State.STOPPED, 128 + 15)

    asyncio.run(run())


def refuse(*_: object) -> None:
    raise StorageError("No space left on device")


@pytest.fixture
def limited(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., str]], Pod]:
    """Return a function that makes a pod of which one of two writable mounts is to be limited, by a given function.

    This host need not have project quota: tests in a guest have it.
    """
    (tmp_path / "data").mkdir()

    def make(limit: Callable[..., str]) -> Pod:
        monkeypatch.setattr(quota, "missing", lambda *_: "")
        monkeypatch.setattr(quota, "limit", limit)
        monkeypatch.setattr(share, "bind_mount", lambda _, container, number, *__: f"{container}/{number}")
        pod = Pod(store, tmp_path)
        mounts = [vc.Mount(str(tmp_path / "data"), f"/{size}", False, size=size) for size in (0, 5)]
        pod.config = replace(pod.config, mounts=mounts)
        pod.containers = Containers(pod.ledger, store.roots, SharedDirectories(tmp_path, tmp_path), asyncio.create_task)
        return pod

    return make


def test_a_limit_is_set_before_its_container_starts(
    limited: Callable[[Callable[..., str]], Pod], tmp_path: Path
) -> None:
    calls: list[tuple[Any, ...]] = []

    def limit(directory: int, *given: Any) -> str:
        assert os.path.samestat(os.fstat(directory), (tmp_path / "data").stat())
        calls.append(given)
        return ""

    async def run() -> None:
        pod = limited(limit)
        pod.agent.fails = CommandError("no such program", exit_code=127)
        with pytest.raises(CommandError):
            await pod.start()

    asyncio.run(run())
    ((owner, size, confined, _),) = calls
    assert owner.endswith("/c1/1")
    assert (size, confined) == (5, False)


@pytest.mark.parametrize("fails", [False, True])
def test_a_limit_that_cannot_be_set_is_why_the_container_does_not_start(
    limited: Callable[[Callable[..., str]], Pod], fails: bool
) -> None:
    def limit(*_: Any) -> str:
        if fails:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        return "cannot have it"

    async def run() -> None:
        why = "cannot be limited to 5 MiB: Operation not permitted" if fails else "cannot have it"
        pod = limited(limit)
        with pytest.raises(ConfigError, match=f"^mount of container 'c1': '.*/data' {why}$"):
            await pod.start()
        assert pod.hypervisor.disks == set()

    asyncio.run(run())


def test_a_start_that_is_cancelled_waits_until_no_limit_is_being_set(
    limited: Callable[[Callable[..., str]], Pod],
) -> None:
    begun, ended = threading.Event(), threading.Event()

    def limit(directory: int, owner: str, size: int, confined: bool, stop: threading.Event) -> str:
        begun.set()
        stop.wait()
        os.fstat(directory)
        ended.set()
        return ""

    async def run() -> None:
        start = asyncio.create_task(limited(limit).start())
        await asyncio.to_thread(begun.wait)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        assert ended.is_set()

    asyncio.run(run())


def test_a_failed_start_takes_the_disk_back_that_it_plugged(store: Store, tmp_path: Path) -> None:
    async def run() -> None:
        pod = Pod(store, tmp_path)
        pod.agent.fails = CommandError("no such program", exit_code=127)
        with pytest.raises(CommandError, match="no such program"):
            await pod.start()
        assert pod.hypervisor.disks == set()
        assert pod.io.closed

    asyncio.run(run())


def test_a_container_whose_start_is_cancelled_when_the_guest_has_started_it_is_killed(
    store: Store, tmp_path: Path
) -> None:
    async def run() -> None:
        pod, asked = Pod(store, tmp_path), asyncio.Event()

        async def start_container(container: Any, io: Any, timeout: float) -> GuestProcessId:
            asked.set()
            await asyncio.sleep(0)  # the answer is under way
            return GuestProcessId(container.id, "first")

        pod.agent.start_container = start_container  # type: ignore[method-assign]
        start = asyncio.create_task(pod.start())
        await asked.wait()
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        assert pod.agent.end.done()  # it was killed
        assert pod.agent.removed == ["c1"]

    asyncio.run(run())


def test_a_start_that_is_cancelled_takes_the_disk_back_that_it_plugged(store: Store, tmp_path: Path) -> None:
    async def run() -> None:
        pod = Pod(store, tmp_path)
        pod.agent.fails = asyncio.CancelledError()
        with pytest.raises(asyncio.CancelledError):
            await pod.start()
        assert pod.hypervisor.disks == set()
        assert pod.io.closed

    asyncio.run(run())


@pytest.mark.parametrize(
    ("asked", "capability", "sentence"),
    [
        ({"isolate": True}, AgentCapability.ISOLATION, "has isolate, but the agent of its pod separates no"),
        ({"cmd": vc.Cmd(["true"], umask=0)}, AgentCapability.PROCESS_LIMITS, ".*has umask, which the agent of its pod"),
        (
            {"mounts": [vc.Mount.parse(":/x")]},
            AgentCapability.MOUNT_OPTIONS,
            "has a tmpfs on '/x', which the agent of its pod",
        ),
        ({"seccomp": bytes(8)}, AgentCapability.SECCOMP, "has seccomp, which the agent of its pod"),
        ({"devices": [vc.DeviceNode(path="/dev/x")]}, AgentCapability.DEVICES, "has devices, which the agent of its"),
        ({"masked_paths": ["/x"]}, AgentCapability.MOUNT_OPTIONS, "has masked_paths, which the agent of its pod"),
        ({"pid_namespace": "own"}, AgentCapability.PID_NAMESPACE, "has pid_namespace, which the agent of its pod"),
    ],
)
def test_a_container_is_not_started_without_what_it_asks_of_the_agent(
    store: Store, tmp_path: Path, asked: dict[str, Any], capability: AgentCapability, sentence: str
) -> None:
    async def run() -> None:
        pod = Pod(store, tmp_path)
        pod.config = replace(pod.config, **asked)
        with pytest.raises(NotSupportedError, match=f"container 'c1' ?{sentence}"):
            await pod.start()
        pod.agent.capabilities |= {capability}
        await pod.start()
        pod.agent.end.set_result(0)

    asyncio.run(run())


def test_a_failed_start_raises_its_own_error_though_undoing_it_fails_as_well(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        pod = Pod(store, tmp_path)
        pod.agent.fails = CommandError("no such program", exit_code=127)
        pod.hypervisor.refuses_to_detach = True
        monkeypatch.setattr(share, "unbind", refuse)
        with pytest.raises(CommandError, match="no such program"):
            await pod.start()
        assert pod.io.closed

    asyncio.run(run())


def test_a_container_whose_start_cannot_be_recorded_does_not_run(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        pod = Pod(store, tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(files, "write_atomic", refuse)
            with pytest.raises(StorageError, match="No space"):
                await pod.start()
        assert pod.agent.end.result() == 137
        assert pod.agent.removed == ["c1"]
        assert pod.hypervisor.disks == set()
        assert pod.io.closed
        assert pod.ledger.container("c1").state is State.READY

    asyncio.run(run())


def test_what_the_drivers_save_is_recorded_with_the_start(store: Store, tmp_path: Path) -> None:
    async def run() -> None:
        pod = Pod(store, tmp_path)
        await pod.start()
        record = store.read("p1")
        assert record.containers["c1"].state is State.RUNNING
        assert record.saved_agent == {"agent": "saved"}
        assert record.saved_hypervisor == {"disks": sorted(pod.hypervisor.disks)}
        pod.agent.end.set_result(0)
        await pod.containers.wait("c1")

    asyncio.run(run())


def test_every_wait_returns_the_exit_code_though_the_disk_is_full_and_the_next_change_records_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        pod = Pod(store, tmp_path)
        await pod.start()
        with monkeypatch.context() as patch:
            patch.setattr(files, "write_atomic", refuse)
            pod.agent.end.set_result(7)
            await pod.containers.wait("c1")
        assert pod.io.closed
        assert pod.ledger.container("c1").exit_code == 7
        with pytest.raises(KeyError):
            pod.containers.process("c1")
        pod.ledger.commit(intent="")
        assert store.read("p1").containers["c1"].exit_code == 7

    asyncio.run(run())


def test_a_container_lost_by_its_agent_ends_without_an_exit_code(store: Store, tmp_path: Path) -> None:
    async def run() -> None:
        pod = Pod(store, tmp_path)
        await pod.start()
        pod.agent.end.set_exception(AgentError("the guest is lost"))
        await pod.containers.wait("c1")
        ended = store.read("p1").containers["c1"]
        assert (ended.state, ended.exit_code, ended.reason) == (State.STOPPED, None, "the guest is lost")

    asyncio.run(run())


@pytest.mark.parametrize("fault", ["full disk", "hypervisor", "mount"])
def test_a_container_whose_removal_failed_is_removed_when_the_cause_is_gone(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """The guest has forgotten the container after the first attempt, and refuses to remove it a second time."""

    async def run() -> None:
        pod = Pod(store, tmp_path)
        await pod.start()
        pod.agent.end.set_result(0)
        await pod.containers.wait("c1")
        pod.hypervisor.refuses_to_detach = fault == "hypervisor"
        with monkeypatch.context() as patch:
            if fault == "full disk":
                patch.setattr(files, "write_atomic", refuse)
            elif fault == "mount":
                patch.setattr(share, "unbind", refuse)
            with pytest.raises((HypervisorError, StorageError)):
                await pod.delete()
        pod.hypervisor.refuses_to_detach = False
        await pod.delete()
        assert store.read("p1").containers == {}
        assert pod.hypervisor.disks == set()

    asyncio.run(run())


def test_a_paused_container_is_resumed_before_it_is_stopped(store: Store, tmp_path: Path) -> None:
    async def run() -> None:
        pod = Pod(store, tmp_path)
        await pod.start()
        with pytest.raises(NotSupportedError, match="cannot be paused by the agent"):
            await pod.containers.pause(pod.machine, "c1")
        pod.agent.capabilities |= {AgentCapability.FREEZE}
        await pod.containers.pause(pod.machine, "c1")
        assert pod.ledger.container("c1").state is State.PAUSED
        await pod.containers.stop(pod.machine, "c1", 1.0)
        assert pod.agent.paused == [True, False]
        assert pod.ledger.container("c1").state is State.STOPPED

    asyncio.run(run())


def test_a_container_whose_pause_cannot_be_recorded_goes_on(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        pod = Pod(store, tmp_path)
        await pod.start()
        pod.agent.capabilities |= {AgentCapability.FREEZE}
        with monkeypatch.context() as patch:
            patch.setattr(files, "write_atomic", refuse)
            with pytest.raises(StorageError, match="No space"):
                await pod.containers.pause(pod.machine, "c1")
        assert pod.agent.paused == [True, False]
        pod.agent.end.set_result(0)

    asyncio.run(run())
