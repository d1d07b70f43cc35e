"""What happens to running pods from outside: frozen processes, wiped directories, a full disk, many clients."""

from __future__ import annotations

import io
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import older
import vc_core as vc
from vc_core.client import kept_links
from vc_core.store.roots import ROOT_VARIABLE, Roots
from vc_core.store.store import Store
from vc_core.supervisor import wire
from vc_core.testing.slowness import scaled, within
from waiting import PATIENCE, wait_until

from .conftest import container, pod_config, supervisors, virtc, virtc_path, vm_pid, vm_processes, wait_ended

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.hypervisors("qemu")]


def send(signum: int, *pids: int) -> None:
    for pid in pids:
        os.kill(pid, signum)


@contextmanager
def hanging_start(pod_id: str, bundle: Path, store: Store) -> Iterator[None]:
    """Have a client that starts a pod, whose QEMU is frozen meanwhile; the client must end with the block."""
    vc.create_pod(pod_config(id=pod_id, containers=[container(bundle)]))
    with subprocess.Popen([virtc_path(), "pod", "start", pod_id], stderr=subprocess.PIPE) as client:
        wait_until(lambda: store.read(pod_id).vm)
        send(signal.SIGSTOP, *vm_processes(store, pod_id))
        yield
        assert client.wait(PATIENCE) == 1
        assert client.stderr is not None
        assert b"aborted: the pod was stopped" in client.stderr.read()


def freeze(store: Store, pod_id: str, who: str) -> None:
    if "supervisor" in who:
        send(signal.SIGSTOP, *supervisors(pod_id))
    if "QEMU" in who:
        send(signal.SIGSTOP, *vm_processes(store, pod_id))
    if "launcher" in who:
        send(signal.SIGSTOP, vm_pid(store, pod_id))
    if "dead" in who:
        supervisor = supervisors(pod_id)[0]
        send(signal.SIGKILL, supervisor)
        assert wait_ended(supervisor)
    if "wiped" in who:
        shutil.rmtree(store.roots.run)


@pytest.mark.promise("T05")
@pytest.mark.parametrize(
    "state",
    [
        "supervisor frozen",
        "QEMU frozen",
        "supervisor and QEMU frozen",
        "QEMU frozen, its watcher dead",
        "launcher frozen",
        "run root wiped",
        "starting",
    ],
)
def test_delete_by_force_takes_at_most_5_s_in_every_state(bundle: Path, store: Store, state: str) -> None:
    with ExitStack() as stack:
        if state == "starting":
            stack.enter_context(hanging_start("forced", bundle, store))
        else:
            vc.run_pod(pod_config(id="forced", containers=[container(bundle)]))
        vm, watchers = vm_pid(store, "forced"), supervisors("forced")
        saved: Any = store.read("forced").saved_hypervisor
        freeze(store, "forced", state)
        with within(5):
            vc.delete_pod("forced", force=True)
        assert all(wait_ended(pid, 0) for pid in (vm, *watchers))
        assert not any(map(os.path.exists, saved["cgroups"]))
        assert "forced" not in [one.id for one in vc.list_pods()]


@pytest.mark.promise("T05")
@pytest.mark.parametrize(
    ("state", "force", "seconds"),
    [
        ("supervisor frozen", True, 5),
        ("QEMU frozen", True, 5),
        ("supervisor and QEMU frozen", True, 5),
        ("supervisor frozen", False, 10),
        ("supervisor and QEMU frozen", False, 10),
    ],
)
def test_a_pod_whose_processes_are_frozen_is_stopped_in_time(
    bundle: Path, store: Store, state: str, force: bool, seconds: float
) -> None:
    pod = vc.run_pod(pod_config(id="frozen", containers=[container(bundle)]))
    vm, watchers = vm_pid(store, "frozen"), supervisors("frozen")
    saved: Any = store.read("frozen").saved_hypervisor
    freeze(store, "frozen", state)
    with within(seconds):
        pod.stop(force=force)
    assert all(wait_ended(pid, 0) for pid in (vm, *watchers))
    assert not any(map(os.path.exists, saved["cgroups"]))
    status = pod.status()
    assert (status.state, status.reason) == ("stopped", "")
    pod.delete()


@pytest.mark.promise("T05")
@pytest.mark.parametrize("force", [True, False])
def test_any_client_aborts_a_start_that_hangs_within_5_s(bundle: Path, store: Store, force: bool) -> None:
    with hanging_start("hanging", bundle, store), within(5):
        vc.stop_pod("hanging", force=force)
    assert vc.status_pod("hanging").state == "ready"
    vc.delete_pod("hanging")


@pytest.mark.promise("T04")
def test_a_start_whose_vm_is_killed_fails_within_a_second_with_that_reason(bundle: Path, store: Store) -> None:
    boots = vc.HypervisorConfig(template=False)  # instead of a clone that dies, the pod would boot
    vc.create_pod(pod_config(id="dying", hypervisor_config=boots, containers=[container(bundle)]))
    with subprocess.Popen([virtc_path(), "pod", "start", "dying"], stderr=subprocess.PIPE) as client:
        wait_until(lambda: store.read("dying").vm)
        doomed = vm_processes(store, "dying")
        send(signal.SIGSTOP, *doomed)
        send(signal.SIGKILL, *doomed)
        with within(1):
            assert client.wait(PATIENCE) == 1
        assert client.stderr is not None
        assert b"SIGKILL" in client.stderr.read()
    status = vc.status_pod("dying")
    assert status.state == "ready"
    assert "SIGKILL" in status.reason
    vc.delete_pod("dying")


@pytest.mark.promise("T04")
def test_a_stop_ends_within_a_second_when_the_vm_is_killed_meanwhile(bundle: Path, store: Store) -> None:
    stubborn = "trap 'echo asked' TERM; echo ready; while :; do sleep 0.1; done"
    pod = vc.run_pod(pod_config(id="dying", containers=[container(bundle, "sh", "-c", stubborn)]))
    log, doomed = Path(pod.status().containers[0].log_path), vm_processes(store, "dying")
    stop = threading.Thread(target=pod.stop)
    wait_until(lambda: b"ready" in log.read_bytes())
    stop.start()
    wait_until(lambda: b"asked" in log.read_bytes())
    send(signal.SIGKILL, *doomed)
    with within(1):
        stop.join(PATIENCE)
    assert pod.status().state == "stopped"
    pod.delete()


@pytest.mark.promise("T27")
def test_a_running_pod_that_an_older_version_has_recorded_is_taken_over_stopped_and_deleted(
    bundle: Path, store: Store
) -> None:
    ended = container(bundle, "sh", "-c", "exit 3", container_id="ended")
    pod = vc.run_pod(pod_config(id="older", containers=[container(bundle, container_id="c"), ended]))
    assert vc.wait_container("older", "ended") == 3
    vm = vm_pid(store, "older")
    freeze(store, "older", "dead supervisor")
    assert older.rewrite(store.roots.pod_state_dir("older"))
    assert pod.enter_container("c", vc.Cmd(args=["echo", "here"])).stdout == b"here\n"
    assert vm_pid(store, "older") == vm
    assert [one.exit_code for one in pod.status().containers] == [None, 3]
    pod.stop()
    assert wait_ended(vm)
    pod.delete()


@pytest.mark.promise("T09")
def test_a_pod_whose_run_directory_was_wiped_is_reached_again_and_its_containers_run_on(
    bundle: Path, store: Store
) -> None:
    pod = vc.run_pod(pod_config(id="wiped", containers=[container(bundle)]))
    before = supervisors("wiped")
    for wiped in (store.roots.pod_run_dir("wiped"), store.roots.run):
        shutil.rmtree(wiped)
        kept_links.close_all()  # as another program, which has no connection yet
        with within(5):
            assert pod.enter_container("c1", vc.Cmd(args=["echo", "here"])).stdout == b"here\n"
        kept_links.close_all()
        (store.roots.pod_run_dir("wiped") / wire.SOCKET_NAME).unlink()
        with within(5):
            assert pod.status().containers[0].state == "running"
            assert pod.enter_container("c1", vc.Cmd(args=["true"])).exit_code == 0
    wait_until(lambda: supervisors("wiped") == before)  # one that a client started waits for the lock for a second
    pod.stop()
    pod.start()
    pod.delete(force=True)


def test_a_vm_whose_pod_was_removed_with_all_roots_is_ended_by_its_supervisor(bundle: Path, store: Store) -> None:
    vc.run_pod(pod_config(id="removed", containers=[container(bundle)]))
    vm, supervisor = vm_pid(store, "removed"), supervisors("removed")[0]
    for directory in (store.roots.pod_run_dir("removed"), store.roots.pod_state_dir("removed")):
        shutil.rmtree(directory)
    assert wait_ended(vm)
    assert wait_ended(supervisor)
    assert not store.roots.pod_run_dir("removed").exists()
    store.roots.pod_lock("removed").unlink(missing_ok=True)


def test_repair_lists_what_disagrees_and_mends_it_when_it_is_asked_to(bundle: Path, store: Store) -> None:
    for pod_id in ("alone", "ended"):
        vc.run_pod(pod_config(id=pod_id, containers=[container(bundle)]))
    assert vc.repair() == []
    for pod_id in ("alone", "ended"):
        freeze(store, pod_id, "dead")
    send(signal.SIGKILL, vm := vm_pid(store, "ended"))
    assert wait_ended(vm)
    stray = store.roots.pod_run_dir("stray")
    stray.mkdir()
    wanted = [
        ("alone", "its VM runs without a supervisor"),
        ("ended", "its record says running, but the VM ended while nothing watched it"),
        ("stray", f"{str(stray)!r} belongs to no pod"),
    ]
    for apply in (False, True):
        found = vc.repair(apply=apply)
        assert [(one.pod, one.found, one.mended) for one in found] == [(*one, apply) for one in wanted]
    assert vc.repair() == []
    assert store.read("ended").state == "stopped"
    assert len(supervisors("alone")) == 1
    assert not stray.exists()
    (store.roots.pod_state_dir("ended") / "state.json").write_bytes(b"{")
    done = virtc("repair", "--apply")
    assert done.returncode == 1
    assert b"if that stays, 'virtc pod delete --force ended' removes the pod" in done.stdout
    for pod_id in ("alone", "ended"):
        vc.delete_pod(pod_id, force=True)
    assert virtc("repair").stdout == b"Records, processes and files of all pods agree.\n"


@contextmanager
def silent_client(store: Store, pod_id: str) -> Iterator[socket.socket]:
    """Connect to a pod's supervisor, which greets, and send nothing."""
    directory = os.open(store.roots.pod_run_dir(pod_id), os.O_RDONLY)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect(wire.socket_path(directory))
        os.close(directory)
        yield sock


def test_a_pod_stops_while_a_silent_client_is_connected_and_while_it_is_started_again(
    bundle: Path, store: Store
) -> None:
    pod = vc.run_pod(pod_config(id="again", containers=[container(bundle)]))
    supervisor = supervisors("again")[0]
    with silent_client(store, "again") as sock, within(5):
        pod.stop(force=True)
        assert wait_ended(supervisor)
        assert b"Greeting" in sock.recv(wire.PACKET_MAX)
        assert b"SupervisorLeavingError" in sock.recv(wire.PACKET_MAX)
    pod.start()
    errors: list[vc.VCError] = []
    ended = threading.Event()

    def keep_running() -> None:
        while not ended.is_set():
            try:
                pod.start()
            except vc.StateError:  # it runs, or its start was aborted
                continue
            except vc.VCError as error:
                errors.append(error)

    starter = threading.Thread(target=keep_running)
    starter.start()
    for _ in range(3):
        with within(10):
            pod.stop(force=True)
        wait_until(lambda: pod.status().state == "running")
    ended.set()
    starter.join()
    assert errors == []
    pod.delete(force=True)


#: What one process does for some seconds: operations at random, refused only for reasons that another process gives.
#: None is a delete by force, which kills a supervisor that does not stop within seconds: a start may lose it. On a busy
#: host the others may hold a pod's lock for longer than one waits for it.
_RACE = """
import random, sys, time
import vc_core as vc

dice, end = random.Random(int(sys.argv[1])), time.monotonic() + float(sys.argv[2])
root = vc.ContainerConfig(id="c1", root_fs=sys.argv[3], cmd=vc.Cmd(args=["sleep", "1000"]))
operations = [
    lambda pod_id: vc.create_pod(vc.PodConfig(id=pod_id, hypervisor_type="qemu", containers=[root])),
    vc.start_pod,
    vc.start_pod,
    lambda pod_id: vc.stop_pod(pod_id, force=True),
    vc.delete_pod,
]
while time.monotonic() < end:
    try:
        dice.choice(operations)(f"race{dice.randrange(2)}")
    except (vc.PodNotFoundError, vc.PodExistsError, vc.StateError, vc.BusyError):
        pass
"""


@pytest.mark.promise("T15")
def test_processes_that_race_on_the_same_pods_meet_no_supervisor_that_went_away(bundle: Path) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _RACE, str(seed), str(scaled(10)), str(bundle)],
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        for seed in range(3)
    ]
    errors = [worker.communicate(timeout=2 * PATIENCE)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 3, "\n".join(errors)
    for pod in vc.list_pods():
        vc.delete_pod(pod.id, force=True)


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Have the roots on a file system of 16 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "small", place], check=True)
    monkeypatch.setenv(ROOT_VARIABLE, str(place / "root"))
    yield place
    for pod in vc.list_pods():
        vc.delete_pod(pod.id, force=True)
    subprocess.run(["umount", place], check=True)


def fill(file: io.FileIO, piece: bytes) -> None:
    while True:
        file.write(piece)


@contextmanager
def full(place: Path) -> Iterator[None]:
    """Fill a file system up to the last byte."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file:
        for piece in (b"x" * 65536, b"x" * 4096, b"x"):
            with pytest.raises(OSError, match="No space left"):
                fill(file, piece)
    yield
    filler.unlink()


@pytest.mark.promise("T13")
def test_a_container_that_ends_while_the_disk_is_full_is_waited_for_and_recorded_when_there_is_room(
    bundle: Path, small_disk: Path
) -> None:
    go_on = "go() { until test -e /tmp/$1; do sleep 0.1; done; }; "
    steps = f"{go_on} go 1; yes | head -c 20000; touch /tmp/lost; go 2; echo end; go 3; exit 7"
    pod = vc.run_pod(pod_config(id="full", containers=[container(bundle, "sh", "-c", steps)]))
    log = Path(pod.status().containers[0].log_path)

    def go(step: int) -> None:
        pod.enter_container("c1", vc.Cmd(args=["touch", f"/tmp/{step}"]))

    with full(small_disk):
        go(1)
        wait_until(lambda: pod.enter_container("c1", vc.Cmd(args=["test", "-e", "/tmp/lost"])).exit_code == 0)
    go(2)
    line = b"[virtcontainers: 20000 bytes of output are missing here: the disk did not take them]\n"
    wait_until(lambda: log.read_bytes() == line + b"end\n")
    with full(small_disk):
        go(3)
        with within(10):
            assert vc.wait_container("full", "c1") == 7
            assert vc.wait_pod("full") == {"c1": 7}
    wait_until(lambda: pod.status().containers[0].exit_code == 7)
    vc.start_container("full", "c1")
    assert pod.status().containers[0].exit_code is None
    with full(small_disk):
        for step in (1, 2, 3):
            go(step)
        assert vc.wait_container("full", "c1") == 7
        with within(10):
            pod.stop()
        assert pod.status().state == "stopped"
    wait_until(lambda: pod.status().containers[0].exit_code == 7)  # its supervisor is gone
    assert (pod.status().state, pod.status().reason) == ("stopped", "")
    pod.start()
    with full(small_disk):
        pod.stop(force=True)
        pod.delete()
    assert vc.list_pods() == []


@pytest.mark.promise("T13")
def test_a_container_whose_end_the_disk_refuses_is_started_or_deleted_unless_the_disk_refuses_that_too(
    bundle: Path, small_disk: Path
) -> None:
    waits = ("sh", "-c", "until test -e /tmp/go; do sleep 0.1; done")
    config = pod_config(
        id="ended", containers=[container(bundle, *waits), container(bundle, *waits, container_id="c2")]
    )
    pod = vc.run_pod(config)
    with full(small_disk):
        for name in ("c1", "c2"):
            pod.enter_container(name, vc.Cmd(args=["touch", "/tmp/go"]))
            assert vc.wait_container("ended", name) == 0
        with suppress(vc.StorageError):
            vc.start_container("ended", "c1")
        with suppress(vc.StorageError):
            vc.delete_container("ended", "c2")


@pytest.mark.promise("T13")
def test_a_log_that_fills_the_disk_leaves_room_for_records(bundle: Path, small_disk: Path) -> None:
    loud = "yes | head -c 20000000; exit 3"
    pod = vc.run_pod(pod_config(id="loud", containers=[container(bundle, "sh", "-c", loud)]))
    with within(60):
        assert vc.wait_container("loud", "c1") == 3
    assert pod.status().containers[0].exit_code == 3  # recorded
    assert Store(Roots.from_environment()).read("loud").containers["c1"].exit_code == 3
    assert shutil.disk_usage(small_disk).free > 2**20
    pod.delete(force=True)


def test_a_supervisor_with_few_descriptors_refuses_clients_beyond_them_with_a_sentence_and_uses_no_cpu(
    bundle: Path, store: Store
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    vc.create_pod(pod_config(id="many", containers=[container(bundle)]))
    start = ["prlimit", "--nofile=200:256", "--", virtc_path(), "pod", "start", "many"]
    subprocess.run(start, check=True, capture_output=True)
    supervisor, vm = supervisors("many")[0], vm_pid(store, "many")
    assert resource.prlimit(supervisor, resource.RLIMIT_NOFILE) == (256, 256)
    assert resource.prlimit(vm, resource.RLIMIT_NOFILE) == (200, 256)  # QEMU raises its own
    with ExitStack() as stack:
        clients = [stack.enter_context(silent_client(store, "many")) for _ in range(400)]
        answers = [client.recv(wire.PACKET_MAX) for client in clients]
        assert answers.count(answers[-1]) > 300
        assert b"has too many clients; try again" in answers[-1]
        with pytest.raises(vc.BusyError, match="too many clients"):
            vc.enter_container("many", "c1", vc.Cmd(args=["true"]))
        began = cpu_ticks(supervisor)
        threading.Event().wait(1)
        assert cpu_ticks(supervisor) - began < os.sysconf("SC_CLK_TCK") / 4
    wait_until(lambda: served("many"))
    vc.delete_pod("many", force=True)
    assert wait_ended(vm, 0)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)


def served(pod_id: str) -> bool:
    """Return whether a command runs: the supervisor may not have seen yet that other clients have left."""
    try:
        return vc.enter_container(pod_id, "c1", vc.Cmd(args=["true"])).exit_code == 0
    except vc.BusyError:
        return False


def cpu_ticks(pid: int) -> int:
    """Return the clock ticks that a process has used (proc(5), stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
