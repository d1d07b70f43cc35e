"""The jail of QEMU's process: what it is made of, what it hides, and what happens where it cannot be made."""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import pytest
from qemu.qmp import ExecuteError, QMPClient
from qemu_vms import live, pid_of

from needs import require
from vc_core.driver import (
    BlockDevice,
    Boot,
    NetworkConfig,
    NetworkInterface,
    NetworkMode,
    ProcessIdentity,
    SharedDirectory,
)
from vc_core.errors import ConfigError, VMStartError
from vc_core.testing.slowness import scaled
from vc_hypervisor_qemu import sockets
from vc_hypervisor_qemu.hypervisor import QemuHypervisor
from vc_hypervisor_qemu.jail import cgroups, ids, launcher
from waiting import PATIENCE

pytestmark = pytest.mark.slow

Make = Callable[..., QemuHypervisor]

#: Numbers of capabilities (linux/capability.h) as /proc/PID/status shows a set of them.
READING, WRITING, OWNING = "0000000000000004", "000000000000000e", "000000000000000f"

#: A user of the host without any rights: nobody.
PLAIN_USER = 65534

#: What the jail of such a user's QEMU lacks.
LACKS_IDS = f"QEMU has the ids of user {PLAIN_USER}, because only root can give it ids of its own"

# linux/prctl.h and linux/sched.h.
PR_SET_DUMPABLE, CLONE_NEWNS, CLONE_NEWUSER = 4, 0x20000, 0x10000000


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return {key: " ".join(value.split()) for key, _, value in (line.partition(":") for line in lines)}


def namespaces(pid: int | str) -> dict[str, str]:
    return {entry.name: str(entry.readlink()) for entry in Path(f"/proc/{pid}/ns").iterdir()}


def mounts(pid: int) -> dict[str, set[str]]:
    """Return the options of each mount that a process sees (proc(5), mountinfo)."""
    lines = Path(f"/proc/{pid}/mountinfo").read_text(encoding="utf-8").splitlines()
    return {line.split()[4]: set(line.split()[5].split(",")) for line in lines}


async def refusals(hypervisor: QemuHypervisor, run_dir: Path, paths: list[tuple[str, bool]]) -> list[str]:
    """Let QEMU open files, each for reading only or also for writing, over its own monitor; return its errors."""
    await hypervisor.aclose()  # QEMU's monitor has no other client now
    monitor, errors = QMPClient(), []
    await monitor.connect(sockets.connect(run_dir / "monitor.sock", pid_of(hypervisor)))
    try:
        for number, (path, read_only) in enumerate(paths):
            node = {"node-name": f"n{number}", "driver": "file", "filename": path, "read-only": read_only}
            try:
                await monitor.execute("blockdev-add", node)
                errors.append("")
            except ExecuteError as error:
                errors.append(str(error))
    finally:
        await monitor.disconnect()
    return errors


# -- the full jail -----------------------------------------------------------------------------------------------------


@pytest.mark.root
def test_qemu_has_users_of_its_own_few_capabilities_and_no_way_to_more(make: Make, tmp_path: Path) -> None:
    hypervisor = make()
    hypervisor.add_device(SharedDirectory("t", tmp_path))

    async def use(pid: int) -> None:
        now = status(pid)
        first = int(now["Uid"].split()[0])
        assert (first - ids.FIRST) % ids.SIZE == 0
        assert now["Uid"] == now["Gid"] == " ".join([str(first)] * 4)
        assert now["Groups"] == ""
        assert [now[name] for name in ("CapPrm", "CapEff", "CapBnd")] == [READING] * 3
        assert int(now["CapInh"], 16) == int(now["CapAmb"], 16) == 0
        assert (now["NoNewPrivs"], now["Seccomp"], now["Seccomp_filters"]) == ("1", "2", "2")
        for name in ("uid_map", "gid_map"):
            assert Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8").split() == ["0", str(first), str(ids.SIZE)]
        assert hypervisor.user_namespace() == Path(f"/proc/{pid}/ns/user")
        assert (hypervisor.jail, hypervisor.jail_missing) == ("full", ())

    live(hypervisor, use)


@pytest.mark.root
def test_with_a_writable_share_qemu_may_also_write_and_change_modes(make: Make, tmp_path: Path) -> None:
    hypervisor = make()
    hypervisor.add_device(SharedDirectory("t", tmp_path, read_only=False))

    async def use(pid: int) -> None:
        assert status(pid)["CapBnd"] == WRITING

    live(hypervisor, use)


@pytest.mark.root
def test_with_root_file_systems_that_a_guest_writes_to_qemu_may_also_change_owners(make: Make, tmp_path: Path) -> None:
    hypervisor = make()
    hypervisor.add_device(SharedDirectory("t", tmp_path, read_only=False, owners=True))

    async def use(pid: int) -> None:
        assert status(pid)["CapBnd"] == OWNING

    live(hypervisor, use)


@pytest.mark.root
def test_without_namespaces_no_guest_writes_to_its_root_file_system(make: Make, tmp_path: Path) -> None:
    hypervisor = make(options={"jail": "landlock"})
    hypervisor.add_device(SharedDirectory("t", tmp_path, read_only=False, owners=True))

    async def main() -> None:
        try:
            with pytest.raises(ConfigError, match="QEMU must be in a jail with namespaces: the option jail leaves"):
                await hypervisor.prepare(scaled(60.0))
        finally:
            await hypervisor.stop(scaled(10.0))
            await hypervisor.aclose()

    asyncio.run(main())


@pytest.mark.root
@pytest.mark.parametrize(
    ("network", "shared"), [(NetworkMode.NONE, set()), (NetworkMode.USER, {"net"})], ids=["none", "user"]
)
def test_qemu_has_namespaces_of_its_own_and_the_hosts_network_only_for_a_user_network(
    make: Make, network: NetworkMode, shared: set[str]
) -> None:
    hypervisor = make()
    if network is not NetworkMode.NONE:
        hypervisor.add_device(NetworkInterface(NetworkConfig(mode=network), "52:54:00:00:00:01"))

    async def use(pid: int) -> None:
        own, ours = namespaces(pid), namespaces("self")
        equal = {name for name in own if own[name] == ours[name]}
        assert equal - {"time", "time_for_children"} == shared

    live(hypervisor, use)


@pytest.mark.root
def test_of_the_hosts_files_qemu_sees_only_what_it_needs_and_can_write_to_nothing_else(
    make: Make, tmp_path: Path, unbootable: Boot
) -> None:
    reading, writing, hidden = (tmp_path / name for name in ("reading", "writing", "hidden"))
    for directory in (reading, writing):
        directory.mkdir()
    hidden.write_bytes(bytes(4096))
    (reading / "file").write_bytes(bytes(4096))
    hypervisor = make()
    hypervisor.add_device(SharedDirectory("r", reading))
    hypervisor.add_device(SharedDirectory("w", writing, read_only=False))

    async def use(pid: int) -> None:
        root = Path(f"/proc/{pid}/root")
        assert {path.name for path in root.iterdir()} <= {
            *("boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "shares", "usr"),
        }
        assert {path.name for path in (root / "usr/bin").iterdir()} == {"qemu-system-x86_64"}
        assert {path.name for path in (root / "etc").iterdir()} <= {"ld.so.cache"}
        assert {path.name for path in (root / "dev").iterdir()} == {"null", "urandom"}
        assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
        for place, options in mounts(pid).items():
            assert "nosuid" in options
            assert ("ro" in options) == (place not in ("/shares/1", "/proc"))
            assert ("nodev" in options) == (place != "/dev")
            assert ("idmapped" in options) == place.startswith(("/boot/", "/shares/"))
            assert ("noexec" in options) == (not place.startswith(("/usr", "/etc")))
        assert int(status(pid)["NSpid"].split()[1]) == 2
        asked = ["/etc/shadow", "/etc/passwd", str(hidden), str(unbootable.kernel), "/dev/vda", "/proc/1/environ"]
        run_dir = tmp_path / "run/p1"
        errors = await refusals(hypervisor, run_dir, [(path, True) for path in (*asked, f"{run_dir}/monitor.sock")])
        for error in errors:
            assert "No such file or directory" in error
        [error] = await refusals(hypervisor, run_dir, [("/shares/0/file", False)])
        assert "Read-only file system" in error or "Permission denied" in error
        assert await refusals(hypervisor, run_dir, [("/shares/0/file", True)]) == [""]

    live(hypervisor, use)


@pytest.mark.root
def test_files_of_any_user_in_a_share_are_readable_and_new_ones_belong_to_root(make: Make, tmp_path: Path) -> None:
    share = tmp_path / "share"
    share.mkdir(mode=0o700)
    for uid in (0, 1000, 65533):
        (share / f"{uid}").write_bytes(bytes(4096))
        (share / f"{uid}").chmod(0o600)
        os.chown(share / f"{uid}", uid, uid)
    hypervisor = make()
    hypervisor.add_device(SharedDirectory("t", share))

    async def use(pid: int) -> None:
        paths = [(f"/shares/0/{uid}", True) for uid in (0, 1000, 65533)]
        assert await refusals(hypervisor, tmp_path / "run/p1", paths) == ["", "", ""]

    live(hypervisor, use)


@pytest.mark.root
def test_two_vms_at_once_have_different_ids_and_a_range_is_free_again_after_its_vm(make: Make, tmp_path: Path) -> None:
    async def first_id(hypervisor: QemuHypervisor) -> int:
        await hypervisor.prepare(60)
        return int(status(pid_of(hypervisor))["Uid"].split()[0])

    async def run() -> None:
        one, two = make(), make(run_dir=tmp_path / "run/p2")
        try:
            ranges = {await first_id(one), await first_id(two)}
            assert len(ranges) == 2
        finally:
            for vm in (one, two):
                await vm.stop(10)
                await vm.aclose()
        again, held = ids.hold()
        os.close(held)
        assert again <= min(ranges)

    asyncio.run(run())


def test_a_range_is_held_as_long_as_a_process_has_its_descriptor(tmp_path: Path) -> None:
    one, held = ids.hold(tmp_path / "locks")
    two, other = ids.hold(tmp_path / "locks")
    assert (one, two) == (ids.FIRST, ids.FIRST + ids.SIZE)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[held]) as heir:
        os.close(held)
        third, more = ids.hold(tmp_path / "locks")
        assert third == ids.FIRST + 2 * ids.SIZE
        assert heir.stdin is not None
        heir.stdin.close()
        heir.wait()
    again, last = ids.hold(tmp_path / "locks")
    assert again == ids.FIRST
    for fd in (other, more, last):
        os.close(fd)


@pytest.mark.root
def test_the_process_that_stands_for_the_vm_has_no_rights_and_only_the_lock_of_the_ids(make: Make) -> None:
    hypervisor = make()

    async def use(pid: int) -> None:
        identity = hypervisor.identity()
        assert identity is not None
        init = status(identity.pid)
        assert int(status(pid)["PPid"]) == identity.pid
        assert {int(init[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb")} == {0}
        assert init["NoNewPrivs"] == "1"
        opened = {str(fd.readlink()) for fd in Path(f"/proc/{identity.pid}/fd").iterdir()}
        assert opened == {"/dev/null", str(ids.LOCKS)}

    live(hypervisor, use)


@pytest.mark.root
def test_qemu_is_gone_when_the_process_that_stands_for_the_vm_has_ended(make: Make) -> None:
    hypervisor = make()

    async def use(pid: int) -> None:
        identity, qemu = hypervisor.identity(), ProcessIdentity.of(pid)
        assert identity is not None
        assert qemu is not None
        identity.send(signal.SIGKILL)
        assert identity.wait(PATIENCE)
        assert not qemu.alive()
        assert (await hypervisor.wait()).reason.startswith("QEMU was killed by SIGKILL")

    live(hypervisor, use)


@pytest.mark.root
def test_a_signal_to_the_process_that_stands_for_the_vm_reaches_qemu(make: Make) -> None:
    hypervisor = make()

    async def use(pid: int) -> None:
        identity = hypervisor.identity()
        assert identity is not None
        identity.send(signal.SIGTERM)
        assert "terminating on signal 15" in (await hypervisor.wait()).reason

    live(hypervisor, use)


@pytest.fixture(scope="session")
def attacker(unbootable: Boot) -> Iterator[Path]:
    """A program in the place of QEMU that tries what an attacker would (jailed.c), beside a kernel and an initramfs.

    Every user can execute it and read these.
    """
    require("musl-gcc")
    with TemporaryDirectory(prefix="attacker-") as directory:
        Path(directory).chmod(0o755)
        for path in (unbootable.kernel, unbootable.image):
            shutil.copy(path, directory)
        binary = Path(directory) / "qemu-system-x86_64"
        source = Path(__file__).with_name("jailed.c")
        subprocess.run(["musl-gcc", "-D_GNU_SOURCE", "-static", "-Wall", "-Werror", "-o", binary, source], check=True)
        yield binary


def break_out(make: Make, attacker: Path, place: Path, jail: str, network: NetworkMode = NetworkMode.NONE) -> None:
    """Let the attacker try its ways out of a jail, with a writable share of this user; assert that all of them fail."""
    share = place / "share"
    share.mkdir()
    (share / "old").touch()
    (share / "old").chmod(0o6755)
    hypervisor = make(
        bootable_beside(attacker), run_dir=place / "run/p1", hypervisor_path=attacker, options={"jail": jail}
    )
    hypervisor.add_device(SharedDirectory("w", share, read_only=False))
    if network is not NetworkMode.NONE:
        hypervisor.add_device(NetworkInterface(NetworkConfig(mode=network), "52:54:00:00:00:01"))

    async def run() -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"\0vc-jail-{share.stat().st_ino}")  # as jailed.c has it
            server.listen()
            with pytest.raises(VMStartError) as raised:
                await hypervisor.prepare(60)
        assert str(raised.value).endswith("QEMU exited with status 3")
        await hypervisor.stop(1)

    asyncio.run(run())
    assert {(one.name, one.stat().st_mode & 0o7000, one.stat().st_uid) for one in share.iterdir()} == {
        ("made", 0, os.geteuid()),
        ("old", 0, os.geteuid()),
    }


def bootable_beside(attacker: Path) -> Boot:
    return Boot(attacker.with_name("kernel"), attacker.with_name("initramfs"), True, ())


@pytest.mark.root
@pytest.mark.parametrize("network", [NetworkMode.NONE, NetworkMode.USER])
@pytest.mark.parametrize("jail", ["full", "landlock"])
def test_the_filter_of_system_calls_and_the_other_parts_refuse_what_an_attacker_in_qemu_tries(
    make: Make, tmp_path: Path, attacker: Path, network: NetworkMode, jail: str
) -> None:
    break_out(make, attacker, tmp_path, jail, network)


# -- less than the full jail -------------------------------------------------------------------------------------------


def test_without_namespaces_landlock_hides_what_qemu_does_not_need(make: Make, tmp_path: Path) -> None:
    share, hidden = tmp_path / "share", tmp_path / "hidden"
    share.mkdir()
    for path in (share / "file", hidden):
        path.write_bytes(bytes(4096))
    hypervisor = make(options={"jail": "landlock"})
    hypervisor.add_device(SharedDirectory("t", share))

    async def use(pid: int) -> None:
        assert (hypervisor.jail, hypervisor.jail_missing) == ("landlock", ())
        assert hypervisor.user_namespace() is None
        now = status(pid)
        assert int(now["CapBnd"], 16) & ~int(READING, 16) == 0 or os.geteuid() != 0
        assert int(now["CapEff"], 16) & ~int(READING, 16) == 0
        assert (now["NoNewPrivs"], now["Seccomp_filters"]) == ("1", "2")
        run_dir = tmp_path / "run/p1"
        asked = [(path, True) for path in ("/etc/passwd", str(hidden), str(run_dir / "console.log"))]
        for error in await refusals(hypervisor, run_dir, [*asked, (str(share / "file"), False)]):
            assert "Permission denied" in error
        assert await refusals(hypervisor, run_dir, [(str(share / "file"), True)]) == [""]

    live(hypervisor, use)


def as_plain_user(work: Callable[[], None], in_namespaces: bool = False) -> None:
    """Do some work in a child of this process that has no rights of root; assert that it does not fail.

    ``in_namespaces``: in a user namespace and a mount namespace of the child's, where its user is root.
    """

    def child() -> None:
        os.setgroups([])
        os.setresgid(*[PLAIN_USER] * 3)
        os.setresuid(*[PLAIN_USER] * 3)
        if in_namespaces:
            libc = ctypes.CDLL(None, use_errno=True)
            libc.prctl(PR_SET_DUMPABLE, 1)  # else the files below /proc/self are root's
            assert libc.unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0, os.strerror(ctypes.get_errno())
            for name, text in (
                ("setgroups", "deny"),
                ("uid_map", f"0 {PLAIN_USER} 1"),
                ("gid_map", f"0 {PLAIN_USER} 1"),
            ):
                Path("/proc/self", name).write_text(text, encoding="ascii")
        work()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(PATIENCE)
    process.kill()
    assert process.exitcode == 0


@pytest.fixture
def place_of_plain_user(attacker: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of a plain user, who can also execute the launcher, wherever this project is."""
    monkeypatch.setattr(launcher, "LAUNCHER", Path(shutil.copy(launcher.LAUNCHER, attacker.parent)))
    with TemporaryDirectory(dir=attacker.parent) as directory:
        os.chown(directory, PLAIN_USER, PLAIN_USER)
        yield Path(directory)


@pytest.mark.root
@pytest.mark.needs("user namespaces")
def test_in_a_users_own_namespaces_qemu_has_all_of_the_jail_but_ids_of_its_own(
    make: Make, attacker: Path, place_of_plain_user: Path
) -> None:
    share, run_dir = place_of_plain_user / "share", place_of_plain_user / "run/p1"

    def work() -> None:
        share.mkdir()
        hypervisor = make(bootable_beside(attacker), run_dir=run_dir)
        hypervisor.add_device(SharedDirectory("t", share))

        async def use(pid: int) -> None:
            assert (hypervisor.jail, hypervisor.user_namespace()) == ("namespaces", None)
            assert hypervisor.jail_missing == (LACKS_IDS,)
            now = status(pid)
            assert [now[name] for name in ("CapPrm", "CapEff", "CapBnd")] == [READING] * 3
            assert (now["NoNewPrivs"], now["Seccomp_filters"]) == ("1", "2")
            shared = {name for name, where in namespaces(pid).items() if where == namespaces("self")[name]}
            assert shared == {"time", "time_for_children"}
            seen = mounts(pid)
            assert {"ro", "nosuid", "nodev", "noexec"} <= seen["/shares/0"] & seen["/"]
            assert all("ro" in options or point.startswith(("/dev/", "/proc")) for point, options in seen.items())
            asked = ["/etc/passwd", str(run_dir / "console.log"), "/dev/zero"]
            for error in await refusals(hypervisor, run_dir, [(path, True) for path in asked]):
                assert "No such file or directory" in error

        live(hypervisor, use)

    as_plain_user(work, in_namespaces=True)


def test_the_first_id_of_a_users_qemu_is_the_own_one_and_its_subordinate_ids_follow(tmp_path: Path) -> None:
    users, groups, own = tmp_path / "uid_map", tmp_path / "gid_map", os.geteuid()
    users.write_text(f"{own} {own} 1\n 100000 100000 65536\n", encoding="ascii")
    groups.write_text("0 0 4294967295\n", encoding="ascii")
    maps = ids.maps_of_user(users, groups)
    assert maps.users == f"0 {own} 1\n1 100000 65535\n"
    group = os.getegid()
    below = f"1 0 {group}\n" if group else ""
    assert maps.groups == f"0 {group} 1\n{below}{1 + group} {group + 1} {65535 - group}\n"


@pytest.mark.root
def test_a_plain_users_pod_without_namespaces_has_landlock_and_says_why_it_has_no_more(
    make: Make, attacker: Path, place_of_plain_user: Path
) -> None:
    def work() -> None:
        hypervisor = make(bootable_beside(attacker), run_dir=place_of_plain_user / "run/p1")

        async def use(pid: int) -> None:
            assert hypervisor.jail == "landlock"
            assert hypervisor.jail_missing == (LACKS_IDS, "the ids of a user namespace: Operation not permitted")
            now = status(pid)
            assert now["Uid"] == " ".join([str(PLAIN_USER)] * 4)
            assert {int(now[name], 16) for name in ("CapPrm", "CapEff")} == {0}
            assert (now["NoNewPrivs"], now["Seccomp_filters"]) == ("1", "2")
            [error] = await refusals(hypervisor, place_of_plain_user / "run/p1", [("/etc/passwd", True)])
            assert "Permission denied" in error

        live(hypervisor, use)

    as_plain_user(work)


@pytest.mark.root
@pytest.mark.parametrize("in_namespaces", [True, False], ids=["namespaces", "landlock"])
def test_an_attacker_in_the_qemu_of_a_plain_user_is_refused_the_same(
    make: Make, attacker: Path, place_of_plain_user: Path, in_namespaces: bool
) -> None:
    as_plain_user(lambda: break_out(make, attacker, place_of_plain_user, "best"), in_namespaces)


@pytest.mark.root
def test_a_pod_whose_files_cannot_have_translated_owners_starts_with_less_and_says_why(
    make: Make, tmp_path: Path
) -> None:
    hypervisor = make()
    hypervisor.add_device(SharedDirectory("t", Path("/proc/self/fdinfo")))

    async def use(pid: int) -> None:
        assert hypervisor.jail == "landlock"
        [reason] = hypervisor.jail_missing
        assert "file system of '/proc/self/fdinfo' cannot translate owners" in reason
        saved: Any = json.loads(json.dumps(hypervisor.save()))
        heir = make(saved=saved)
        assert (heir.jail, heir.jail_missing) == ("landlock", (reason,))

    live(hypervisor, use)


@pytest.mark.root
def test_with_the_option_full_such_a_pod_does_not_start(make: Make) -> None:
    hypervisor = make(options={"jail": "full"})
    hypervisor.add_device(SharedDirectory("t", Path("/proc/self/fdinfo")))

    async def run() -> None:
        with pytest.raises(VMStartError, match=r"QEMU of pod 'p1' cannot be confined: .*cannot translate owners"):
            await hypervisor.prepare(60)
        await hypervisor.stop(1)

    asyncio.run(run())


# -- control groups ----------------------------------------------------------------------------------------------------


@pytest.mark.root
def test_qemus_memory_and_processes_are_limited_where_control_groups_can_be_made(make: Make) -> None:
    made = cgroups.make("test", 1 << 30, 10)
    made.remove()
    if not made.directories:
        pytest.skip("this process can make no control groups")
    hypervisor = make()

    async def use(pid: int) -> None:
        record: Any = hypervisor.save()
        assert record["cgroups"]
        for directory in map(Path, record["cgroups"]):
            assert str(pid) in (directory / "cgroup.procs").read_text(encoding="utf-8").split()
            limits = {
                name: int((directory / name).read_text(encoding="utf-8"))
                for name in ("pids.max", "memory.limit_in_bytes", "memory.max")
                if (directory / name).exists()
            }
            assert limits.get("pids.max", launcher.PROCESSES) == launcher.PROCESSES
            wanted = cgroups.memory_limit(512, hypervisor.acceleration)
            for name in ("memory.limit_in_bytes", "memory.max"):
                assert limits.get(name, wanted) == wanted

    live(hypervisor, use)
    saved: Any = hypervisor.save()
    assert not any(map(os.path.exists, saved["cgroups"]))


@pytest.fixture
def group_of_its_own() -> Iterator[Callable[[], cgroups.Cgroups]]:
    """Return what makes groups for the VM of one pod. Skips where none can be made."""
    uuid = str(uuid4())
    made = cgroups.make(uuid, 1 << 30, 10)
    if not made.directories:
        pytest.skip("this process can make no control groups")
    made.remove()
    yield lambda: cgroups.make(uuid, 1 << 30, 10)
    cgroups.remove_left(uuid)


def test_a_process_joins_a_group_of_version_1_by_the_file_for_threads_which_is_faster(tmp_path: Path) -> None:
    first, second = tmp_path / "v1", tmp_path / "v2"
    for path in (first / "tasks", first / "cgroup.procs", second / "cgroup.procs"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert cgroups.Cgroups([first, second]).members == [f"{first}/tasks", f"{second}/cgroup.procs"]


@pytest.mark.promise("T01")
@pytest.mark.root
def test_groups_that_a_killed_process_has_left_are_removed_by_the_next_start_of_any_vm(
    group_of_its_own: Callable[[], cgroups.Cgroups], monkeypatch: pytest.MonkeyPatch
) -> None:
    left = group_of_its_own()
    try:
        monkeypatch.setattr(cgroups, "_ABANDONED", 0)
        cgroups.make(str(uuid4()), 1 << 30, 10).remove()
        assert all(path.is_dir() for path in left.directories), "its owner held it"
        left.close()
        monkeypatch.setattr(cgroups, "_ABANDONED", 60)
        cgroups.make(str(uuid4()), 1 << 30, 10).remove()
        assert all(path.is_dir() for path in left.directories), "it has just been made"
        monkeypatch.setattr(cgroups, "_ABANDONED", 0)
        with subprocess.Popen(["sleep", "100"]) as member:
            for path in left.members:
                Path(path).write_text(str(member.pid), encoding="ascii")
            cgroups.make(str(uuid4()), 1 << 30, 10).remove()
            assert all(path.is_dir() for path in left.directories), "it has a process"
            member.kill()
        cgroups.make(str(uuid4()), 1 << 30, 10).remove()
        assert not any(path.exists() for path in left.directories)
    finally:
        left.close()


@pytest.mark.root
def test_a_group_is_removed_once_a_process_has_left_it_whose_end_was_reported_before(
    group_of_its_own: Callable[[], cgroups.Cgroups], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "_LEAVE_TIMEOUT", PATIENCE)
    group = group_of_its_own()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as member:
        for path in group.members:
            Path(path).write_text(str(member.pid), encoding="ascii")
        assert member.stdin is not None
        leaving = threading.Timer(0.1, member.stdin.close)
        leaving.start()
        group.remove()
        leaving.join()
    assert not any(path.exists() for path in group.directories)


@pytest.mark.promise("T01")
@pytest.mark.root
def test_a_group_is_made_anew_when_another_start_removes_it_at_that_moment(
    group_of_its_own: Callable[[], cgroups.Cgroups], monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[Path] = []
    lock = cgroups._lock

    def remove_first(directory: Path, how: int) -> int | None:
        if how == fcntl.LOCK_SH and len(removed) < 3:
            directory.rmdir()
            removed.append(directory)
        return lock(directory, how)

    monkeypatch.setattr(cgroups, "_lock", remove_first)
    made = group_of_its_own()
    assert len(removed) == 3
    assert all(path.is_dir() for path in made.directories)
    made.remove()


@pytest.mark.promise("T01")
@pytest.mark.root
def test_groups_of_a_vm_that_was_not_recorded_are_removed_with_it(make: Make, tmp_path: Path) -> None:
    hypervisor = make()
    left = cgroups.make(hypervisor._pod.uuid, 1 << 30, 10)
    if not left.directories:
        pytest.skip("this process can make no control groups")
    left.close()
    asyncio.run(hypervisor.stop(1))
    assert not any(path.exists() for path in left.directories)


@pytest.mark.promise("T26")
@pytest.mark.parametrize(
    ("file", "content", "kills"),
    [
        ("memory.events", "low 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\n", 1),
        ("memory.events", "oom 0\noom_kill 0\n", 0),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", 3),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n", None),  # of Linux before 4.13
        ("pids.max", "10", None),
    ],
)
def test_what_the_kernel_killed_for_lack_of_memory_is_read_in_both_versions(
    tmp_path: Path, file: str, content: str, kills: int | None
) -> None:
    (tmp_path / file).write_text(content, encoding="ascii")
    assert cgroups.Cgroups((tmp_path / "without", tmp_path)).oom_kills() == kills


def test_a_disk_is_a_descriptor_and_its_path_is_not_in_the_jail(make: Make, tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(1 << 20))
    hypervisor = make()
    hypervisor.add_device(BlockDevice("d", disk))

    async def use(pid: int) -> None:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        assert b"/dev/fdset/0" in words
        assert os.fsencode(disk) not in words

    live(hypervisor, use)
