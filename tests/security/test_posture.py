"""The posture of a running pod: what /proc says about QEMU, the process that stands for the VM, and the supervisor.

``docs/explanation/threat-model.md`` says what each part is for.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import vc_core as vc
from vc_core.store.roots import ROOT_VARIABLE, Roots
from vc_hypervisor_qemu.jail import ids

from .attacked_pod import Posture, Process

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.slow]

#: The namespaces that QEMU shares with no other process, and those of them that its supervisor has to itself.
_QEMU_ALONE = {"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"}

#: Capabilities (linux/capability.h) of a QEMU with a writable share: DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER.
_OF_QEMU = 1 << 1 | 1 << 2 | 1 << 3
#: Those that no supervisor has, of which SYS_MODULE, SYS_RAWIO, SYS_BOOT, SYS_TIME, MAC_ADMIN, SYSLOG and BPF.
_NOT_OF_SUPERVISORS = sum(1 << number for number in (16, 17, 22, 25, 33, 34, 39))


def test_status_says_that_the_jail_is_full(attacked: Posture) -> None:
    [status] = [one for one in vc.list_pods() if one.id == "posture"]
    assert (status.jail, status.jail_missing) == ("full", ())


def test_a_strict_pod_starts_and_says_that_it_is_strict(attacked: Posture) -> None:
    [status] = [one for one in vc.list_pods() if one.id == "posture"]
    assert (status.state, status.strict) == ("running", True)


#: Runs a pod whose root lies on an overlay, whose owners no kernel can translate, in a mount namespace of its own.
_ON_OVERLAY = """
mount -t tmpfs none "$1"
mkdir "$1/lower" "$1/upper" "$1/work" "$1/merged"
cp -a "$2/." "$1/lower"
mount -t overlay -o "lowerdir=$1/lower,upperdir=$1/upper,workdir=$1/work" none "$1/merged"
exec virtc pod run --id overlaid --strict --bundle "$1/merged" -- sleep 1000
"""


def test_a_strict_pod_whose_files_cannot_have_translated_owners_does_not_start_and_leaves_nothing(
    attacked: Posture, tmp_path: Path
) -> None:
    bundle, place = attacked.top / "bundle", tmp_path / "place"
    place.mkdir()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["unshare", "--mount", "--", "sh", "-euc", _ON_OVERLAY, "sh", place, bundle],
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        "virtc: pod 'overlaid' is strict, but the jail of its VM is 'landlock' and not 'full': "
    )
    assert f"the file system of '{place}/merged/rootfs' cannot translate owners" in done.stderr
    assert [one.id for one in vc.list_pods()] == ["posture"]
    assert not Roots.from_environment().pod_run_dir("overlaid").exists()


# -- QEMU --------------------------------------------------------------------------------------------------------------


@pytest.mark.promise("T21")
def test_qemu_is_no_user_of_the_host(attacked: Posture) -> None:
    status, maps = attacked.qemu.status, attacked.qemu.read("uid_map")
    users, groups = ({int(one) for one in status[name].split()} for name in ("Uid", "Gid"))
    [first] = users
    assert users == groups
    assert ids.FIRST <= first < ids.FIRST + ids.COUNT * ids.SIZE
    assert status["Groups"] == ""
    assert maps == attacked.qemu.read("gid_map")
    assert maps.split() == ["0", str(first), str(ids.SIZE)]


@pytest.mark.promise("T21")
def test_qemu_has_three_capabilities_in_its_own_namespace_and_cannot_gain_more(attacked: Posture) -> None:
    for which in ("CapPrm", "CapEff", "CapBnd"):
        assert attacked.qemu.capabilities(which) == _OF_QEMU
    for which in ("CapInh", "CapAmb"):
        assert attacked.qemu.capabilities(which) == 0
    assert attacked.qemu.status["NoNewPrivs"] == "1"


@pytest.mark.promise("T21")
def test_two_filters_of_system_calls_hold_in_every_thread_of_qemu(attacked: Posture) -> None:
    for thread in (attacked.qemu.place / "task").iterdir():
        text = (thread / "status").read_text(encoding="utf-8")
        assert "\nSeccomp:\t2\n" in text
        assert "\nSeccomp_filters:\t2\n" in text


def test_qemu_shares_no_namespace_with_any_other_process_but_its_init(attacked: Posture) -> None:
    own, others = (
        attacked.qemu.namespaces,
        [Process(one) for one in (os.getpid(), attacked.supervisor.pid, attacked.init.pid)],
    )
    for other in others:
        shared = {name for name in own if own[name] == other.namespaces[name]}
        assert shared & _QEMU_ALONE == ({"pid"} if other.pid == attacked.init.pid else set())


def test_the_root_of_qemu_has_what_it_needs_and_nothing_else(attacked: Posture) -> None:
    root = attacked.qemu.place / "root"
    allowed = {"boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "shares", "usr"}
    assert {one.name for one in root.iterdir()} <= allowed
    assert {one.name for one in (root / "boot").iterdir()} == {"kernel", "image"}
    assert {one.name for one in (root / "dev").iterdir()} <= {"null", "urandom", "kvm"}
    assert not list((root / "tmp").glob("*"))
    assert (attacked.qemu.place / "cwd").readlink() == Path("/")


def test_qemu_can_write_to_the_writable_mounts_alone(attacked: Posture) -> None:
    writable = {place for place, options in attacked.qemu.mounts.items() if "rw" in options}
    assert {place for place in writable if "/.mounts/" not in place} == {"/proc"}
    assert len(writable) == 2


def test_no_mount_of_qemu_has_set_user_id_programs_and_only_dev_has_devices(attacked: Posture) -> None:
    for place, options in attacked.qemu.mounts.items():
        assert "nosuid" in options, place
        assert ("nodev" in options) == (place != "/dev"), place


def test_everything_shared_has_translated_owners(attacked: Posture) -> None:
    shared = {place: options for place, options in attacked.qemu.mounts.items() if place.startswith("/shares/")}
    assert len(shared) >= 5  # two or three shares, and below them a root and two mounts
    for place, options in shared.items():
        is_top = place.count("/") == 2  # of nothing but mount points
        assert ("idmapped" in options) == (not is_top), place


def test_a_file_that_only_root_can_read_is_readable_for_qemu_as_its_own(attacked: Posture) -> None:
    secret, *_ = (attacked.qemu.place / "root/shares").glob("*/c1/rootfs/secret")
    first = int(attacked.qemu.status["Uid"].split()[0])
    assert (secret.stat().st_uid, secret.stat().st_mode & 0o777) == (first, 0o600)


@pytest.mark.promise("T21")
def test_qemu_has_no_environment_and_only_descriptors_of_its_own(attacked: Posture) -> None:
    assert attacked.qemu.variables == set()
    files = {one for one in attacked.qemu.files if not one.startswith(("anon_inode:", "socket:", "/shares/"))}
    assert files <= {"/dev/null", "/dev/urandom", str(attacked.run_dir / "qemu.pipe")}


@pytest.mark.promise("T21")
def test_the_limits_of_qemu(attacked: Posture) -> None:
    limits = attacked.qemu.limits
    assert (limits["Max core file size"], limits["Max open files"], limits["Max processes"]) == ("1", "4096", "1024")
    assert attacked.qemu.status["Umask"] == "0077"


# -- the init of its namespace, and the supervisor ---------------------------------------------------------------------


def test_the_init_has_no_capabilities_no_descriptors_and_cannot_gain_any(attacked: Posture) -> None:
    for which in ("CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb"):
        assert attacked.init.capabilities(which) == 0
    assert attacked.init.status["NoNewPrivs"] == "1"
    assert attacked.init.files == {"/dev/null", str(ids.LOCKS)}
    assert "SECRET_TOKEN" not in attacked.init.variables


def test_the_supervisor_gets_no_secret_of_its_caller_and_not_every_capability(attacked: Posture) -> None:
    variables = attacked.supervisor.variables
    assert ROOT_VARIABLE in variables
    assert "SECRET_TOKEN" not in variables
    for which in ("CapPrm", "CapEff", "CapBnd"):
        assert attacked.supervisor.capabilities(which) & _NOT_OF_SUPERVISORS == 0
    assert attacked.supervisor.status["Umask"] == "0077"
    assert attacked.supervisor.read("stat").rpartition(")")[2].split()[4] == "0"  # no terminal (proc(5), tty_nr)


def test_what_the_processes_listen_on_is_private(attacked: Posture) -> None:
    assert attacked.run_dir.stat().st_mode & 0o777 == 0o700
    for path in attacked.run_dir.glob("*.sock"):
        assert path.stat().st_mode & 0o077 == 0, path
