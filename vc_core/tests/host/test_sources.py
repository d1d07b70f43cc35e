"""Where a container's root is, recognised by its content, and that what is opened stays what it was."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import vc_core as vc
from vc_core.config.container import ContainerConfig
from vc_core.driver import BlockDevice, SharedDirectory
from vc_core.engine.assembly import root_disk
from vc_core.errors import ConfigError
from vc_core.host import sources
from vc_core.host.paths import Rules
from vc_core.store.roots import Roots


@pytest.fixture
def rules(roots: Roots) -> Rules:
    return Rules(roots)


def container(root_fs: Path | str, **fields: Any) -> ContainerConfig:
    return ContainerConfig(id="c", root_fs=str(root_fs), cmd=vc.Cmd(args=["ls"]), **fields)


def root_of(rules: Rules, root_fs: Path | str, **fields: Any) -> sources.Source:
    return sources.open_container(container(root_fs, **fields), rules).root


def test_a_bundle_and_its_rootfs_mean_the_same(tmp_path: Path, rules: Rules) -> None:
    (tmp_path / "b/rootfs/bin").mkdir(parents=True)
    for given in (tmp_path / "b", tmp_path / "b/rootfs"):
        root = root_of(rules, given)
        assert (root.path, root.fstype) == (tmp_path / "b/rootfs", "")


@pytest.mark.parametrize("kind", ["missing", "empty", "empty file", "text", "pipe", "not given"])
def test_a_root_file_system_that_cannot_be_one_is_refused(tmp_path: Path, rules: Rules, kind: str) -> None:
    path = tmp_path / "r"
    if kind == "empty":
        path.mkdir()
    elif kind == "empty file":
        path.touch()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "text":
        path.write_text("x" * 5000, encoding="utf-8")
    with pytest.raises(ConfigError, match="rootfs of container 'c'"):
        root_of(rules, "" if kind == "not given" else path)


def test_an_error_about_a_source_names_the_field_of_the_pod(tmp_path: Path, rules: Rules) -> None:
    good, missing = tmp_path / "good", tmp_path / "missing"
    (good / "bin").mkdir(parents=True)
    mounts = [vc.Mount(source=str(one), target="/m") for one in (good, missing)]
    wrong = {
        "root_fs": {"root_fs": str(missing)},
        "containers[1].root_fs": {"containers": [container(good), replace(container(missing), id="d")]},
        "containers[0].mounts[1]": {"containers": [container(good, mounts=mounts)]},
        "containers[0].cmd": {"containers": [vc.ContainerConfig(id="c", root_fs=str(good))]},
    }
    for field, fields in wrong.items():
        with pytest.raises(ConfigError) as refused:
            sources.open_pod(vc.PodConfig(**fields), rules)  # type: ignore[arg-type]  # fields of several types
        assert refused.value.field == field


@pytest.mark.needs("mke2fs")
def test_an_ext4_disk_is_recognised_by_its_first_bytes(tmp_path: Path, rules: Rules) -> None:
    disk = tmp_path / "disk.img"
    with disk.open("wb") as file:
        file.truncate(8 << 20)
    subprocess.run(["/sbin/mke2fs", "-q", "-t", "ext4", disk], check=True, capture_output=True)
    (tmp_path / "link").symlink_to(disk)
    root = root_of(rules, tmp_path / "link")
    assert root_disk(container(disk), root) == BlockDevice("root-c", disk)
    assert root.fstype == "ext4"


@pytest.mark.parametrize(
    ("fstype", "offset", "begins"),
    [("squashfs", 0, b"hsqs"), ("xfs", 0, b"XFSB"), ("erofs", 1024, (0xE0F5E1E2).to_bytes(4, "little"))],
)
def test_disks_of_other_formats_are_recognised(
    tmp_path: Path, rules: Rules, fstype: str, offset: int, begins: bytes
) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(offset) + begins + bytes(4096))
    assert root_of(rules, disk).fstype == fstype


def test_a_container_writes_to_the_directory_itself_and_never_to_one_that_it_made_there(
    tmp_path: Path, rules: Rules
) -> None:
    (tmp_path / "closed/b/rootfs/bin").mkdir(parents=True)
    (tmp_path / "closed/b/bin").mkdir()
    (tmp_path / "closed").chmod(0o700)
    assert root_of(rules, tmp_path / "closed/b", writable_root_fs=True).path == tmp_path / "closed/b"


def test_no_container_writes_to_a_bundle(tmp_path: Path, rules: Rules) -> None:
    (tmp_path / "closed/b/rootfs/bin").mkdir(parents=True)
    (tmp_path / "closed/b/config.json").touch()
    (tmp_path / "closed").chmod(0o700)
    with pytest.raises(ConfigError, match=r"is a bundle, .* name its directory rootfs"):
        root_of(rules, tmp_path / "closed/b", writable_root_fs=True)


def test_a_link_named_rootfs_in_a_root_leads_no_guest_elsewhere(tmp_path: Path, rules: Rules) -> None:
    (tmp_path / "b/bin").mkdir(parents=True)
    (tmp_path / "b/rootfs").symlink_to("/etc")
    assert root_of(rules, tmp_path / "b").path == tmp_path / "b"


def test_no_container_writes_to_what_is_empty_or_no_directory(tmp_path: Path, rules: Rules) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="is empty"):
        root_of(rules, tmp_path / "empty", writable_root_fs=True)
    with pytest.raises(ConfigError, match="is not a directory"):
        root_of(rules, "/dev/null", writable_root_fs=True)


def swap_for_a_link(directory: Path, target: str = "/etc") -> None:
    """Do to a source what somebody else can do who may write to the directory above it."""
    directory.rename(directory.with_name("moved"))
    directory.symlink_to(target)


def names(source: sources.Source) -> list[str]:
    return [path.name for path in Path(f"/proc/self/fd/{source.fd}").iterdir()]


def test_a_source_stays_what_was_checked_although_its_name_becomes_a_link(tmp_path: Path, rules: Rules) -> None:
    (tmp_path / "b/rootfs/bin").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/ours").touch()
    mounts = [vc.Mount(str(tmp_path / "data"), "/data", read_only=False)]
    opened = sources.open_container(container(tmp_path / "b", mounts=mounts), rules)
    swap_for_a_link(tmp_path / "data")
    swap_for_a_link(tmp_path / "b/rootfs")
    assert opened.mounts[0] is not None
    assert names(opened.mounts[0]) == ["ours"]
    assert names(opened.root) == ["bin"]
    with pytest.raises(ConfigError, match="never written by a guest"):
        sources.open_container(container(tmp_path / "moved", mounts=mounts), rules)


#: Opens the directory argv[1], lets somebody else swap it for a link to /etc, and binds it: prints what is then there.
_SWAPPED_BEFORE_BIND = """
import sys
from pathlib import Path
from vc_core.host import share
from vc_core.host.sources import Source

name, directory = Path(sys.argv[1]), Path(sys.argv[2])
source = Source("the test", str(name))
share.make_shared_dir(directory)
name.rename(name.with_name("moved"))
name.symlink_to("/etc")
share.bind_into(directory, "c1/mounts/0", source, read_only=False)
share.bind_volume(directory.with_name("volumes") / "0", source, read_only=True)
for place in ("share/c1/mounts/0", "volumes/0"):
    print([path.name for path in (directory.parent / place).iterdir()])
"""


@pytest.mark.root
@pytest.mark.needs("mount namespaces")
@pytest.mark.parametrize("namespaces", [["--mount"], ["--user", "--map-root-user", "--mount"]])
def test_what_is_bound_is_what_was_opened_also_in_a_user_namespace(tmp_path: Path, namespaces: list[str]) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/ours").touch()
    argv = ["unshare", *namespaces, sys.executable, "-c", _SWAPPED_BEFORE_BIND]
    argv += map(str, (tmp_path / "source", tmp_path / "share"))
    done = subprocess.run(argv, capture_output=True, encoding="utf-8")
    assert done.stdout.splitlines() == ["['ours']", "['ours']"], done.stderr


def test_a_source_that_is_removed_while_it_is_opened_is_refused(tmp_path: Path, rules: Rules) -> None:
    for name in ("source", "source (deleted)"):
        (tmp_path / name).mkdir()
        with sources.Source("mount", str(tmp_path / name)) as source:
            source.check(rules, read_only=True)
            assert source.path == tmp_path / name
            (tmp_path / name).rmdir()
            with pytest.raises(ConfigError, match="was removed while it was opened"):
                source.check(rules, read_only=True)


def test_a_disk_stays_what_was_checked_although_its_name_becomes_another_file(tmp_path: Path, rules: Rules) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"hsqs" + bytes(5000))
    root = root_of(rules, disk)
    device = root_disk(container(disk), root)
    swap_for_a_link(disk, "/etc/shadow")
    assert device is not None
    assert device.opened.read_bytes()[:4] == b"hsqs"


def test_a_name_that_changes_all_the_time_gives_the_directory_or_an_error(tmp_path: Path, rules: Rules) -> None:
    """Somebody else exchanges the directory and a link to /etc while it is opened and checked again and again."""
    source, link = tmp_path / "source", tmp_path / "link"
    source.mkdir()
    link.symlink_to("/etc")
    allowed, stop = source.stat(), threading.Event()

    def exchange() -> None:
        while not stop.is_set():
            for one, other in ((source, tmp_path / "x"), (link, source), (tmp_path / "x", link)):
                one.rename(other)

    thread = threading.Thread(target=exchange)
    thread.start()
    outcomes = set()
    try:
        for _ in range(2000):
            try:
                device = SharedDirectory("t", source, read_only=False)
                [(_, opened)] = sources.open_volumes([device], tmp_path / "run", rules)
            except ConfigError as error:
                outcomes.add("refused" if "'/etc'" in str(error) else "missing")
                continue
            with opened:
                assert os.path.samestat(os.fstat(opened.fd), allowed)
            outcomes.add("opened")
    finally:
        stop.set()
        thread.join()
    assert {"opened", "refused"} <= outcomes


def test_the_volumes_of_an_agents_configuration_are_under_the_same_rules(tmp_path: Path, roots: Roots) -> None:
    (tmp_path / "b/rootfs/bin").mkdir(parents=True)
    for volume, why in (("/etc", "never written by a guest"), (str(roots.state), "never written by a guest")):
        roots.state.mkdir(parents=True, exist_ok=True)
        with pytest.raises(ConfigError, match=why):
            vc.create_pod(
                vc.PodConfig(
                    containers=[container(tmp_path / "b")],
                    agent_config={"volumes": [{"mount_tag": "t", "host_path": volume, "read_only": False}]},
                )
            )
    assert vc.list_pods() == []


# -- disks that this host uses -----------------------------------------------------------------------------------------

#: Runs as root in a mount namespace of its own: prints why a disk cannot be written to, while it is in use in each way.
_IN_USE = """
import subprocess, sys
from pathlib import Path
import vc_core as vc
from vc_core.errors import ConfigError
from vc_core.host import sources
from vc_core.host.paths import Rules
from vc_core.store.roots import Roots

disk, point, rules = Path(sys.argv[1]), Path(sys.argv[2]), Rules(Roots.from_environment())

def attempt(path, writable=True):
    config = vc.ContainerConfig(id="c", root_fs=str(path), cmd=vc.Cmd(args=["ls"]), writable_root_fs=writable)
    try:
        sources.open_container(config, rules).close()
        print("allowed")
    except ConfigError as error:
        print(error)

def losetup(*words):
    return subprocess.run(["losetup", *words], check=True, capture_output=True, encoding="utf-8").stdout.strip()

attempt(disk)
loop = losetup("--find", "--show", str(disk))
try:
    attempt(disk)
    attempt(disk, writable=False)
    attempt(loop)
    subprocess.run(["mount", loop, point], check=True)
    attempt(loop)
    attempt(loop, writable=False)
    subprocess.run(["umount", point], check=True)
    second = losetup("--find", "--show", loop)
    attempt(loop)
    losetup("--detach", second)
finally:
    losetup("--detach", loop)
"""


@pytest.mark.root
@pytest.mark.needs("mount namespaces", "mke2fs", "losetup")
def test_a_disk_that_this_host_uses_is_never_written_by_a_guest(tmp_path: Path) -> None:
    disk, point = tmp_path / "disk.img", tmp_path / "point"
    point.mkdir()
    with disk.open("wb") as file:
        file.truncate(8 << 20)
    subprocess.run(["/sbin/mke2fs", "-q", "-t", "ext4", disk], check=True, capture_output=True)
    argv = ["unshare", "--mount", sys.executable, "-c", _IN_USE, str(disk), str(point)]
    done = subprocess.run(argv, capture_output=True, encoding="utf-8")
    unused, behind, read_only, loop, mounted, seen, nested = done.stdout.splitlines()
    assert (unused, read_only, loop, seen) == ("allowed",) * 4, done.stderr
    assert "it is behind the loop device '/dev/loop" in behind
    assert "is mounted or otherwise in use" in mounted
    assert "it is behind the loop device '/dev/loop" in nested
    for refused in (behind, mounted, nested):
        assert refused.startswith("rootfs of container 'c': ")
