"""The agent sshd in a real virtual machine: its guest, its keys, and what only a machine of its own can show."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import vc_core as vc
from vc_core.config.network import NetworkConfig, NetworkMode
from vc_core.store.store import Store
from waiting import PATIENCE

from .conftest import container, supervisors, virtc, vm_pid, vm_processes, wait_ended

pytestmark = [
    pytest.mark.vm,
    pytest.mark.root,
    pytest.mark.hypervisors("qemu"),
    pytest.mark.usefixtures("templates_are_used"),
]

#: MiB. No other pods have so much, so that their template in the same cache is another.
MEMORY = 224


@pytest.fixture(scope="module", params=["booted", "cloned"])
def start(request: pytest.FixtureRequest, root: Path) -> Iterator[Callable[[vc.PodConfig], vc.Pod]]:
    """Return a function that runs a pod, which boots or is a clone: what holds for one holds for the other."""
    made: set[str] = set()
    configs: list[vc.PodConfig] = []

    def run(config: vc.PodConfig) -> vc.Pod:
        clone = request.param == "cloned"
        config = replace(
            config,
            agent_type="sshd",
            vm_config=vc.Resources(memory=MEMORY),
            hypervisor_config=vc.HypervisorConfig(template=clone),
        )
        if clone and (anybody := replace(config, id="any")) not in configs:
            made.add(vc.create_template(config).kind)
            configs.append(anybody)
        pod = vc.run_pod(config)
        assert (pod.status().template in made) == clone
        return pod

    yield run
    for kind in made:
        vc.delete_template(kind)


@pytest.fixture(scope="module")
def pod(
    start: Callable[[vc.PodConfig], vc.Pod], bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[vc.Pod]:
    """Return a running pod with a network, and two containers: "c1" sees files of the host, "c2" has limits."""
    shown = tmp_path_factory.mktemp("shown")
    (shown / "file").write_text("seen\n", encoding="utf-8")
    (shown / "out").mkdir()
    sleep = vc.Cmd(args=["sleep", "100000"])
    mounts = [vc.Mount(str(shown / "file"), "/new/file"), vc.Mount(str(shown / "out"), "/out", read_only=False)]
    config = vc.PodConfig(
        id="ssh",
        network=NetworkConfig(mode=NetworkMode.USER, dns=["192.0.2.53"]),
        containers=[
            vc.ContainerConfig(id="c1", root_fs=str(bundle), cmd=sleep, mounts=mounts),
            vc.ContainerConfig(id="c2", root_fs=str(bundle), cmd=sleep, memory=32, pids=10, read_only=True),
        ],
    )
    made = start(config)
    yield made
    made.delete(force=True)


def sh(pod: vc.Pod, script: str, where: str = "c1") -> vc.ExecResult:
    cmd = vc.Cmd(args=["sh", "-c", script])
    assert not where or vc.status_container("ssh", where).state == "running", vc.status_container("ssh", where)
    return pod.enter_container(where, cmd) if where else pod.enter(cmd)


def test_the_pod_is_a_machine_of_its_own_with_debian_s_daemon(pod: vc.Pod) -> None:
    assert sh(pod, "hostname; ls /usr/sbin/sshd; cat /proc/1/comm", where="").stdout == b"ssh\n/usr/sbin/sshd\ninit\n"
    assert pod.status().agent == "sshd"


def test_the_host_s_files_are_in_the_container_as_asked(pod: vc.Pod) -> None:
    result = sh(pod, "cat /new/file; touch /new/file 2>/dev/null || echo refused; echo x >/out/written; touch /bin/new")
    assert (result.exit_code, result.stdout) == (0, b"seen\nrefused\n")


def test_the_kernel_never_kills_the_first_process_of_a_container_that_runs_out_of_memory(pod: vc.Pod) -> None:
    look = "cd /proc; for one in 1 $(cat 1/task/1/children) self; do cat $one/oom_score_adj; done"
    scores = sh(pod, look, where="c2")
    assert scores.stdout == b"-1000\n0\n0\n"


def test_a_container_is_bounded(pod: vc.Pod) -> None:
    assert sh(pod, "touch /bin/new", where="c2").exit_code == 1
    forks = sh(pod, "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1 & done; wait", where="c2")
    assert b"fork" in forks.stderr
    # Last: the kernel may kill the container's program too, while the memory of the first victim is not free yet.
    assert sh(pod, "head -c 60000000 /dev/zero | tail", where="c2").exit_code != 0


def test_a_port_or_disk_that_a_container_creates_does_not_open(pod: vc.Pod) -> None:
    script = "for at in /dev /tmp; do mknod $at/made c 1 1; echo x >$at/made; done; echo x >/dev/null && echo null"
    made = sh(pod, script)
    assert (made.stdout, made.stderr.count(b"/made: Permission denied")) == (b"null\n", 2)


def test_what_concerns_the_whole_guest_is_masked_and_cannot_be_changed(pod: vc.Pod) -> None:
    look = "cat /proc/kcore /proc/timer_list /proc/keys 2>/dev/null; find /sys/firmware -mindepth 1"
    assert sh(pod, look).stdout == b""
    for path in ("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern"):
        assert b"Read-only file system" in sh(pod, f"echo x >{path}").stderr


def test_a_container_sees_no_process_of_another_one(pod: vc.Pod) -> None:
    assert sh(pod, "cat /proc/[0-9]*/comm", where="c2").stdout.split().count(b"sleep") == 1


def test_the_network_is_as_asked(pod: vc.Pod) -> None:
    assert b"10.0.2.15/24" in sh(pod, "ip address show eth0").stdout
    assert sh(pod, "cat /etc/resolv.conf").stdout == b"nameserver 192.0.2.53\n"


def test_a_container_is_added_stopped_and_removed(pod: vc.Pod, bundle: Path) -> None:
    pod.create_container(
        container(bundle, "sh", "-c", "trap 'exit 9' TERM; echo up; while :; do sleep 0.1; done", container_id="c3")
    )
    vc.start_container("ssh", "c3")
    vc.stop_container("ssh", "c3")
    assert vc.status_container("ssh", "c3").exit_code == 9
    vc.delete_container("ssh", "c3")


def test_the_private_key_stays_on_the_host(pod: vc.Pod, store: Store) -> None:
    key = store.roots.pod_run_dir("ssh") / "ssh/client-key"
    assert key.stat().st_mode & 0o777 == 0o600
    secret = key.read_text(encoding="utf-8").splitlines()[2]
    look = f"find /run /etc /tmp -type f -exec grep -l {secret} {{}} +; ls /run/ssh"
    assert sh(pod, look, where="").stdout == b"authorized_keys\nhost-key\npid\n"


def test_the_port_is_this_host_s_only(pod: vc.Pod, store: Store) -> None:
    inodes = {str(fd.readlink()) for pid in vm_processes(store, "ssh") for fd in Path(f"/proc/{pid}/fd").iterdir()}
    listening = [
        line.split()
        for line in Path("/proc/net/tcp").read_text(encoding="utf-8").splitlines()
        if line.split()[3] == "0A"
    ]
    ours = [fields[1] for fields in listening if f"socket:[{fields[9]}]" in inodes]
    assert ours
    assert all(address.startswith("0100007F:") for address in ours)


def test_input_output_and_the_exit_code_pass_through_the_command(pod: vc.Pod) -> None:
    done = virtc("container", "enter", "-i", "ssh", "c1", "--", "sh", "-c", "cat; exit 5", stdin=b"piped")
    assert (done.returncode, done.stdout) == (5, b"piped")


def test_a_new_supervisor_takes_over_and_the_guest_powers_off_by_itself(
    start: Callable[[vc.PodConfig], vc.Pod], bundle: Path, store: Store
) -> None:
    script = "i=0; while [ $i -lt 50 ]; do echo $i; i=$((i+1)); sleep 0.1; done; exit 3"
    first = container(bundle, "sh", "-c", script, container_id="c1")
    config = vc.PodConfig(id="taken", agent_config={"spawner": "nsenter"}, containers=[first])
    codes: list[int | None] = []
    with start(config) as pod:
        waiter = threading.Thread(target=lambda: codes.append(vc.wait_container("taken", "c1")))
        waiter.start()
        (old,) = supervisors("taken")
        os.kill(old, signal.SIGKILL)
        assert wait_ended(old)
        assert pod.enter(vc.Cmd(args=["echo", "back"])).stdout == b"back\n"
        waiter.join(PATIENCE)
        assert codes == [3]
        vm = vm_pid(store, "taken")
        pod.stop(timeout=60)
        assert wait_ended(vm)


@pytest.mark.parametrize("start", ["cloned"], indirect=True)
def test_no_two_clones_have_a_key_a_random_number_a_name_or_an_address_in_common(
    start: Callable[[vc.PodConfig], vc.Pod], bundle: Path
) -> None:
    one = container(bundle, container_id="c1")
    network = NetworkConfig(mode=NetworkMode.USER)
    pods = [start(vc.PodConfig(id=name, network=network, containers=[one])) for name in ("first", "second")]
    try:
        for script in (
            "grep -v PRIVATE /run/ssh/host-key",
            "cat /run/ssh/authorized_keys",
            "head -c 32 /dev/urandom | od -An -tx1",
            "cat /proc/sys/kernel/random/uuid",
            "cat /proc/sys/kernel/random/boot_id",
            "hostname",
            "cat /sys/class/net/eth0/address",
        ):
            first, second = (sh(pod, script, where="") for pod in pods)
            assert first.exit_code == second.exit_code == 0, script
            assert first.stdout != second.stdout, script
        for pod in pods:
            ids = "cat /etc/machine-id /var/lib/dbus/machine-id /sys/class/dmi/id/product_uuid 2>/dev/null"
            assert sh(pod, ids, where="").stdout == b""
            before = time.time()
            assert before - 1 <= int(sh(pod, "date +%s", where="").stdout) <= time.time() + 1
    finally:
        for pod in pods:
            pod.delete(force=True)
