"""Roots and volumes that are disks: virtio-blk by name, SCSI by address, there at the start or added later.

On two of them, the functions of the host that limit directories are tried with Debian's kernel, because hosts of tests
seldom have a file system with project quota.
"""

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from guest_vm import TIMEOUT, VM, Qmp, RawHost, build_image, make_root_fs, with_pod

import quota_in_guest
import vc_core
from needs import require
from vc_agent_hyperstart.codec import Code
from vc_core.driver import GuestImage

pytestmark = pytest.mark.vm

#: What Python needs in the guest, by the tags of its shares; it mounts them where they are here.
PYTHON = {
    "usr": Path("/usr"),
    "python": Path(sys.base_prefix),
    "source": Path(vc_core.__file__).parents[1],
    "packages": Path(msgspec.__file__).parents[1],
}

#: The file systems with project quota, each with the unit of its disk.
WITH_QUOTA = {"xfs": 0, "ext4": 1}

TOOLS = ("mkfs.ext4", "mksquashfs", "mkfs.erofs", "mkfs.xfs")


def run(*args: str | Path) -> None:
    subprocess.run(args, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with images of one root file system in each format, and of two xfs with the same UUID."""
    require(*TOOLS)
    directory = tmp_path_factory.mktemp("images")
    root = directory / "root"
    make_root_fs(root / "rootfs")
    for name in ("dev", "proc", "sys"):
        (root / "rootfs" / name).mkdir()
    (root / "rootfs/tmp/seed").write_text("from the image", encoding="utf-8")
    (root / "rootfs/tmp/seed").chmod(0o640)
    (root / "rootfs/tmp/link").symlink_to("seed")
    (root / "out").symlink_to("/")
    (root / "_data").symlink_to("rootfs/../..")
    run("mkfs.ext4", "-q", "-d", root, directory / "ext4", "32M")
    run("mksquashfs", root, directory / "squashfs", "-quiet", "-no-progress")
    run("mkfs.erofs", directory / "erofs", root)
    (directory / "xfs").touch()
    with (directory / "xfs").open("r+b") as file:
        file.truncate(320 << 20)
    run("mkfs.xfs", "-q", directory / "xfs")
    for name in ("ext4", "squashfs", "xfs"):
        run("cp", "--sparse=always", directory / name, directory / f"{name}-copy")
    run("cp", "--sparse=always", directory / "xfs", directory / "xfs-quota")
    run("mkfs.ext4", "-q", "-O", "quota,project", "-E", "quotatype=prjquota", directory / "ext4-quota", "64M")
    return directory


class Disks:
    """Arguments of QEMU for disks; the virtio-blk ones are vda, vdb ... in their order."""

    def __init__(self) -> None:
        self.arguments = ["-device", "virtio-scsi-pci,id=scsi"]

    def drive(self, file: Path, read_only: bool = True, name: str | None = None) -> str:
        name = name or f"disk{len(self.arguments)}"
        access = "on" if read_only else "off"
        self.arguments += ["-drive", f"file={file},format=raw,if=none,id={name},readonly={access}"]
        return name

    def blk(self, file: Path, **more: Any) -> None:
        self.arguments += ["-device", f"virtio-blk-pci,drive={self.drive(file, **more)}"]

    def scsi(self, file: Path, target: int, lun: int, **more: Any) -> None:
        drive = self.drive(file, **more)
        self.arguments += ["-device", f"scsi-hd,drive={drive},bus=scsi.0,scsi-id={target},lun={lun}"]


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Iterator[VM]:
    """A VM with disks, some of them only in QEMU so far."""
    disks = Disks()
    disks.blk(images / "squashfs")
    disks.blk(images / "ext4", read_only=False)
    disks.scsi(images / "erofs", 0, 0)
    disks.scsi(images / "ext4-copy", 0, 1)
    disks.scsi(images / "xfs", 2, 0, read_only=False)
    disks.scsi(images / "xfs-copy", 3, 0, read_only=False)
    for fstype, lun in WITH_QUOTA.items():
        disks.scsi(images / f"{fstype}-quota", 4, lun, read_only=False)
    disks.drive(images / "squashfs-copy", name="spare")
    for tag, path in PYTHON.items():
        disks.arguments += ["-fsdev", f"local,id={tag},path={path},security_model=none,readonly=on"]
        disks.arguments += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    usual: dict[str, tuple[str, ...]] = {"disks": ("virtio_blk", "virtio_scsi", "sd_mod")}
    usual.update({name: (name,) for name in ("squashfs", "erofs", "xfs")})
    usual["ext4"] = ("ext4", "quota_v2")
    directory = tmp_path_factory.mktemp("vm")
    with with_pod(directory, build_image(platform.machine(), later=usual), devices=disks.arguments) as vm:
        yield vm


def container(host: RawHost, name: str, *args: str, **spec: Any) -> int:
    """Start a container without an overlay; return its stdio stream."""
    return host.start_container(name, *args, **{"overlay": False, **spec})


def remove(host: RawHost, name: str, stdio: int) -> None:
    host.call(Code.KILLCONTAINER, {"container": name, "signal": 9})
    host.finish(stdio)
    host.ok(Code.REMOVECONTAINER, {"container": name})


def output_of(host: RawHost, *args: str, **spec: Any) -> str:
    """Run a container to its end, and remove it."""
    stdio = container(host, "brief", *args, **spec)
    status, output, errors = host.finish(stdio)
    host.ok(Code.REMOVECONTAINER, {"container": "brief"})
    assert (status, errors) == (0, b"")
    return output.decode()


WRITE = ("sh", "-c", "cat /tmp/seed; echo written > /tmp/seed; cat /tmp/seed")

EVERY_KIND = [
    {"image": "vda", "fstype": "squashfs"},
    {"image": "vdb", "fstype": "ext4"},
    {"image": "", "addr": "0:0", "fstype": "erofs"},
    {"image": "", "addr": "0:1", "fstype": "ext4"},
]


@pytest.mark.parametrize("disk", EVERY_KIND, ids=lambda disk: f"{disk['fstype']}-{disk.get('addr') or disk['image']}")
def test_a_root_on_a_disk_has_an_overlay_and_the_disk_never_changes(host: RawHost, disk: dict[str, Any]) -> None:
    for _ in range(2):
        assert output_of(host, *WRITE, overlay=True, **disk) == "from the imagewritten\n"


def test_without_an_overlay_the_container_writes_to_the_disk(host: RawHost) -> None:
    disk = {"image": "vdb", "fstype": "ext4"}
    assert output_of(host, "sh", "-c", "echo kept > /kept", **disk) == ""
    assert output_of(host, "cat", "/kept", **disk) == "kept\n"


@pytest.mark.parametrize(
    "disk", [{"image": "vdb", "fstype": "ext4", "readOnly": True}, {"image": "", "addr": "0:1", "fstype": "ext4"}]
)
def test_a_root_that_is_to_be_read_only_or_lies_on_a_read_only_disk_cannot_be_written(
    host: RawHost, disk: dict[str, Any]
) -> None:
    stdio = container(host, "reader", "sleep", "1000000", **disk)
    assert host.run("reader", "touch", "/tmp/new") == (1, b"", b"touch: /tmp/new: Read-only file system\n")
    remove(host, "reader", stdio)


def test_device_files_of_an_image_are_of_no_use(host: RawHost) -> None:
    script = "mkdir -p /d; test -e /d/zero || mknod /d/zero c 1 5; head -c 1 /d/zero"
    for overlay in (False, True):
        stdio = container(host, "maker", "sh", "-c", script, image="vdb", fstype="ext4", overlay=overlay)
        status, _, errors = host.finish(stdio)
        host.ok(Code.REMOVECONTAINER, {"container": "maker"})
        assert (status, errors) == (1, b"head: /d/zero: Permission denied\n")


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (
            {"image": "vda", "fstype": "squashfs", "rootfs": "nowhere"},
            "'nowhere' on disk 'vda': No such file or directory",
        ),
        ({"image": "vda", "fstype": "squashfs", "rootfs": "out"}, "'out' leads out of disk 'vda'"),
        ({"image": "vda", "fstype": "squashfs", "rootfs": ".."}, "'..' leads out of disk 'vda'"),
        ({"image": "vda", "fstype": "ext4"}, "disk 'vda': mount as ext4: Invalid argument"),
        ({"image": "vda", "fstype": "fat"}, "disk 'vda': the guest's kernel has no file system fat"),
        ({"image": "vda", "fstype": "../x"}, "disk 'vda': the guest's kernel has no file system ../x"),
        ({"image": "null", "fstype": "ext4"}, "the VM has no disk 'null'"),
        ({"image": "", "addr": "7:0", "fstype": "ext4"}, "the VM has no disk '7:0'"),
    ],
)
def test_a_disk_that_cannot_be_the_root_is_an_error_with_its_reason(
    host: RawHost, spec: dict[str, Any], reason: str
) -> None:
    process = {"stdio": 5, "stderr": 6, "args": ["true"]}
    whole = {"id": "c2", "rootfs": "rootfs", "process": process, **spec}
    assert host.refused(Code.NEWCONTAINER, whole) == {"reason": reason}


def test_a_disk_that_comes_while_the_guest_waits_for_it_is_found_and_nothing_else_waits(
    host: RawHost, extended: VM, qmp: Callable[[VM], Qmp]
) -> None:
    stdio, stderr = host.new_streams()
    process = {"stdio": stdio, "stderr": stderr, "args": ["cat", "/tmp/seed"]}
    echo = host.exec("c1", "cat")
    spec = {"id": "late", "image": "", "addr": "5:3", "fstype": "squashfs", "rootfs": "rootfs", "process": process}
    host.send(Code.NEWCONTAINER, spec)
    host.send_stream(echo, b"meanwhile")
    host.wait_for(lambda: host.output.get(echo) == b"meanwhile")
    qmp(extended)("device_add", driver="scsi-hd", drive="spare", bus="scsi.0", **{"scsi-id": 5, "lun": 3})
    assert host.reply() == (Code.ACK, b"")
    assert host.finish(stdio) == (0, b"from the image", b"")
    host.ok(Code.REMOVECONTAINER, {"container": "late"})


def volume(**more: Any) -> dict[str, Any]:
    return {"mount": "/vol", "fstype": "xfs", **more}


def test_a_volume_is_a_directory_on_its_disk_without_devices_and_set_user_id_programs(host: RawHost) -> None:
    volumes = [volume(device="", addr="2:0")]
    assert output_of(host, "sh", "-c", "echo kept > /vol/kept", overlay=True, image="base", volumes=volumes) == ""
    (line,) = output_of(host, "busybox", "grep", " /vol ", "/proc/mounts", overlay=True, volumes=volumes).splitlines()
    _, _, fstype, options, *_ = line.split()
    assert fstype == "xfs"
    assert {"rw", "nosuid", "nodev"} <= set(options.split(","))
    assert output_of(host, "cat", "/vol/kept", overlay=True, volumes=volumes) == "kept\n"


def test_a_volume_that_is_a_link_out_of_its_disk_is_refused(host: RawHost) -> None:
    process = {"stdio": 5, "stderr": 6, "args": ["true"]}
    volumes = [{"mount": "/vol", "device": "", "addr": "0:1", "fstype": "ext4", "readOnly": True}]
    spec = {"id": "c2", "image": "base", "rootfs": "rootfs", "overlay": True, "process": process, "volumes": volumes}
    assert host.refused(Code.NEWCONTAINER, spec) == {"reason": "volume on '/vol': _data: Cross-device link"}


def test_copies_of_one_disk_can_be_mounted_at_once(host: RawHost) -> None:
    volumes = [volume(device="", addr="2:0"), volume(device="", addr="3:0", mount="/other")]
    assert output_of(host, "busybox", "stat", "-fc", "%T", "/vol", "/other", overlay=True, volumes=volumes)


def test_a_read_only_volume_cannot_be_written(host: RawHost) -> None:
    volumes = [volume(device="", addr="2:0", readOnly=True)]
    stdio = host.start_container("reader", "touch", "/vol/new", volumes=volumes)
    assert host.finish(stdio) == (1, b"", b"touch: /vol/new: Read-only file system\n")
    host.ok(Code.REMOVECONTAINER, {"container": "reader"})


def test_an_empty_volume_gets_what_the_image_has_in_its_place_on_the_first_start(host: RawHost) -> None:
    look = ("stat", "-c", "%n %F %a %s", "/tmp/seed", "/tmp/link")
    volumes = [volume(device="", addr="3:0", mount="/tmp", dockerVolume=True)]
    spec = {"image": "", "addr": "0:1", "fstype": "ext4", "overlay": True, "volumes": volumes}
    assert output_of(host, "ls", "/tmp", **spec) == ""
    assert output_of(host, *look, initialize=True, **spec) == (
        "/tmp/seed regular file 640 14\n/tmp/link symbolic link 777 4\n"
    )
    assert output_of(host, "sh", "-c", "echo mine > /tmp/seed", **spec) == ""
    assert output_of(host, "cat", "/tmp/link", initialize=True, **spec) == "mine\n"


def test_a_disk_is_unmounted_before_power_off_and_its_modules_are_loaded_when_it_is_needed(
    tmp_path_factory: pytest.TempPathFactory, images: Path, guest_image: GuestImage, new_host: Callable[[VM], RawHost]
) -> None:
    image = images / "ext4-alone"
    shutil.copy(images / "ext4-copy", image)
    disks = Disks()
    disks.blk(image, read_only=False)
    with with_pod(tmp_path_factory.mktemp("vm"), guest_image, devices=disks.arguments) as vm:
        host = new_host(vm)
        host.take_over()
        host.hello()
        loaded = {line.split()[0] for line in host.run("c1", "cat", "/proc/modules")[1].decode().splitlines()}
        assert not {"virtio_blk", "sd_mod", "ext4"} & loaded
        writer = host.start_container(
            "writer", "sh", "-c", "echo kept > /kept; sleep 100", image="vda", fstype="ext4", overlay=False
        )
        host.run("writer", "sh", "-c", "while ! test -s /kept; do :; done")
        host.send(Code.DESTROYPOD)
        assert host.finish(writer)[0] == 128 + 15
        assert host.reply() == (Code.ACK, b"")
        vm.process.wait(TIMEOUT)
    state = subprocess.run(["dumpe2fs", "-h", image], capture_output=True, check=True, encoding="utf-8").stdout
    assert "needs_recovery" not in state
    kept = subprocess.run(
        ["debugfs", "-R", "cat /rootfs/kept", image], capture_output=True, check=True, encoding="utf-8"
    )
    assert kept.stdout == "kept\n"


@pytest.fixture(scope="module")
def in_guest(extended: VM) -> dict[str, dict[str, Any]]:
    """What the functions that limit directories do on a kernel and on file systems with project quota."""
    lines = ["set -e; for dir in lib lib64; do ln -s usr/$dir /$dir; done"]
    for tag, path in PYTHON.items():
        lines.append(f"mkdir -p {path}; mount -t 9p -o trans=virtio,version=9p2000.L,ro {tag} {path}")
    lines.append(
        f'PYTHONPATH={PYTHON["source"]}:{PYTHON["packages"]} exec {sys.base_prefix}/bin/python3 -B -c "$0" "$@"'
    )
    script = Path(quota_in_guest.__file__).read_text(encoding="utf-8")
    disks = [f"{fstype}=0:4:{lun}" for fstype, lun in WITH_QUOTA.items()]
    with closing(RawHost(extended)) as host:
        host.take_over()
        host.hello()
        ext4 = {"image": "", "addr": "0:1", "fstype": "ext4", "overlay": True}
        assert output_of(host, "true", volumes=[volume(device="", addr="2:0")], **ext4) == ""  # loads both modules
        host.be_patient(10 * TIMEOUT)  # Python starts in an emulated guest, and then says nothing until its end
        output = output_of(host, "sh", "-c", "\n".join(lines), script, *disks, overlay=True)
        found: dict[str, dict[str, Any]] = json.loads(output)
    return found


@pytest.fixture(params=WITH_QUOTA)
def limits(in_guest: dict[str, dict[str, Any]], request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the facts of one file system; each list begins with how setting a limit, or writing, ended."""
    return in_guest[request.param]


def test_a_limited_directory_takes_no_more_than_its_size(limits: dict[str, Any]) -> None:
    assert limits["limit"] == ""
    assert limits["fill"] == ["full", True]


def test_a_limited_directory_takes_no_more_than_one_file_for_each_4_kib(limits: dict[str, Any]) -> None:
    assert limits["files"] == ["full", True]


def test_no_file_leaves_its_limit_by_a_process_in_a_user_namespace(limits: dict[str, Any]) -> None:
    assert "while setting project on" in limits["escape"][0]
    assert limits["escape"][1:] == ["limited"]


def test_a_limit_counts_what_is_in_the_directory_already_however_deep(limits: dict[str, Any]) -> None:
    assert limits["tree"] == ["limited"] * 4


def test_a_limit_holds_neither_beside_the_directory_nor_where_its_links_and_mounts_lead(limits: dict[str, Any]) -> None:
    assert limits["sibling"] == ["written", "free", "free", "free"]


def test_a_start_after_a_crash_sets_the_limit_of_its_mount_anew(limits: dict[str, Any]) -> None:
    assert limits["again"] == ""


def test_a_directory_that_has_a_limit_gets_no_second_one(limits: dict[str, Any]) -> None:
    assert "belong to project" in limits["other"]


def test_a_limit_that_is_refused_or_stopped_half_way_leaves_nothing(limits: dict[str, Any]) -> None:
    assert "belong to project" in limits["above"][0]
    assert limits["above"][1:] == ["free", "free", "limited"]
    assert limits["stopped"] == ["EINTR", "free", "free"]


def test_a_limit_that_is_lifted_leaves_the_files_as_they_are(limits: dict[str, Any]) -> None:
    assert limits["lifted"] == ["free", "free", "free", "written"]
    assert limits["kept"] == [True, True]


def test_what_was_moved_out_of_a_limited_directory_can_join_another(limits: dict[str, Any]) -> None:
    assert limits["moved"] == ["written", "limited", "", "limited", "limited"]


def test_a_vm_with_capabilities_on_the_host_is_limited_by_xfs_only(in_guest: dict[str, dict[str, Any]]) -> None:
    assert in_guest["xfs"]["unconfined"] == ""
    assert "no user namespace of its own" in in_guest["ext4"]["unconfined"]
