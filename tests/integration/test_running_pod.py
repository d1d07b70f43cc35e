"""Commands in a container of a running pod: what they see, and what passes through."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest

import vc_core as vc
from vc_core.testing.slowness import within
from waiting import PATIENCE, ever_longer

from .conftest import container, supervisors, virtc

pytestmark = [pytest.mark.vm, pytest.mark.root]


def sh(pod: vc.Pod, script: str, **more: object) -> vc.ExecResult:
    return pod.enter_container("c1", vc.Cmd(args=["sh", "-c", script]), **more)  # type: ignore[arg-type] # streams


def test_the_kernel_is_the_guests_own(pod: vc.Pod) -> None:
    release = sh(pod, "uname -r").stdout.decode().strip()
    assert release[0].isdigit()
    assert release != platform.release()


def test_the_host_name_is_the_pods_id(pod: vc.Pod) -> None:
    assert sh(pod, "hostname").stdout == b"shared\n"


def test_only_processes_of_the_pod_are_seen(pod: vc.Pod) -> None:
    lines = sh(pod, "ps -o args").stdout.decode().splitlines()[1:]
    assert "sleep 100000" in lines
    assert not [line for line in lines if line.startswith("[")], "kernel threads are visible"
    assert len(lines) <= 5


def test_what_a_container_writes_stays_in_the_guest(pod: vc.Pod, bundle: Path) -> None:
    assert sh(pod, "echo x >/bin/written && rm /bin/ls && cat /bin/written").stdout == b"x\n"
    assert not (bundle / "rootfs/bin/written").exists()
    assert (bundle / "rootfs/bin/ls").is_symlink()


def test_the_usual_file_systems_are_there(pod: vc.Pod) -> None:
    script = "ls /proc/self /sys/kernel /dev/pts /dev/shm >/dev/null && echo x >/dev/null && head -c 8 /dev/urandom"
    result = sh(pod, script)
    assert (result.exit_code, len(result.stdout)) == (0, 8), result.stderr


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_the_exit_code_is_the_commands_own(pod: vc.Pod, code: int) -> None:
    assert sh(pod, f"exit {code}").exit_code == code


@pytest.mark.parametrize("signum", [9, 15, 6])
def test_death_by_a_signal_is_128_and_its_number(pod: vc.Pod, signum: int) -> None:
    assert sh(pod, f"kill -{signum} $$").exit_code == 128 + signum


def test_output_and_error_output_are_kept_apart(pod: vc.Pod) -> None:
    result = sh(pod, "echo out; echo err >&2")
    assert (result.stdout, result.stderr) == (b"out\n", b"err\n")


@pytest.mark.promise("T18")
def test_arguments_and_environment_arrive_byte_for_byte(pod: vc.Pod) -> None:
    words = ["", " ", "a b", "'", '"', "$(id)", ";", "-n", "\n", "ä", "\\"]
    cmd = vc.Cmd(
        args=["sh", "-c", 'for word; do printf "%s|" "$word"; done; printf %s "$V"', "sh", *words],
        envs=[vc.EnvVar("V", "x=y\n")],
    )
    assert pod.enter_container("c1", cmd).stdout.decode() == "|".join(words) + "|x=y\n"


def test_user_and_directory_are_as_asked(pod: vc.Pod) -> None:
    cmd = vc.Cmd(args=["sh", "-c", "id -u; pwd"], user="bob", work_dir="/etc")
    assert pod.enter_container("c1", cmd).stdout == b"1000\n/etc\n"


@pytest.mark.parametrize(
    ("cmd", "code", "message"),
    [
        (vc.Cmd(args=["no-such-command"]), 127, "no-such-command"),
        (vc.Cmd(args=["/etc/passwd"]), 126, "/etc/passwd"),
    ],
)
def test_a_command_that_cannot_run_is_127_or_126_with_one_sentence(
    pod: vc.Pod, cmd: vc.Cmd, code: int, message: str
) -> None:
    result = pod.enter_container("c1", cmd)
    assert result.exit_code == code
    assert message in result.stderr.decode()
    assert result.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    ("cmd", "message"),
    [(vc.Cmd(args=["ls"], work_dir="/nope"), "/nope"), (vc.Cmd(args=["ls"], user="nobody9"), "nobody9")],
)
def test_a_command_that_cannot_be_set_up_is_an_error_with_the_reason(pod: vc.Pod, cmd: vc.Cmd, message: str) -> None:
    with pytest.raises(vc.CommandError, match=message) as caught:
        pod.enter_container("c1", cmd)
    assert caught.value.exit_code == 125


def test_ten_megabytes_of_input_arrive_whole(pod: vc.Pod) -> None:
    data = os.urandom(10 * 1024 * 1024)
    result = pod.enter_container("c1", vc.Cmd(args=["sha256sum"]), stdin=data)
    assert result.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_ten_megabytes_of_output_arrive_whole(pod: vc.Pod) -> None:
    make = "dd if=/dev/urandom of=/tmp/big bs=65536 count=160 2>/dev/null"
    script = f"{make}; sha256sum /tmp/big >&2; cat /tmp/big; rm /tmp/big"
    result = sh(pod, script)
    assert len(result.stdout) == 160 * 65536
    assert hashlib.sha256(result.stdout).hexdigest() == result.stderr.split()[0].decode()


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537])
def test_input_of_any_size_comes_back(pod: vc.Pod, size: int) -> None:
    data = os.urandom(size)
    assert pod.enter_container("c1", vc.Cmd(args=["cat"]), stdin=data).stdout == data


def test_no_input_is_the_end_of_input(pod: vc.Pod) -> None:
    assert pod.enter_container("c1", vc.Cmd(args=["cat"]), timeout=20) == vc.ExecResult(0)


def test_files_and_pipes_of_the_caller_are_used_as_they_are(pod: vc.Pod, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"x" * 100_000)
    reader, writer = os.pipe()
    with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as target:
        pod.enter_container(
            "c1", vc.Cmd(args=["sh", "-c", "cat; echo done >&2"]), stdin=source, stdout=target, stderr=writer
        )
        assert source.tell() == 100_000
    assert (tmp_path / "out").read_bytes() == b"x" * 100_000
    assert os.read(reader, 100) == b"done\n"
    assert os.get_blocking(reader)
    assert os.get_blocking(writer)
    os.close(reader)
    os.close(writer)


def test_a_reader_that_has_gone_ends_a_command_that_writes(pod: vc.Pod) -> None:
    """``yes | head -1`` ends in a shell; it must end here too."""
    reader, writer = os.pipe()
    ended: list[int] = []
    thread = threading.Thread(
        target=lambda: ended.append(
            pod.enter_container("c1", vc.Cmd(args=["yes"]), stdout=writer, timeout=60).exit_code
        )
    )
    thread.start()
    os.read(reader, 100)
    os.close(reader)
    os.close(writer)
    thread.join(PATIENCE)
    assert ended == [128 + 13]


def test_a_command_is_killed_at_its_timeout_and_its_output_is_kept(pod: vc.Pod) -> None:
    for seconds in ever_longer(1):
        with (
            within(4 + seconds),
            pytest.raises(vc.CommandTimeoutError, match=f"did not end in {seconds:g} s") as caught,
        ):
            sh(pod, "echo before; exec sleep 4321", timeout=seconds)
        if caught.value.stdout:
            break
    assert caught.value.stdout == b"before\n"
    assert "sleep 4321" not in sh(pod, "ps -o args").stdout.decode()


def test_eight_commands_run_at_the_same_time(pod: vc.Pod) -> None:
    results = []
    threads = [threading.Thread(target=lambda: results.append(sh(pod, "sleep 1; echo x").stdout)) for _ in range(8)]
    with within(4):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [b"x\n"] * 8


@pytest.mark.promise("T11")
def test_a_reader_that_stalls_stalls_its_own_stream_only(pod: vc.Pod) -> None:
    reader, writer = os.pipe()
    thread = threading.Thread(target=lambda: sh(pod, "head -c 3000000 /dev/zero", stdout=writer))
    thread.start()
    for _ in range(3):
        assert sh(pod, "echo alive", timeout=20).stdout == b"alive\n"
    os.close(writer)
    total = 0
    while data := os.read(reader, 65536):
        total += len(data)
        if total == 3_000_000:
            break
    thread.join()
    os.close(reader)
    assert total == 3_000_000


def test_a_client_that_is_killed_ends_its_command_in_the_guest(pod: vc.Pod) -> None:
    from .conftest import virtc_path

    command = [virtc_path(), "container", "enter", "shared", "1", "--"]
    command[3:5] = ["shared", "c1"]
    with subprocess.Popen([*command, "sh", "-c", "echo up; exec sleep 5432"], stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"up\n"
        client.kill()
    script = "for i in $(seq 1000); do ps -o args | grep -q 'sleep [5]432' || exit 0; usleep 50000; done; exit 1"
    assert sh(pod, script).exit_code == 0


def test_enter_of_the_command_passes_bytes_and_nothing_else(pod: vc.Pod) -> None:
    done = virtc(
        "container", "enter", "-i", "shared", "c1", "--", "sh", "-c", "tr a-z A-Z; echo e >&2; exit 9", stdin=b"in\n"
    )
    assert (done.stdout, done.stderr, done.returncode) == (b"IN\n", b"e\n", 9)


def test_a_command_not_found_is_127_for_the_command_too(pod: vc.Pod) -> None:
    done = virtc("container", "enter", "shared", "c1", "--", "no-such-command")
    assert done.returncode == 127
    assert done.stdout == b""
    assert done.stderr.count(b"\n") == 1


def test_signals_to_the_client_reach_the_command(pod: vc.Pod) -> None:
    from .conftest import virtc_path

    script = "trap 'echo got; exit 3' TERM; echo up; while :; do usleep 20000; done"
    with subprocess.Popen(
        [virtc_path(), "container", "enter", "shared", "c1", "--", "sh", "-c", script], stdout=subprocess.PIPE
    ) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"up\n"
        client.terminate()
        assert client.stdout.readline() == b"got\n"
        assert client.wait(PATIENCE) == 3


def test_status_shows_the_isolation_and_the_acceleration(pod: vc.Pod) -> None:
    status = pod.status()
    assert status.state == "running"
    assert (status.acceleration, status.isolation) in {("tcg", "none"), ("kvm", "hardware"), ("ptrace", "none")}
    assert Path(status.console_path).exists()


def test_exactly_one_supervisor_carries_the_pods_id(pod: vc.Pod) -> None:
    assert len(supervisors("shared")) == 1


def test_nothing_is_mounted_in_the_hosts_namespace(pod: vc.Pod, root: Path) -> None:
    assert str(root) not in Path("/proc/self/mountinfo").read_text(encoding="utf-8")


def test_starting_a_running_pod_is_refused(pod: vc.Pod) -> None:
    with pytest.raises(vc.StateError, match="running"):
        pod.start()
    assert sh(pod, "echo still here").stdout == b"still here\n"


@pytest.mark.hypervisors("qemu")
def test_a_container_in_the_foreground_that_takes_too_long_is_killed(pod: vc.Pod, bundle: Path) -> None:
    config = vc.ContainerConfig(id="slow", root_fs=str(bundle), cmd=["sh", "-c", "echo began; sleep 1000"])
    for seconds in ever_longer(1):
        pod.create_container(config)
        done = virtc("container", "start", "-i", "--timeout", str(seconds), "shared", "slow")
        try:
            assert (done.returncode, done.stderr.decode()) == (
                124,
                f"virtc: container 'slow' did not end in {seconds:g} s and was killed\n",
            )
            assert pod.container("slow").wait() == 137
        finally:
            pod.container("slow").delete(force=True)
        if done.stdout:
            break
    assert done.stdout == b"began\n"


@pytest.mark.hypervisors("qemu")
@pytest.mark.needs("mount namespaces")
def test_a_container_can_have_a_root_and_a_mount_that_were_mounted_after_the_pod_started(
    pod: vc.Pod, bundle: Path, tmp_path: Path
) -> None:
    later = tmp_path / "later"
    later.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", later], check=True)
    try:
        shutil.copytree(bundle / "rootfs", later / "rootfs", symlinks=True)
        (later / "data").mkdir()
        (later / "data/file").write_text("of later", encoding="utf-8")
        joining = replace(
            container(later, "cat", "/data/file", container_id="joins"), mounts=[vc.Mount(str(later / "data"), "/data")]
        )
        with pod.create_container(joining).open() as process:
            assert process.stdout
            assert process.stdout.read() == b"of later"
            assert process.wait() == 0
        pod.container("joins").delete()
    finally:
        subprocess.run(["umount", later], check=True)
