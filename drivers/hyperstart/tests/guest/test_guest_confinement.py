"""What bounds the processes of a container, its first one and those that join it, and what they use."""

import json
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from guest_vm import VM, RawHost

from vc_agent_hyperstart.codec import Code

pytestmark = pytest.mark.vm

CHOWN, KILL, SETUID, SYS_ADMIN = 0, 5, 7, 21


@pytest.fixture
def confined(host: RawHost) -> Iterator[Callable[..., str]]:
    """Start containers that sleep, with whatever bounds them, and remove them."""
    names: list[str] = []

    def start(*args: str, **bounds: Any) -> str:
        names.append(f"confined{len(names)}")
        host.start_container(names[-1], *(args or ("sleep", "1000000")), **bounds)
        return names[-1]

    yield start
    for name in names:
        host.call(Code.KILLCONTAINER, {"container": name, "signal": 9})
        (first,) = (each["stdio"] for each in host.hello()["processes"] if each["container"] == name and each["init"])
        host.finish(first)
        host.ok(Code.REMOVECONTAINER, {"container": name})


def in_guest(host: RawHost, *args: str) -> str:
    """Run a command in the guest's own root, which sees everything, and return its output."""
    status, output, errors = host.run("", *args)
    assert (status, errors) == (0, b"")
    return output.decode()


def status_of(host: RawHost, container: str, *names: str, **process: Any) -> list[str]:
    """Return lines of /proc/PID/status of a process that joins a container."""
    lines = host.run(container, "cat", "/proc/self/status", **process)[1].decode().splitlines()
    found = dict(line.split(":\t") for line in lines if ":\t" in line)
    return [found[name] for name in names]


def mask(*capabilities: int) -> str:
    return f"{sum(1 << each for each in capabilities):016x}"


def test_a_read_only_root_cannot_be_written_but_what_is_mounted_in_it_can(
    host: RawHost, confined: Callable[..., str]
) -> None:
    name = confined(readOnly=True)
    assert host.run(name, "touch", "/file") == (1, b"", b"touch: /file: Read-only file system\n")
    assert host.run(name, "touch", "/dev/shm/file") == (0, b"", b"")


def test_a_process_that_takes_more_memory_than_its_container_may_is_killed_and_no_other(
    host: RawHost, confined: Callable[..., str]
) -> None:
    name = confined(memory=16)
    assert host.run(name, "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1")[0] == 137
    assert host.run(name, "echo", "still") == (0, b"still\n", b"")
    assert host.run("c1", "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1")[0] == 0


def test_what_is_written_to_the_root_counts_as_the_container_s_memory(
    host: RawHost, confined: Callable[..., str]
) -> None:
    name = confined(memory=16)
    assert host.run(name, "dd", "if=/dev/zero", "of=/file", "bs=1M", "count=64")[0] == 137


def test_a_first_process_that_takes_too_much_memory_ends_with_137(host: RawHost) -> None:
    stdio = host.start_container("greedy", "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1", memory=16)
    assert host.finish(stdio)[0] == 137
    host.ok(Code.REMOVECONTAINER, {"container": "greedy"})


def test_a_container_has_no_more_processes_than_it_may(host: RawHost, confined: Callable[..., str]) -> None:
    name = confined(pids=4)
    status, _, errors = host.run(name, "sh", "-c", "for i in 1 2 3 4 5; do sleep 1000000 & done")
    assert status != 0
    assert b"can't fork" in errors
    full: dict[str, Any] = {"container": name, "process": {"stdio": 5, "stderr": 6, "args": ["sleep", "9"]}}
    # The shell has ended, so one more process fits.
    host.ok(Code.EXECCMD, full)
    full["process"].update(stdio=7, stderr=8)
    assert host.refused(Code.EXECCMD, full)["reason"] == f"container '{name}' has all the processes that it may"


def test_resource_limits_are_those_of_every_process(host: RawHost, confined: Callable[..., str]) -> None:
    limits = [{"name": "nofile", "soft": 100, "hard": 200}, {"name": "core", "soft": 0}, {"name": "nproc"}]
    name = confined("sh", "-c", "cat /proc/self/limits; sleep 1000000", rlimits=limits)
    (first,) = (each["stdio"] for each in host.hello()["processes"] if each["container"] == name)
    host.wait_for(lambda: host.output.get(first, b"").count(b"\n") == 17)
    for text in (host.output[first], host.run(name, "cat", "/proc/self/limits")[1]):
        values = {line[:26].strip(): line[26:].split()[:2] for line in text.decode().splitlines()}
        assert values["Max open files"] == ["100", "200"]
        assert values["Max core file size"] == ["0", "unlimited"]
        assert values["Max processes"] == ["unlimited", "unlimited"]


def test_root_has_the_container_s_capabilities_and_none_can_be_inherited(
    host: RawHost, confined: Callable[..., str]
) -> None:
    name = confined(capabilities=["CAP_CHOWN", "CAP_KILL"])
    sets = status_of(host, name, "CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb")
    assert sets == [*[mask(CHOWN, KILL)] * 3, mask(), mask()]
    assert host.run(name, "busybox", "chown", "5", "/tmp") == (0, b"", b"")
    assert b"Operation not permitted" in host.run(name, "busybox", "chroot", "/", "true")[2]


def test_another_user_than_root_has_no_capabilities(host: RawHost, confined: Callable[..., str]) -> None:
    name = confined(capabilities=["CAP_CHOWN", "CAP_SETUID"])
    sets = status_of(host, name, "CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb", user="bob")
    assert sets == [mask(CHOWN, SETUID), *[mask()] * 4]


def test_a_container_can_have_no_capabilities_at_all(host: RawHost, confined: Callable[..., str]) -> None:
    name = confined(capabilities=[])
    assert status_of(host, name, "CapBnd", "CapPrm", "CapEff") == [mask()] * 3
    assert b"Operation not permitted" in host.run(name, "busybox", "chown", "5", "/tmp")[2]


def test_without_a_list_of_capabilities_a_container_has_all(host: RawHost, confined: Callable[..., str]) -> None:
    bounding = int(status_of(host, "c1", "CapBnd")[0], 16)
    assert bounding >> SYS_ADMIN & 1
    assert status_of(host, confined(), "CapEff", "NoNewPrivs") == [f"{bounding:016x}", "0"]


def test_no_new_privileges_are_gained_if_the_container_forbids_it(host: RawHost, confined: Callable[..., str]) -> None:
    name = confined("sh", "-c", "busybox grep NoNewPrivs /proc/self/status; sleep 1000000", noNewPrivs=True)
    (first,) = (each["stdio"] for each in host.hello()["processes"] if each["container"] == name)
    host.wait_for(lambda: host.output.get(first) == b"NoNewPrivs:\t1\n")
    assert status_of(host, name, "NoNewPrivs") == ["1"]
    assert status_of(host, name, "NoNewPrivs", user="bob") == ["1"]


@pytest.mark.parametrize("forbidden", [True, False])
def test_set_user_id_bits_have_no_effect_below_a_root_where_no_privileges_are_gained(
    host: RawHost, confined: Callable[..., str], forbidden: bool
) -> None:
    name = confined(noNewPrivs=forbidden)
    mounts = host.run(name, "cat", "/proc/self/mounts")[1].decode()
    (options,) = (line.split()[3].split(",") for line in mounts.splitlines() if line.split()[1] == "/")
    assert ("nosuid" in options) == forbidden


@pytest.mark.parametrize("path", ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger"])
def test_who_may_not_administer_the_system_cannot_do_it_by_files_of_proc(
    host: RawHost, confined: Callable[..., str], path: str
) -> None:
    name = confined(capabilities=["CAP_CHOWN"])
    status, _, errors = host.run(name, "sh", "-c", f"echo x > {path}")
    assert status != 0
    assert b"Read-only file system" in errors


@pytest.mark.parametrize("place", ["/dev/made", "/tmp/made"])
def test_a_port_that_a_container_creates_does_not_open(host: RawHost, confined: Callable[..., str], place: str) -> None:
    major, minor = in_guest(host, "sh", "-c", "cat /sys/class/virtio-ports/*/dev").split()[0].split(":")
    name = confined(capabilities=["CAP_MKNOD", "CAP_DAC_OVERRIDE"])
    made = host.run(name, "busybox", "mknod", place, "c", major, minor)
    assert made == (0, b"", b"")
    assert host.run(name, "sh", "-c", f"echo x >{place}")[2].endswith(b"Permission denied\n")
    assert host.run(name, "sh", "-c", "echo x >/dev/null; busybox head -c 3 /dev/zero") == (0, bytes(3), b"")


@pytest.mark.parametrize("path", ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts"])
def test_what_concerns_the_whole_guest_is_masked(host: RawHost, confined: Callable[..., str], path: str) -> None:
    name = confined(capabilities=["CAP_CHOWN", "CAP_SYSLOG"])
    assert host.run(name, "sh", "-c", f"test ! -e {path} || busybox head -c 10 {path}") == (0, b"", b"")
    assert host.run(name, "busybox", "find", "/proc/acpi", "/sys/firmware", "-mindepth", "1")[1] == b""


def processes(host: RawHost, container: str) -> list[str]:
    """Return the command lines of all processes that one in the container sees, but for its own."""
    look = 'for one in /proc/[0-9]*; do test $one = /proc/$$ || { tr "\\0" " " <$one/cmdline; echo; }; done'
    lines = host.run(container, "busybox", "sh", "-c", look.replace(" tr ", " busybox tr "))[1].decode().splitlines()
    return [line.strip() for line in lines if line.strip() and "busybox tr" not in line]


def test_an_isolated_container_and_the_others_see_nothing_of_each_other(
    host: RawHost, confined: Callable[..., str]
) -> None:
    alone = confined("sleep", "27182", isolate=True)
    first = "/init"  # of its process numbers, as the pod has one
    assert processes(host, alone) == [first, "sleep 27182"]
    assert not any("27182" in line for line in processes(host, "c1"))
    for kind in ("pid", "ipc", "user"):
        link = f"/proc/self/ns/{kind}"
        assert host.run(alone, "busybox", "readlink", link) != host.run("c1", "busybox", "readlink", link)


def test_root_of_an_isolated_container_has_no_rights_in_the_guest_even_with_all_capabilities(
    host: RawHost, confined: Callable[..., str]
) -> None:
    name = confined(isolate=True)
    assert int(status_of(host, name, "CapEff")[0], 16) >> SYS_ADMIN & 1
    for path in ("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern"):
        assert host.run(name, "sh", "-c", f"echo x >{path}")[0] != 0
        assert host.run(name, "busybox", "umount", path)[0] != 0
    assert b"Operation not permitted" in host.run(name, "busybox", "mknod", "/tmp/disk", "b", "1", "0")[2]
    assert host.run(name, "busybox", "mount", "-t", "tmpfs", "none", "/tmp")[0] != 0


def test_users_files_and_ports_of_an_isolated_container_are_as_in_others(
    host: RawHost, confined: Callable[..., str]
) -> None:
    name = confined(isolate=True, capabilities=["CAP_CHOWN", "CAP_SETUID", "CAP_SETGID"])
    look = "busybox id -u; busybox touch /tmp/x && busybox chown 5:6 /tmp/x && busybox stat -c %u:%g /tmp/x"
    assert host.run(name, "sh", "-c", look) == (0, b"0\n5:6\n", b"")
    assert host.run(name, "busybox", "id", "-un", user="bob")[1] == b"bob\n"
    assert status_of(host, name, "CapBnd", "CapEff") == [mask(CHOWN, 6, SETUID)] * 2
    listen = host.run(name, "busybox", "timeout", "1", "busybox", "nc", "-l", "-p", "80", user="bob")
    assert listen == (128 + 15, b"", b"")  # it listened until the time had passed


def test_all_processes_of_an_isolated_container_end_with_it(host: RawHost) -> None:
    before = in_guest(host, "ps", "-o", "comm").split().count("pod")
    stdio = host.start_container("alone", "sh", "-c", "busybox setsid sleep 16180 & exit 3", isolate=True)
    assert host.finish(stdio)[0] == 3
    host.ok(Code.REMOVECONTAINER, {"container": "alone"})
    assert "16180" not in in_guest(host, "ps", "-o", "args")
    assert in_guest(host, "ps", "-o", "comm").split().count("pod") == before


@pytest.mark.parametrize(
    ("bound", "reason"),
    [
        ({"capabilities": ["CAP_FLY"]}, "there is no capability 'CAP_FLY'"),
        ({"capabilities": [7]}, "'capabilities' is not a list of strings"),
        ({"rlimits": [{"name": "noodles"}]}, "there is no resource limit 'noodles'"),
        ({"rlimits": [{"soft": 1}]}, "the limit has no 'name'"),
        ({"rlimits": [{"name": "core", "soft": 2, "hard": 1}]}, "resource limit 'core': Invalid argument"),
        ({"memory": 2**63}, "memory.max: 9223372036854775808 is too much"),
    ],
)
def test_a_bound_that_makes_no_sense_is_refused(host: RawHost, bound: dict[str, Any], reason: str) -> None:
    process = {"stdio": 5, "stderr": 6, "args": ["true"]}
    container = {"id": "c2", "image": "base", "rootfs": "rootfs", "overlay": True, "process": process, **bound}
    assert host.refused(Code.NEWCONTAINER, container)["reason"] == reason


def test_the_end_of_a_container_is_the_end_of_what_left_its_mount_namespace(host: RawHost) -> None:
    stdio = host.start_container(
        "leaver", "sh", "-c", "busybox unshare -m sleep 31415 & while ! busybox pidof sleep; do :; done >/dev/null"
    )
    assert host.finish(stdio)[0] == 0
    host.ok(Code.REMOVECONTAINER, {"container": "leaver"})
    assert "31415" not in in_guest(host, "ps")


def test_a_removed_container_leaves_no_control_group(host: RawHost) -> None:
    before = in_guest(host, "find", "/run/vc/cgroup", "-type", "d")
    assert host.finish(host.start_container("brief", "true"))[0] == 0
    host.ok(Code.REMOVECONTAINER, {"container": "brief"})
    assert in_guest(host, "find", "/run/vc/cgroup", "-type", "d") == before


def test_a_container_does_not_see_the_control_groups(host: RawHost) -> None:
    assert b"cgroup" not in host.run("c1", "mount")[1]
    assert host.run("c1", "ls", "/sys/fs/cgroup") == (0, b"", b"")


def test_a_container_cannot_lift_its_bounds_in_a_user_namespace_of_its_own(
    host: RawHost, extended: VM, confined: Callable[..., str], tmp_path: Path
) -> None:
    source = Path(__file__).with_name("lift.c")
    subprocess.run(["musl-gcc", "-static", "-o", tmp_path / "lift", source], check=True)
    root = extended.directory / "share/lifter/rootfs"
    shutil.copytree(extended.directory / "share/base/rootfs", root, symlinks=True)
    shutil.copy(tmp_path / "lift", root / "bin")
    name = confined(image="lifter", memory=64, pids=100, capabilities=["CAP_SETFCAP"])
    assert b"/tmp/memory.max: Operation not permitted" in host.run(name, "lift")[2]
    assert json.loads(host.ok(Code.STATS, {"container": name}))["memoryLimit"] == 64 << 20
    assert "100" in in_guest(host, "sh", "-c", "cat /run/vc/cgroup/*/pids.max").split()


def test_what_a_container_uses_is_reported(host: RawHost, confined: Callable[..., str]) -> None:
    name = confined(memory=64, pids=100)
    before = json.loads(host.ok(Code.STATS, {"container": name}))
    assert set(before) == {
        *("cpu", "memory", "memoryCache", "memoryInactive", "memoryLimit", "oomKills", "pids", "read", "written")
    }
    assert before["memoryLimit"] == 64 << 20
    assert before["pids"] == 1
    assert host.run(name, "dd", "if=/dev/zero", "of=/file", "bs=1M", "count=8")[0] == 0
    after = json.loads(host.ok(Code.STATS, {"container": name}))
    assert after["memory"] - before["memory"] >= 7 << 20  # the kernel counts in lots of 64 pages a processor
    assert after["cpu"] > before["cpu"]
    assert after["oomKills"] == 0


def test_pages_of_files_are_reported_beside_the_rest(host: RawHost, confined: Callable[..., str]) -> None:
    name = confined(memory=64)
    before = json.loads(host.ok(Code.STATS, {"container": name}))
    assert host.run(name, "sh", "-c", "dd if=/dev/zero of=/file bs=1M count=8; cat /file >/dev/null")[0] == 0
    after = json.loads(host.ok(Code.STATS, {"container": name}))
    assert after["memoryCache"] - before["memoryCache"] >= 7 << 20
    assert after["memoryInactive"] <= after["memory"]


def test_a_container_that_the_kernel_killed_for_its_memory_reports_that_after_its_end(
    host: RawHost, confined: Callable[..., str]
) -> None:
    name = confined(memory=16)
    assert host.run(name, "sh", "-c", "tail -c 64m /dev/zero; exit 5")[0] == 5
    assert json.loads(host.ok(Code.STATS, {"container": name}))["oomKills"] >= 1


def test_without_a_bound_no_limit_is_reported(host: RawHost) -> None:
    assert "memoryLimit" not in json.loads(host.ok(Code.STATS, {"container": "c1"}))


def test_usage_of_a_container_is_reported_until_it_is_removed(host: RawHost) -> None:
    assert host.refused(Code.STATS, {"container": "c9"}) == {"reason": "there is no container 'c9'"}
    assert host.finish(host.start_container("brief", "true"))[0] == 0
    usage = json.loads(host.ok(Code.STATS, {"container": "brief"}))
    assert (usage["pids"], usage["oomKills"]) == (0, 0)
    host.ok(Code.REMOVECONTAINER, {"container": "brief"})
    assert host.refused(Code.STATS, {"container": "brief"}) == {"reason": "there is no container 'brief'"}


@pytest.mark.parametrize("isolate", [False, True], ids=["not isolated", "isolated"])
def test_pid_1_of_a_namespace_of_its_own_is_seen_by_nobody_else_and_outlives_sigterm(
    host: RawHost, confined: Callable[..., str], isolate: bool
) -> None:
    name = confined("sleep", "54321", ownPids=True, isolate=isolate)
    assert host.run(name, "cat", "/proc/1/cmdline")[1] == b"sleep\x0054321\0"
    assert b"54321" not in host.run("c1", "ps")[1]
    host.ok(Code.KILLCONTAINER, {"container": name, "signal": 15})  # pid 1 has no handler, so the kernel drops it
    assert host.run(name, "cat", "/proc/1/cmdline")[1] == b"sleep\x0054321\0"


def test_the_end_of_pid_1_ends_all_processes_of_its_namespace(host: RawHost) -> None:
    first = host.start_container("brief", "sh", "-c", "read line; exit 5", ownPids=True)
    further = host.exec("brief", "sleep", "1000000")
    host.feed(first, b"\n")
    assert host.finish(first)[0] == 5
    assert host.finish(further)[0] == 137
    host.ok(Code.REMOVECONTAINER, {"container": "brief"})


def test_a_tmpfs_has_its_size_mode_and_options(host: RawHost, confined: Callable[..., str]) -> None:
    mapping = {"source": "", "path": "/fast/new", "readOnly": False, "tmpfs": True, "size": 1, "mode": 0o750}
    name = confined(fsmap=[mapping | {"noExec": True, "noSuid": True}], noNewPrivs=False)
    assert host.run(name, "stat", "-c", "%a", "/fast/new") == (0, b"750\n", b"")
    (line,) = (one for one in host.run(name, "cat", "/proc/mounts")[1].decode().splitlines() if "/fast/new" in one)
    assert {"rw", "nosuid", "nodev", "noexec", "size=1024k"} <= set(line.split()[3].split(","))
    assert host.run(name, "dd", "if=/dev/zero", "of=/fast/new/file", "bs=1M", "count=2")[0] == 1


def test_what_is_mounted_below_a_read_only_path_stays_there(host: RawHost, confined: Callable[..., str]) -> None:
    mapping = {"source": "", "path": "/fast/new", "readOnly": False, "tmpfs": True}
    name = confined(fsmap=[mapping], readonlyPaths=["/fast"], maskedPaths=["/home", "/etc/../etc/group"])
    assert host.run(name, "touch", "/fast/file")[0] == 1
    assert host.run(name, "touch", "/fast/new/file")[0] == 0
    assert host.run(name, "ls", "/home") == (0, b"", b"")
    assert host.run(name, "cat", "/etc/group") == (0, b"", b"")


def test_a_suspended_container_does_nothing_until_it_goes_on(host: RawHost, confined: Callable[..., str]) -> None:
    name = confined("sh", "-c", "while :; do echo; done")
    host.ok(Code.FREEZE, {"container": name, "frozen": True})
    before = json.loads(host.ok(Code.STATS, {"container": name}))["cpu"]
    assert host.run("c1", "dd", "if=/dev/zero", "of=/dev/null", "bs=1M", "count=64")[0] == 0
    assert json.loads(host.ok(Code.STATS, {"container": name}))["cpu"] == before
    process = {"stdio": 5, "stderr": 6, "args": ["true"]}
    assert "is suspended" in host.refused(Code.EXECCMD, {"container": name, "process": process})["reason"]
    host.ok(Code.FREEZE, {"container": name, "frozen": False})
    host.ok(Code.UPDATE, {"container": name, "cpus": 250, "pids": 7})
    numbers = in_guest(host, "sh", "-c", "cat /run/vc/cgroup/*/cpu.max /run/vc/cgroup/*/pids.max").split("\n")
    assert "25000 100000" in numbers
    assert "7" in numbers


@pytest.mark.parametrize("no_new_privs", [True, False])
def test_a_system_call_that_the_filter_denies_fails(
    host: RawHost, confined: Callable[..., str], no_new_privs: bool
) -> None:
    """The program: load the number; mkdir of x86-64 (83) returns EPERM; all others are allowed."""
    program = ((0x20, 0, 0, 0), (0x15, 0, 1, 83), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000))
    code = b"".join(struct.pack("=HBBI", *one) for one in program)
    name = confined(seccomp=code.hex(), noNewPrivs=no_new_privs, capabilities=["CAP_CHOWN"])
    assert b"Operation not permitted" in host.run(name, "mkdir", "/new", user="bob" if no_new_privs else "")[2]
    assert host.run(name, "touch", "/tmp/file")[0] == 0
    process = {"stdio": 7, "stderr": 8, "args": ["true"]}
    wrong = {"id": "x", "image": "base", "rootfs": "rootfs", "process": process, "seccomp": "0011"}
    assert "is not a program" in host.refused(Code.NEWCONTAINER, wrong)["reason"]


def test_a_device_has_its_numbers_owner_and_mode(host: RawHost, confined: Callable[..., str]) -> None:
    node = {"path": "/dev/net/full", "type": "c", "major": 1, "minor": 7, "mode": 0o640, "uid": 0, "gid": 50}
    name = confined(devices=[node, node | {"path": "/dev/pipe", "type": "p"}])
    assert host.run(name, "stat", "-c", "%a %g %t %T", "/dev/net/full") == (0, b"640 50 1 7\n", b"")
    assert host.run(name, "dd", "if=/dev/zero", "of=/dev/net/full", "count=1")[0] == 1
    assert host.run(name, "stat", "-c", "%F", "/dev/pipe")[1] == b"fifo\n"
