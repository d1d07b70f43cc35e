"""What bounds a container, in a real guest: capabilities, limits, roots that cannot be written, and what it uses."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import vc_core as vc
from needs import require
from waiting import PATIENCE

from .conftest import container, virtc

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.hypervisors("qemu", "uml")]

Make = Callable[..., vc.Container]


@pytest.fixture
def confined(pod: vc.Pod, bundle: Path) -> Make:
    """Return a function that runs a container on the shared pod, with bounds of its own."""

    def make(*args: str, **bounds: object) -> vc.Container:
        made = container(bundle, *args, container_id="confined")
        config = vc.ContainerConfig(id=made.id, root_fs=made.root_fs, cmd=made.cmd, **bounds)  # type: ignore[arg-type] # fields
        return pod.create_container(config)

    return make


@pytest.fixture(autouse=True)
def gone(pod: vc.Pod) -> Iterator[None]:
    yield
    for one in pod.status().containers:
        if one.id == "confined":
            vc.delete_container(pod.id, one.id, force=True)


@pytest.fixture(scope="module")
def whoami(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a static program that exits with its effective user id, modulo 251."""
    require("musl-gcc")
    top = tmp_path_factory.mktemp("whoami")
    (top / "whoami.c").write_text("#include <unistd.h>\nint main(void) { return geteuid() % 251; }\n", encoding="utf-8")
    subprocess.run(["musl-gcc", "-static", "-o", top / "whoami", top / "whoami.c"], check=True)
    return top / "whoami"


def sh(where: vc.Container, script: str, **cmd: Any) -> vc.ExecResult:
    return where.enter(vc.Cmd(args=["sh", "-c", script], **cmd))


def test_a_container_has_the_usual_capabilities_and_its_commands_too(confined: Make) -> None:
    made = confined("sh", "-c", "grep Cap /proc/self/status; touch /tmp/status; exec sleep 1000")
    made.start()
    of_command = sh(made, "until [ -e /tmp/status ]; do usleep 10000; done; grep Cap /proc/self/status").stdout
    for status in (of_command, Path(made.status().log_path).read_bytes()):
        bits = {line.split()[0]: int(line.split()[1], 16) for line in status.decode().splitlines()}
        assert bits["CapEff:"] == bits["CapPrm:"] == bits["CapBnd:"] == 0xA80425FB, status
        assert bits["CapInh:"] == bits["CapAmb:"] == 0, status


def test_a_container_cannot_mount_load_modules_or_reboot(confined: Make) -> None:
    made = confined()
    made.start()
    assert sh(made, "mount -t tmpfs none /tmp").exit_code != 0
    assert sh(made, "reboot -f").exit_code != 0
    assert sh(made, "swapoff -a; echo b >/proc/sysrq-trigger").exit_code != 0
    assert sh(made, "echo up").stdout == b"up\n"


def test_a_device_that_a_container_creates_does_not_open(confined: Make) -> None:
    made = confined()
    made.start()
    zero = "for at in /dev /tmp /dev/shm; do mknod $at/made c 1 5; head -c 1 $at/made; done; head -c 2 /dev/zero"
    result = sh(made, zero)
    assert (result.stdout, result.stderr.count(b"made: Permission denied")) == (bytes(2), 3), result.stderr


def test_an_isolated_container_and_another_one_cannot_reach_each_other(confined: Make, pod: vc.Pod) -> None:
    made = confined("sleep", "27182", isolate=True)
    made.start()
    look = vc.Cmd(args=["sh", "-c", "cat /proc/[0-9]*/cmdline"])
    assert b"100000" not in made.enter(look).stdout
    assert b"27182" not in pod.enter_container("c1", look).stdout
    assert sh(made, "touch /tmp/x && chown bob /tmp/x && stat -c %U /tmp/x").stdout == b"bob\n"


def test_capabilities_can_be_chosen(confined: Make) -> None:
    made = confined(capabilities=["SYS_ADMIN"])
    made.start()
    assert sh(made, "mount -t tmpfs none /tmp").exit_code == 0
    assert sh(made, "chown 5 /bin/busybox").exit_code != 0


def test_another_user_has_no_capabilities(confined: Make) -> None:
    made = confined()
    made.start()
    assert sh(made, "grep CapEff /proc/self/status", user="bob").stdout.split()[1].strip(b"0") == b""


@pytest.mark.parametrize(("no_new_privs", "user"), [(True, 1000), (False, 0)])
def test_set_user_id_programs_give_rights_only_where_asked(
    confined: Make, whoami: Path, no_new_privs: bool, user: int
) -> None:
    """A program of its own, because busybox gives up such rights by itself."""
    made = confined(no_new_privs=no_new_privs, mounts=[vc.Mount(str(whoami), "/mnt/whoami")])
    made.start()
    assert sh(made, "cp /mnt/whoami /tmp/whoami && chmod 4755 /tmp/whoami").exit_code == 0
    assert sh(made, "exec /tmp/whoami", user="bob").exit_code == user % 251


def test_a_container_that_takes_too_much_memory_is_killed_and_no_other(confined: Make, pod: vc.Pod) -> None:
    made = confined("tail", "-c", "200m", "/dev/zero", memory=32)
    made.start()
    assert made.wait() == 137
    assert pod.enter_container("c1", vc.Cmd(args=["echo", "up"])).stdout == b"up\n"
    assert pod.status().state is vc.State.RUNNING


def test_a_command_in_a_container_counts_towards_its_limits(confined: Make) -> None:
    made = confined(memory=32)
    made.start()
    assert sh(made, "exec tail -c 200m /dev/zero").exit_code == 137


def test_a_container_cannot_have_more_processes_than_it_may(confined: Make) -> None:
    made = confined(pids=10)
    made.start()
    assert b"can't fork" in sh(made, "for i in $(seq 20); do sleep 100 & done").stderr


def test_limits_are_those_of_each_process(confined: Make) -> None:
    limits = [vc.RLimit("nofile", 40, 50), vc.RLimit("core", 0, None)]
    made = confined(rlimits=limits)
    made.start()
    assert sh(made, "ulimit -Sn; ulimit -Hn; ulimit -Hc").stdout == b"40\n50\nunlimited\n"


def test_a_root_can_be_read_only(confined: Make) -> None:
    made = confined(read_only=True)
    made.start()
    assert b"Read-only file system" in sh(made, "touch /etc/x").stderr
    assert sh(made, "echo x >/dev/shm/x && cat /dev/shm/x").stdout == b"x\n"


def test_what_a_container_may_write_can_be_bounded(confined: Make) -> None:
    made = confined(overlay_size=4)
    made.start()
    assert b"No space left" in sh(made, "dd if=/dev/zero of=/tmp/x bs=1M count=8").stderr


def test_what_a_container_uses_can_be_seen(confined: Make) -> None:
    made = confined("sh", "-c", "head -c 20m /dev/zero >/tmp/x; exec sleep 1000", memory=100)
    made.start()
    before = made.stats()
    assert sh(made, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done").exit_code == 0
    after = made.stats()
    assert after.memory_limit == 100 << 20
    assert after.memory is not None
    assert 0 < after.memory < 100 << 20
    assert after.pids is not None
    assert after.pids >= 1
    assert before.cpu_seconds is not None
    assert after.cpu_seconds is not None
    assert after.cpu_seconds > before.cpu_seconds
    table = virtc("container", "stats", "shared", "confined").stdout.decode().splitlines()
    assert table[0].split() == ["CPU", "MEMORY", "TOTAL", "CACHE", "LIMIT", "PIDS", "READ", "WRITTEN"]
    assert str(100 << 20) in table[1]


def test_nothing_of_a_container_survives_its_end(confined: Make, pod: vc.Pod) -> None:
    """A process that made mount and pid namespaces of its own belongs to the container all the same."""
    made = confined(capabilities=["ALL"])
    made.start()
    assert sh(made, "setsid unshare -m sleep 4321 >/dev/null 2>&1 </dev/null &").exit_code == 0
    made.stop(force=True)
    end = time.monotonic() + PATIENCE
    while b"sleep 4321" in pod.enter_container("c1", vc.Cmd(args=["ps", "-o", "args"])).stdout:
        assert time.monotonic() < end
