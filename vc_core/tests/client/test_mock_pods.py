"""The life of pods and containers, with drivers that need no virtual machine."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

import vc_core as vc
from vc_core import aio, sync
from vc_core.client import containers, deletion
from vc_core.client.interpreters import InThread, Operation, Step, run_blocking
from vc_core.client.pods import create_pod, run_pod
from vc_core.engine.engine import Engine
from vc_core.errors import PodNotFoundError, StateError, StorageError, VCError
from vc_core.host import quota
from vc_core.store import files
from vc_core.store.roots import Roots
from vc_core.store.store import Store
from vc_core.supervisor.messages import Answer
from waiting import PATIENCE


def test_a_pod_goes_from_ready_over_running_to_stopped_and_again(mock_config: Callable[..., vc.PodConfig]) -> None:
    pod = vc.create_pod(mock_config())
    states = [pod.status().state]
    for operation in (pod.start, pod.stop, pod.start, pod.stop):
        operation()
        states.append(pod.status().state)
    assert states == ["ready", "running", "stopped", "running", "stopped"]


def test_starting_a_running_pod_is_an_error_that_names_its_state(mock_config: Callable[..., vc.PodConfig]) -> None:
    pod = vc.run_pod(mock_config())
    with pytest.raises(StateError, match="pod 'p1' is running; starting it") as caught:
        pod.start()
    assert caught.value.state == "running"
    assert caught.value.wanted == ["ready", "stopped", "failed"]


@pytest.mark.parametrize("operation", ["stop", "enter"])
def test_a_pod_that_is_not_running_refuses(mock_config: Callable[..., vc.PodConfig], operation: str) -> None:
    pod = vc.create_pod(mock_config())
    with pytest.raises(StateError, match="pod 'p1' is ready"):
        pod.stop() if operation == "stop" else pod.enter_container("c1", vc.Cmd(args=["true"]))
    assert pod.status().state == "ready"


def test_a_running_pod_is_deleted_only_by_force(mock_config: Callable[..., vc.PodConfig]) -> None:
    pod = vc.run_pod(mock_config())
    with pytest.raises(StateError, match="without force"):
        pod.delete()
    pod.delete(force=True)
    assert vc.list_pods() == []


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("of", ["pod", "container"])
def test_what_is_deleted_gives_its_limits_back(
    mock_config: Callable[..., vc.PodConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, of: str, force: bool
) -> None:
    lifted: list[str] = []

    def lift(container: vc.ContainerConfig, pod: str) -> None:
        lifted.append(container.id)
        if len(lifted) == 1:
            raise StorageError("the size limit cannot be taken back")

    monkeypatch.setattr(quota, "lift", lift)
    mounts = [vc.Mount(str(tmp_path), "/data", False, size=1)]
    config = mock_config()
    pod = vc.create_pod(replace(config, containers=[replace(config.containers[0], mounts=mounts)]))
    delete = pod.delete if of == "pod" else pod.container("c1").delete
    if force and of == "pod":
        delete(force=True)  # whatever becomes of the limit
        return
    with pytest.raises(StorageError, match="cannot be taken back"):
        delete(force=force)
    assert [one.id for one in pod.status().containers] == ["c1"]
    delete(force=force)
    assert lifted == ["c1", "c1"]


def test_deleting_by_force_succeeds_when_the_client_of_the_aborted_start_deletes_the_pod_first(
    mock_config: Callable[..., vc.PodConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = vc.create_pod(mock_config())
    ask_to_stop = deletion._ask_to_stop

    def outrun(store: Store, pod_id: str, deadline: float) -> Operation[bool]:
        found = yield from ask_to_stop(store, pod_id, deadline)
        yield InThread(lambda: vc.delete_pod(pod_id))
        return found

    with monkeypatch.context() as patched:
        patched.setattr(deletion, "_ask_to_stop", outrun)
        pod.delete(force=True)
    assert vc.list_pods() == []
    with pytest.raises(PodNotFoundError):
        pod.delete(force=True)


def test_an_id_that_is_taken_is_refused_and_the_pod_untouched(mock_config: Callable[..., vc.PodConfig]) -> None:
    vc.run_pod(mock_config())
    with pytest.raises(vc.PodExistsError, match="'p1'"):
        vc.create_pod(mock_config())
    assert vc.status_pod("p1").state == "running"


def test_a_pod_without_an_id_gets_a_new_one(mock_config: Callable[..., vc.PodConfig]) -> None:
    assert len({vc.create_pod(mock_config("")).id for _ in range(3)}) == 3


def test_a_context_manager_stops_and_deletes(mock_config: Callable[..., vc.PodConfig]) -> None:
    with vc.run_pod(mock_config()) as pod:
        assert pod.status().state == "running"
    assert vc.list_pods() == []


def test_a_context_manager_deletes_what_does_not_stop_and_minds_no_pod_that_is_gone(
    mock_config: Callable[..., vc.PodConfig],
) -> None:
    with vc.run_pod(mock_config(fail_stop="stuck")):
        pass
    with vc.run_pod(mock_config()) as pod:
        pod.delete(force=True)
    assert vc.list_pods() == []


def test_entering_a_container_returns_how_the_command_ended(mock_config: Callable[..., vc.PodConfig]) -> None:
    with vc.run_pod(mock_config()) as pod:
        assert pod.enter_container("c1", vc.Cmd(args=["true"])) == vc.ExecResult(0)


def test_a_container_that_is_not_there_is_named_with_those_that_are(mock_config: Callable[..., vc.PodConfig]) -> None:
    unknown = pytest.raises(vc.ContainerNotFoundError, match="'c9'; it has 'c1', 'c2'")
    with vc.run_pod(mock_config(containers=2)) as pod, unknown:
        pod.enter_container("c9", vc.Cmd(args=["true"]))


def test_stopping_a_pod_ends_its_containers(mock_config: Callable[..., vc.PodConfig]) -> None:
    pod = vc.run_pod(mock_config(containers=2))
    assert [one.state for one in pod.status().containers] == ["running", "running"]
    pod.stop()
    assert [one.state for one in pod.status().containers] == ["stopped", "stopped"]


@pytest.mark.promise("T06")
@pytest.mark.parametrize("option", ["fail_prepare", "fail_start"])
def test_a_start_that_fails_leaves_the_pod_as_it_was_with_the_reason(
    mock_config: Callable[..., vc.PodConfig], option: str
) -> None:
    pod = vc.create_pod(mock_config(**{option: "no luck"}))
    with pytest.raises(VCError, match="no luck"):
        pod.start()
    assert pod.status().state == "ready"
    assert pod.status().reason == "its start failed: no luck"


def test_a_run_that_fails_deletes_the_pod(mock_config: Callable[..., vc.PodConfig]) -> None:
    with pytest.raises(VCError, match="no luck"):
        vc.run_pod(mock_config(fail_start="no luck"))
    assert vc.list_pods() == []


@pytest.mark.promise("T06")
def test_a_stop_that_fails_leaves_a_failed_pod_with_the_reason_that_force_deletes(
    mock_config: Callable[..., vc.PodConfig],
) -> None:
    pod = vc.run_pod(mock_config(fail_stop="stuck"))
    with pytest.raises(VCError, match="stuck"):
        pod.stop()
    assert pod.status().state == "failed"
    assert "stuck" in pod.status().reason
    pod.delete(force=True)
    assert vc.list_pods() == []


def test_an_engine_that_cannot_be_made_is_one_error_that_says_why(
    mock_config: Callable[..., vc.PodConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = vc.create_pod(mock_config())

    async def fail(*_: object) -> Engine:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "open", fail)
        with pytest.raises(vc.SupervisorError, match=r"failed unexpectedly: .*can't start new thread"):
            pod.start()
    pod.delete()


@pytest.mark.promise("T06")
def test_a_start_whose_undoing_fails_is_failed_and_can_be_tried_again(mock_config: Callable[..., vc.PodConfig]) -> None:
    pod = vc.create_pod(mock_config(fail_start="no luck", fail_stop="stuck"))
    with pytest.raises(VCError, match="no luck"):
        pod.start()
    assert pod.status().state == "failed"
    with pytest.raises(VCError, match="no luck"):
        pod.start()
    pod.delete(force=True)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (lambda: vc.PodConfig(hypervisor_type="nope"), "nope"),
        (lambda: vc.PodConfig(hypervisor_type="mock", agent_type="nope"), "nope"),
        (
            lambda: vc.PodConfig(
                hypervisor_type="mock", agent_type="noop", hypervisor_config=vc.HypervisorConfig(options={"colour": 1})
            ),
            "colour",
        ),
        (lambda: vc.PodConfig(hypervisor_type="mock", agent_type="hyperstart"), "needs channels"),
    ],
)
def test_what_could_never_start_is_refused_when_it_is_created(config: Callable[[], vc.PodConfig], message: str) -> None:
    with pytest.raises(VCError, match=message):
        vc.create_pod(config())
    assert vc.list_pods() == []


@pytest.mark.promise("T15")
def test_of_two_starts_at_once_exactly_one_wins(mock_config: Callable[..., vc.PodConfig]) -> None:
    pod = vc.create_pod(mock_config())
    outcomes: list[str] = []

    def start() -> None:
        try:
            pod.start()
            outcomes.append("started")
        except StateError:
            outcomes.append("refused")

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused"] * 3 + ["started"]


@pytest.mark.promise("T15")
def test_of_many_creations_of_one_id_exactly_one_wins(mock_config: Callable[..., vc.PodConfig]) -> None:
    outcomes: list[str] = []

    def create() -> None:
        try:
            vc.create_pod(mock_config())
            outcomes.append("created")
        except vc.PodExistsError:
            outcomes.append("refused")

    threads = [threading.Thread(target=create) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("created") == 1


@pytest.mark.promise("T01")
@pytest.mark.slow
def test_a_thousand_pods_live_and_go(mock_config: Callable[..., vc.PodConfig]) -> None:
    for number in range(1000):
        vc.create_pod(mock_config(f"p{number}", containers=0))
    assert len(vc.list_pods()) == 1000
    for number in range(1000):
        vc.delete_pod(f"p{number}")
    assert vc.list_pods() == []


def test_the_async_api_does_what_the_blocking_one_does(mock_config: Callable[..., vc.PodConfig]) -> None:
    async def main() -> None:
        async with await aio.run_pod(mock_config()) as pod:
            assert (await pod.status()).state == "running"
            assert (await pod.enter_container("c1", vc.Cmd(args=["true"]))).exit_code == 0
        assert await aio.list_pods() == []

    asyncio.run(main())


def test_the_blocking_api_works_inside_a_running_event_loop(mock_config: Callable[..., vc.PodConfig]) -> None:
    async def main() -> None:
        with vc.run_pod(mock_config()) as pod:
            assert pod.status().state == "running"

    asyncio.run(main())


def test_containers_come_and_go_one_by_one(mock_config: Callable[..., vc.PodConfig]) -> None:
    with vc.run_pod(mock_config()) as pod:
        added = pod.create_container(vc.ContainerConfig(id="c2", cmd=vc.Cmd(args=["sleep"])))
        states = [added.status().state]
        for operation in (added.start, added.stop, added.start, lambda: added.stop(force=True)):
            operation()
            states.append(added.status().state)
        assert states == ["ready", "running", "stopped", "running", "stopped"]
        added.delete()
        assert [one.id for one in pod.status().containers] == ["c1"]


def test_a_container_can_be_added_to_a_pod_that_does_not_run(mock_config: Callable[..., vc.PodConfig]) -> None:
    pod = vc.create_pod(mock_config())
    pod.create_container(vc.ContainerConfig(id="c2", cmd=vc.Cmd(args=["sleep"])))
    pod.start()
    assert [one.state for one in pod.status().containers] == ["running", "running"]
    pod.delete(force=True)


def test_a_container_id_can_be_used_once_in_a_pod(mock_config: Callable[..., vc.PodConfig]) -> None:
    pod = vc.create_pod(mock_config())
    with pytest.raises(vc.ContainerExistsError, match="'c1'"):
        pod.create_container(vc.ContainerConfig(id="c1"))


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (lambda one: one.start(), "pod 'p1' is ready; starting container 'c1'"),
        (lambda one: one.stop(), "pod 'p1' is ready; stopping container 'c1'"),
        (lambda one: one.wait(), "container 'c1' of pod 'p1' is ready; waiting"),
        (lambda one: one.enter(vc.Cmd(args=["ls"])), "pod 'p1' is ready; entering"),
    ],
)
def test_a_container_of_a_pod_that_does_not_run_refuses(
    mock_config: Callable[..., vc.PodConfig], operation: Callable[[vc.Container], object], message: str
) -> None:
    pod = vc.create_pod(mock_config())
    with pytest.raises(StateError, match=message):
        operation(pod.container("c1"))


@pytest.mark.parametrize(
    "operation",
    [
        lambda one: one.start(),
        lambda one: one.stop(),
        lambda one: one.wait(),
        lambda one: one.status(),
        lambda one: one.delete(),
        lambda one: one.enter(vc.Cmd(args=["ls"])),
    ],
)
def test_every_operation_names_a_container_that_is_not_there(
    mock_config: Callable[..., vc.PodConfig], operation: Callable[[vc.Container], object]
) -> None:
    with (
        vc.run_pod(mock_config()) as pod,
        pytest.raises(vc.ContainerNotFoundError, match="pod 'p1' has no container 'c9'; it has 'c1'"),
    ):
        operation(pod.container("c9"))


def test_a_running_container_is_deleted_only_by_force(mock_config: Callable[..., vc.PodConfig]) -> None:
    with vc.run_pod(mock_config()) as pod:
        with pytest.raises(StateError, match="without force"):
            pod.container("c1").delete()
        pod.container("c1").delete(force=True)
        assert pod.status().containers == ()


def test_every_wait_returns_the_exit_code(mock_config: Callable[..., vc.PodConfig]) -> None:
    codes: list[int] = []
    with vc.run_pod(mock_config()) as pod:
        waiters = [threading.Thread(target=lambda: codes.append(pod.container("c1").wait())) for _ in range(3)]
        for waiter in waiters:
            waiter.start()
        pod.container("c1").stop()
        for waiter in waiters:
            waiter.join(PATIENCE)
        assert codes == [pod.container("c1").wait()] * 3


def test_both_apis_have_the_same_names() -> None:
    assert {name for name in dir(sync) if not name.startswith("_")} == {
        name.replace("run_async", "run_blocking") for name in dir(aio) if not name.startswith("_")
    }
    functions = {
        name
        for name, value in vars(sync).items()
        if inspect.isfunction(value) and value.__module__ == sync.__name__ and not name.startswith("_")
    }
    assert functions <= set(vc.__all__)
    kinds = (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    assert all(any(kind(getattr(aio, name)) for kind in kinds) for name in functions)


def test_no_operation_on_a_pod_that_is_not_there_leaves_a_lock(roots: Roots) -> None:
    operations = (vc.start_pod, vc.stop_pod, vc.delete_pod, lambda pod_id: vc.delete_pod(pod_id, force=True))
    for operation in operations:
        with pytest.raises(vc.PodNotFoundError):
            operation("nope")
    assert [path for path in roots.state.rglob("*") if path.is_file()] == []


@pytest.mark.promise("T30")
@pytest.mark.slow
def test_a_creation_that_is_cancelled_at_any_moment_leaves_no_pod(mock_config: Callable[..., vc.PodConfig]) -> None:
    async def main() -> None:
        for number in range(20):
            call = asyncio.ensure_future(aio.run_pod(mock_config(f"p{number}")))
            await asyncio.wait({call}, timeout=number / 500)
            call.cancel()
            try:
                pod = await call
            except asyncio.CancelledError:
                continue
            await pod.delete(force=True)
        assert await aio.list_pods() == []

    asyncio.run(main())


@pytest.mark.promise("T30")
def test_a_creation_that_is_interrupted_at_any_step_leaves_no_pod(mock_config: Callable[..., vc.PodConfig]) -> None:
    for number in itertools.count():
        operation, answer = run_pod(mock_config(f"p{number}")), None
        try:
            for _ in range(number):
                answer = perform(operation.send(answer))
            perform(operation.send(answer))
            step = operation.throw(KeyboardInterrupt)
            while True:
                step = operation.send(perform(step))
        except StopIteration:
            break
        except KeyboardInterrupt:
            assert vc.list_pods() == []
    assert number > 1
    assert [one.id for one in vc.list_pods()] == [f"p{number}"]
    vc.delete_pod(f"p{number}", force=True)


def perform(step: Step) -> Any:
    def alone() -> Operation[Any]:
        return (yield step)

    return run_blocking(alone())


def test_status_shows_what_an_agent_warns_of_while_the_pod_runs(
    mock_config: Callable[..., vc.PodConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vc_agent_noop.agent import NoopAgent

    monkeypatch.setattr(NoopAgent, "warnings", property(lambda agent: ("it does nothing",)))
    pod = vc.run_pod(mock_config("p1"))
    assert pod.status().warnings == ("it does nothing",)
    assert ["pod", "warning", "it does nothing"] in [line.split(maxsplit=2) for line in shown("pod", "status", "p1")]
    pod.stop()
    assert pod.status().warnings == ()
    pod.delete()


def shown(*words: str) -> list[str]:
    from click.testing import CliRunner

    from vc_core.cli.main import virtc

    return CliRunner().invoke(virtc, words).output.splitlines()


@pytest.fixture
def disk_fills(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that lets only a number of further records be written."""
    write = files.write_atomic

    def fills(records: int) -> None:
        left = iter(range(records))

        def write_or_refuse(directory: Path, name: str, data: bytes) -> None:
            if next(left, None) is None:
                raise StorageError("No space left on device")
            write(directory, name, data)

        monkeypatch.setattr(files, "write_atomic", write_or_refuse)

    return fills


def test_a_start_that_fails_raises_its_own_error_though_its_undoing_cannot_be_recorded(
    mock_config: Callable[..., vc.PodConfig], disk_fills: Callable[[int], None]
) -> None:
    pod = vc.create_pod(mock_config(fail_prepare="no luck"))
    disk_fills(1)  # the intent to start
    with pytest.raises(VCError, match="no luck"):
        pod.start()
    disk_fills(100)
    with pytest.raises(VCError, match="no luck"):
        pod.start()
    assert pod.status().state == "ready"


def test_a_stop_that_fails_raises_its_own_error_though_that_cannot_be_recorded(
    mock_config: Callable[..., vc.PodConfig], disk_fills: Callable[[int], None]
) -> None:
    pod = vc.run_pod(mock_config(fail_stop="stuck"))
    disk_fills(1)  # the supervisor's own
    with pytest.raises(VCError, match="stuck"):
        pod.stop()
    disk_fills(100)
    pod.delete(force=True)


@pytest.mark.parametrize("code", [7, None])
def test_a_supervisors_answer_counts_though_the_record_still_has_the_container_running(
    mock_config: Callable[..., vc.PodConfig], roots: Roots, monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    vc.run_pod(mock_config())
    store = Store(roots)
    store.write(msgspec.structs.replace(store.read("p1"), supervised=True))
    monkeypatch.setattr(containers, "effective_record", lambda record: record)

    def ask(*_: object) -> Operation[Answer]:
        yield InThread(lambda: None)
        if code is None:
            raise StateError("it ended without an exit code", state="stopped", wanted=[])
        return Answer(exit_code=code)

    monkeypatch.setattr(containers, "ask", ask)
    if code is None:
        with pytest.raises(StateError, match="without an exit code"):
            vc.wait_container("p1", "c1")
    else:
        assert vc.wait_container("p1", "c1") == code


def test_a_creation_that_is_cancelled_raises_that_though_the_pod_cannot_be_removed(
    mock_config: Callable[..., vc.PodConfig],
) -> None:
    making = create_pod(mock_config())
    step = making.send(None)
    assert isinstance(step, InThread)
    step.function()
    step = making.throw(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        making.throw(StorageError("it stays"))


@pytest.mark.parametrize("timeout", [-1, 0, float("nan"), float("inf"), 1e9, "5", True])
def test_a_timeout_that_no_wait_can_take_is_refused_before_a_pod_is_made(
    mock_config: Callable[..., vc.PodConfig], timeout: Any
) -> None:
    with pytest.raises(vc.ConfigError, match=r"timeout is .*; give a number of seconds, more than 0 and at most"):
        vc.run_pod(mock_config(), timeout=timeout)
    assert vc.list_pods() == []


def test_a_pod_is_stopped_with_a_timeout_of_0_and_not_with_less(mock_config: Callable[..., vc.PodConfig]) -> None:
    pod = vc.run_pod(mock_config())
    with pytest.raises(vc.ConfigError, match="0 or more"):
        pod.stop(timeout=-1)
    pod.stop(timeout=0)
