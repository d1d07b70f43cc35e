"""Starting, stopping and deleting pods with a real virtual machine, and what their containers leave behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

import vc_core as vc
from vc_core import aio
from vc_core.store.store import Store
from vc_core.testing.slowness import scaled, within
from waiting import PATIENCE

from .conftest import container, pod_config, supervisors, virtc, virtc_path, vm_pid, vm_processes, wait_ended

pytestmark = [pytest.mark.vm, pytest.mark.root]


def wait_state(pod: vc.Pod, container_state: str, timeout: float = PATIENCE) -> vc.ContainerStatus:
    """Return the pod's first container once it is in a state."""
    end = time.monotonic() + timeout
    while (one := pod.status().containers[0]).state != container_state:
        assert time.monotonic() < end, f"the container is still {one.state}"
        threading.Event().wait(0.02)
    return one


def test_a_pod_lives_stops_and_lives_again(bundle: Path, store: Store) -> None:
    config = pod_config(
        id="twice", containers=[container(bundle, "sh", "-c", "echo started; echo oops >&2; sleep 0.1; exit 5")]
    )
    pod = vc.create_pod(config)
    assert pod.status().state == "ready"
    for _ in range(2):
        pod.start()
        one = wait_state(pod, "stopped")
        assert one.exit_code == 5
        assert pod.status().state == "running", "a pod stays running whatever its containers do"
        vm = vm_pid(store, "twice")
        pod.stop()
        assert wait_ended(vm, 0)
        assert supervisors("twice") == []
    assert sorted(Path(one.log_path).read_text(encoding="utf-8").splitlines()) == ["oops", "oops", "started", "started"]
    assert not (store.roots.pod_run_dir("twice") / "supervisor.sock").exists()
    pod.delete()
    assert not Path(one.log_path).exists()
    assert vc.list_pods() == []


def test_the_foreground_has_input_output_and_the_exit_code(bundle: Path) -> None:
    done = virtc(
        "pod", "run", "-i", "--rm", "--bundle", str(bundle), "--", "sh", "-c", "cat; echo e >&2; exit 3", stdin=b"abc"
    )
    assert (done.stdout, done.stderr, done.returncode) == (b"abc", b"e\n", 3)
    assert vc.list_pods() == []


def test_an_interrupted_foreground_ends_with_its_container_and_is_deleted(bundle: Path) -> None:
    command = [virtc_path(), "pod", "run", "-i", "--rm", "--id", "fg", "--bundle", str(bundle), "--"]
    with subprocess.Popen([*command, "sh", "-c", "echo up; exec sleep 1000"], stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"up\n"
        client.send_signal(signal.SIGINT)
        assert client.wait(PATIENCE) == 128 + signal.SIGINT
    assert vc.list_pods() == []


def test_a_killed_foreground_leaves_its_container_running_into_the_log(bundle: Path) -> None:
    command = [virtc_path(), "pod", "run", "-i", "--id", "orphan", "--bundle", str(bundle), "--"]
    script = "echo up; i=0; while :; do i=$((i+1)); echo line $i; usleep 50000; done"
    with subprocess.Popen([*command, "sh", "-c", script], stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"up\n"
        client.kill()
    pod = vc.Pod("orphan")
    log = Path(pod.status().containers[0].log_path)
    end = time.monotonic() + PATIENCE
    while log.stat().st_size == 0:
        assert time.monotonic() < end
        threading.Event().wait(0.02)
    assert pod.status().containers[0].state == "running"
    pod.delete(force=True)


def test_two_containers_of_a_pod_share_processes_but_not_files(bundle: Path) -> None:
    config = pod_config(containers=[container(bundle), container(bundle, "sleep", "777", container_id="c2")])
    with vc.run_pod(config) as pod:
        pod.enter_container("c1", vc.Cmd(args=["touch", "/tmp/mine"]))
        assert pod.enter_container("c2", vc.Cmd(args=["ls", "/tmp"])).stdout == b""
        assert b"sleep 777" in pod.enter_container("c1", vc.Cmd(args=["ps", "-o", "args"])).stdout


def test_a_pod_stops_while_commands_run_in_it_and_they_end(bundle: Path) -> None:
    """The guest sends SIGTERM to every process; one that ignores it ends with the machine."""
    pod = vc.run_pod(pod_config(id="amid", containers=[container(bundle)]))
    outcomes: list[object] = []

    def enter(script: str) -> None:
        try:
            outcomes.append(pod.enter_container("c1", vc.Cmd(args=["sh", "-c", script])).exit_code)
        except vc.VCError as error:
            outcomes.append(type(error))

    scripts = ["exec sleep 1111", "trap '' TERM; while :; do sleep 1111; done"]
    threads = [threading.Thread(target=enter, args=[script]) for script in scripts]
    for thread in threads:
        thread.start()
    while pod.enter_container("c1", vc.Cmd(args=["ps", "-o", "args"])).stdout.splitlines().count(b"sleep 1111") < 2:
        pass
    pod.stop()
    for thread in threads:
        thread.join(PATIENCE)
    assert 128 + signal.SIGTERM in outcomes
    assert len(outcomes) == 2
    assert set(outcomes) <= {128 + signal.SIGTERM, 128 + signal.SIGKILL, vc.HypervisorError}
    pod.delete()


@pytest.mark.promise("T15")
@pytest.mark.hypervisors("qemu")  # the race is between supervisors; mock pods race in the core's own tests
def test_of_two_starts_at_once_one_wins_and_there_is_one_machine(bundle: Path, store: Store) -> None:
    pod = vc.create_pod(pod_config(id="race", containers=[container(bundle)]))
    outcomes: list[str] = []

    def start() -> None:
        try:
            pod.start()
            outcomes.append("started")
        except vc.StateError:
            outcomes.append("refused")

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused", "started"]
    deadline = time.monotonic() + PATIENCE
    while len(supervisors("race")) > 1:  # the one that did not get the pod's lock ends
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(supervisors("race")) == 1
    pod.delete(force=True)


@pytest.mark.promise("T04")
def test_a_machine_that_is_killed_is_noticed_within_a_second(bundle: Path, store: Store, hypervisor: str) -> None:
    pod = vc.run_pod(pod_config(id="killed", containers=[container(bundle)]))
    failures: list[BaseException] = []

    def enter() -> None:
        try:
            pod.enter_container("c1", vc.Cmd(args=["sleep", "1000"]))
        except vc.VCError as error:
            failures.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    while b"sleep 1000" not in pod.enter_container("c1", vc.Cmd(args=["ps", "-o", "args"])).stdout.splitlines():
        pass
    supervisor = supervisors("killed")[0]
    os.kill(vm_pid(store, "killed"), signal.SIGKILL)
    with within(1):  # a call that was under way must fail at once
        thread.join(PATIENCE)
    assert isinstance(failures[0], vc.HypervisorError)
    assert wait_ended(supervisor)
    status = pod.status()
    assert status.state == "stopped"
    assert "the VM of pod 'killed' ended: " in status.containers[0].reason
    # Only the parent of a process learns how it ended, and that of libvirt's machines is no process of the pod.
    assert ("QEMU ended" if hypervisor == "libvirt" else "was killed by SIGKILL") in status.reason
    assert status.containers[0].state == "stopped"
    pod.start()  # a stopped pod starts again
    assert pod.enter_container("c1", vc.Cmd(args=["echo", "again"])).stdout == b"again\n"
    pod.delete(force=True)


@pytest.mark.promise("T04")
def test_status_finds_out_itself_that_a_machine_has_ended(bundle: Path, store: Store) -> None:
    pod = vc.run_pod(pod_config(id="gone", containers=[container(bundle)]))
    vm, supervisor = vm_pid(store, "gone"), supervisors("gone")[0]
    os.kill(supervisor, signal.SIGKILL)
    assert wait_ended(supervisor)
    os.kill(vm, signal.SIGKILL)
    assert wait_ended(vm)
    before = (store.roots.pod_state_dir("gone") / "state.json").read_bytes()
    assert pod.status().state == "stopped"
    assert (store.roots.pod_state_dir("gone") / "state.json").read_bytes() == before, "status must not write"
    pod.delete()
    assert vc.list_pods() == []


def test_a_new_supervisor_takes_over_from_one_that_was_killed(bundle: Path, store: Store) -> None:
    script = "trap 'exit 42' TERM; echo up; while :; do usleep 20000; done"
    pod = vc.run_pod(
        pod_config(
            id="adopted", containers=[container(bundle), container(bundle, "sh", "-c", script, container_id="c2")]
        )
    )
    vm, supervisor = vm_pid(store, "adopted"), supervisors("adopted")[0]
    lost: list[BaseException] = []

    def enter() -> None:
        try:
            pod.enter_container("c1", vc.Cmd(args=["sleep", "999"]))
        except vc.VCError as error:
            lost.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    while b"sleep 999" not in pod.enter_container("c1", vc.Cmd(args=["ps", "-o", "args"])).stdout.splitlines():
        pass
    os.kill(supervisor, signal.SIGKILL)
    assert wait_ended(supervisor)
    thread.join(PATIENCE)
    assert isinstance(lost[0], vc.SupervisorLostError), "a command in flight must not end silently"

    with within(2):
        result = pod.enter_container("c1", vc.Cmd(args=["ps", "-o", "args"]))
    assert b"sleep 100000" in result.stdout.splitlines()
    assert vm_pid(store, "adopted") == vm, "the machine must be the same"
    assert len(supervisors("adopted")) == 1
    # The command of the lost client has no reader any more; it must not run for ever.
    assert b"sleep 999" not in pod.enter_container("c1", vc.Cmd(args=["ps", "-o", "args"])).stdout.splitlines()
    # The exit code of a container that the former supervisor started arrives at the new one.
    pod.enter_container(
        "c1", vc.Cmd(args=["sh", "-c", "kill -TERM $(ps -o pid,args | awk '/[t]rap/ {print $1; exit}')"])
    )
    end = time.monotonic() + PATIENCE
    while pod.status().containers[1].state == "running":
        assert time.monotonic() < end
        threading.Event().wait(0.02)
    assert pod.status().containers[1].exit_code == 42
    pod.stop()
    pod.delete()


def test_a_new_supervisor_takes_over_under_load(bundle: Path, store: Store) -> None:
    """Three times killed while a container floods its log and commands come and go."""
    flood = "i=0; while :; do i=$((i+1)); echo line $i of a log that never ends; done"
    config = pod_config(
        id="loaded", containers=[container(bundle), container(bundle, "sh", "-c", flood, container_id="c2")]
    )
    pod = vc.run_pod(config)
    vm, ending = vm_pid(store, "loaded"), threading.Event()
    surprises: list[BaseException] = []

    def work() -> None:
        while not ending.is_set():
            try:
                if pod.enter_container("c1", vc.Cmd(args=["echo", "x"])).stdout != b"x\n":
                    raise AssertionError("output was lost without an error")
            except vc.SupervisorLostError:
                continue
            except BaseException as error:
                surprises.append(error)
                return

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for _ in range(3):
        assert pod.enter_container("c1", vc.Cmd(args=["echo", "y"])).stdout == b"y\n"
        for supervisor in supervisors("loaded"):
            os.kill(supervisor, signal.SIGKILL)
            assert wait_ended(supervisor)
    with within(4):
        assert pod.enter_container("c1", vc.Cmd(args=["echo", "z"])).stdout == b"z\n"
    ending.set()
    for worker in workers:
        worker.join(PATIENCE)
    assert surprises == []
    assert vm_pid(store, "loaded") == vm
    assert [one.state for one in pod.status().containers] == ["running", "running"]
    pod.stop()


def test_a_failed_pod_whose_machine_still_runs_can_be_started_again_and_has_one_machine(
    bundle: Path, store: Store
) -> None:
    pod = vc.run_pod(pod_config(id="again", containers=[container(bundle)]))
    vm, supervisor = vm_pid(store, "again"), supervisors("again")[0]
    os.kill(supervisor, signal.SIGKILL)
    assert wait_ended(supervisor)
    path = store.roots.pod_state_dir("again") / "state.json"
    path.write_text(
        path.read_text(encoding="utf-8").replace('"state": "running"', '"state": "failed"', 1), encoding="utf-8"
    )
    with pytest.raises(vc.StateError, match="its VM still runs"):
        pod.delete()
    pod.start()
    assert wait_ended(vm, 0)
    assert pod.enter_container("c1", vc.Cmd(args=["echo", "new"])).stdout == b"new\n"
    assert len(supervisors("again")) == 1


@pytest.mark.promise("T30")
def test_an_interrupted_start_leaves_a_ready_pod_and_no_machine(bundle: Path, store: Store) -> None:
    pod = vc.create_pod(pod_config(id="halted", containers=[container(bundle)]))
    with subprocess.Popen([virtc_path(), "pod", "start", "halted"], stderr=subprocess.PIPE) as client:
        end = time.monotonic() + PATIENCE
        while store.read("halted").vm is None:
            assert time.monotonic() < end
            threading.Event().wait(0.01)
        supervisor = supervisors("halted")[0]
        client.send_signal(signal.SIGINT)
        assert client.wait(PATIENCE) == 130
    assert wait_ended(supervisor)
    assert pod.status().state == "ready"
    pod.delete()


@pytest.mark.promise("T03")
def test_a_supervisor_killed_during_a_start_leaves_nothing_that_runs(bundle: Path, store: Store) -> None:
    pod = vc.create_pod(pod_config(id="half", containers=[container(bundle)]))
    run_dir = store.roots.pod_run_dir("half")
    with subprocess.Popen([virtc_path(), "pod", "start", "half"], stderr=subprocess.PIPE) as client:
        end = time.monotonic() + PATIENCE
        while store.read("half").vm is None:
            assert time.monotonic() < end
            threading.Event().wait(0.01)
        vm = vm_pid(store, "half")
        for supervisor in supervisors("half"):
            os.kill(supervisor, signal.SIGKILL)
        assert client.wait(PATIENCE) == 1
    assert run_dir.exists()
    pod.start()  # the half-started machine is killed first: never two
    assert wait_ended(vm, 0)
    assert vm_pid(store, "half") != vm
    pod.delete(force=True)


def test_a_stopped_vm_is_killed_when_it_does_not_answer(bundle: Path, store: Store) -> None:
    pod = vc.run_pod(pod_config(id="frozen", containers=[container(bundle)]))
    vm = vm_pid(store, "frozen")
    for pid in vm_processes(store, "frozen"):
        os.kill(pid, signal.SIGSTOP)
    with within(1):  # listing must not wait for a machine
        assert [one.state for one in vc.list_pods()] == ["running"]
    with within(10):
        pod.stop(timeout=3)
    assert wait_ended(vm, 0)
    pod.delete()


def test_a_frozen_supervisor_does_not_keep_force_from_deleting(bundle: Path, store: Store) -> None:
    pod = vc.run_pod(pod_config(id="ice", containers=[container(bundle)]))
    vm, supervisor = vm_pid(store, "ice"), supervisors("ice")[0]
    os.kill(supervisor, signal.SIGSTOP)
    pod.delete(force=True)
    assert wait_ended(vm, 0)
    assert wait_ended(supervisor, 0)
    assert vc.list_pods() == []


def test_async_pods_are_the_same_pods(bundle: Path) -> None:
    async def main() -> None:
        async with await aio.run_pod(pod_config(containers=[container(bundle)])) as pod:
            results = await asyncio.gather(
                *(pod.enter_container("c1", vc.Cmd(args=["cat"]), stdin=str(n).encode()) for n in range(5))
            )
            assert [result.stdout for result in results] == [b"0", b"1", b"2", b"3", b"4"]
            task = asyncio.ensure_future(pod.enter_container("c1", vc.Cmd(args=["sleep", "888"])))
            await asyncio.wait({task}, timeout=0.5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            gone = "for i in $(seq 1000); do ps -o args | grep -q 'sleep [8]88' || exit 0; usleep 50000; done; exit 1"
            assert (await pod.enter_container("c1", vc.Cmd(args=["sh", "-c", gone]))).exit_code == 0
        assert await aio.list_pods() == []

    asyncio.run(main())


def test_a_supervisor_that_cannot_be_started_is_an_error_with_the_reason(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = vc.create_pod(pod_config(id="unstartable", containers=[container(bundle)]))
    (tmp_path / "unshare").write_text("#!/bin/sh\necho 'unshare: no namespaces today' >&2\nexit 1\n", encoding="utf-8")
    (tmp_path / "unshare").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(vc.SupervisorError, match="unshare: no namespaces today"):
        pod.start()
    assert pod.status().state == "ready"


def test_a_supervisor_that_crashes_while_it_starts_is_quoted(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = vc.create_pod(pod_config(id="crash", containers=[container(bundle)]))
    (tmp_path / "asyncio.py").write_text("raise RuntimeError('no event loop today')", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(vc.SupervisorError, match="no event loop today"):
        pod.start()


@pytest.mark.hypervisors("qemu")
@pytest.mark.parametrize("machine", ["pc", "microvm"])
def test_a_pod_runs_on_the_other_machines_too(bundle: Path, machine: str) -> None:
    options = {"machine": machine}
    config = pod_config(hypervisor_config=vc.HypervisorConfig(options=options), containers=[container(bundle)])
    with vc.run_pod(config) as pod:
        assert pod.enter_container("c1", vc.Cmd(args=["echo", "x"])).stdout == b"x\n"


@pytest.mark.hypervisors("qemu")
@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (vc.HypervisorConfig(options={"machine": "isapc"}), "'isapc'; give q35, pc or microvm"),
        (vc.HypervisorConfig(hypervisor_path="/usr/bin/qemu-system-aarch64"), "is not QEMU for this host"),
        (vc.HypervisorConfig(hypervisor_params=[vc.Param("-monitor", "stdio")]), "'-monitor' is not allowed"),
    ],
)
def test_a_machine_that_cannot_be_is_refused(bundle: Path, wanted: vc.HypervisorConfig, message: str) -> None:
    with pytest.raises(vc.ConfigError, match=message):
        vc.run_pod(pod_config(hypervisor_config=wanted, containers=[container(bundle)]))
    assert vc.list_pods() == []


@pytest.mark.hypervisors("qemu")
def test_a_pod_that_is_to_be_removed_goes_with_its_container_although_virtc_was_killed(bundle: Path) -> None:
    command = [virtc_path(), "pod", "run", "-i", "--rm", "--id", "orphan", "--bundle", str(bundle), "--"]
    with subprocess.Popen([*command, "sh", "-c", "echo up; exec sleep 3"], stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"up\n"
        children = Path(f"/proc/{client.pid}/task/{client.pid}/children").read_text(encoding="ascii").split()
        client.kill()
    assert vc.status_container("orphan", "1").state == "running"
    assert all(wait_ended(int(child), scaled(30)) for child in children), "the one that stands by goes on"
    assert not [one.id for one in vc.list_pods() if one.id == "orphan"]
