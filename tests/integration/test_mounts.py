"""Files of the host in containers, and commands in the pod itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import vc_core as vc
from vc_core.config.limits import DEFAULT_CAPABILITIES
from vc_core.store.store import Store

from .conftest import container, pod_config, virtc, vm_processes

pytestmark = [pytest.mark.vm, pytest.mark.root]


@pytest.fixture(scope="module")
def shared_files(tmp_path_factory: pytest.TempPathFactory, hypervisor: str) -> Path:
    """Return files to share, made anew for each hypervisor."""
    top = tmp_path_factory.mktemp("shared")
    for name in ("data", "scratch", "volume"):
        (top / name).mkdir()
    (top / "data/file").write_text("from the host\n", encoding="utf-8")
    (top / "volume/file").write_text("by tag\n", encoding="utf-8")
    (top / "single.conf").write_text("a file alone\n", encoding="utf-8")
    return top


class Swapped:
    """A directory whose name somebody else makes a link to a forbidden place, and gives back."""

    def __init__(self, directory: Path, target: str) -> None:
        self._name, self._kept, self._target = directory, directory.with_name("kept"), target

    def __enter__(self) -> None:
        self._name.rename(self._kept)
        self._name.symlink_to(self._target)

    def __exit__(self, *_: object) -> None:
        self._name.unlink()
        self._kept.rename(self._name)


@pytest.fixture(scope="module")
def mounted(bundle: Path, shared_files: Path, root: Path) -> Iterator[vc.Pod]:
    """Return a pod with a root of its own, and a container with every kind of mount.

    While it boots, before anything is mounted, the name of a source is a link to a directory of the host.
    """
    mounts = [
        vc.Mount(str(shared_files / "data"), "/data"),
        vc.Mount(str(shared_files / "scratch"), "/var/scratch", read_only=False),
        vc.Mount(str(shared_files / "single.conf"), "/etc/app/single.conf"),
    ]
    mounter = (*DEFAULT_CAPABILITIES, "CAP_SYS_ADMIN")
    cmd = container(bundle).cmd
    one = vc.ContainerConfig(id="c1", root_fs=str(bundle), cmd=cmd, mounts=mounts, capabilities=mounter)
    with ExitStack() as swapped:

        def swap(phrase: str, _: object) -> None:
            if phrase == "starting the VM":
                swapped.enter_context(Swapped(shared_files / "data", "/proc"))

        config = pod_config(
            id="mounted",
            root_fs=str(bundle),
            containers=[one],
            volumes=[vc.Volume("tagged", str(shared_files / "volume"))],
        )
        made = vc.run_pod(config, progress=swap)
        assert (shared_files / "data").is_symlink()
    yield made
    made.delete(force=True)


def sh(pod: vc.Pod, script: str) -> vc.ExecResult:
    return pod.enter_container("c1", vc.Cmd(args=["sh", "-c", script]))


def test_a_mount_shows_the_hosts_files_and_what_changes_there(mounted: vc.Pod, shared_files: Path) -> None:
    assert sh(mounted, "cat /data/file").stdout == b"from the host\n"
    (shared_files / "data/file").write_text("changed\n", encoding="utf-8")
    assert sh(mounted, "cat /data/file").stdout == b"changed\n"


def test_a_mount_is_what_was_opened_although_its_name_was_a_link_when_it_was_mounted(
    mounted: vc.Pod, hypervisor: str
) -> None:
    assert sh(mounted, "ls /data").stdout == b"file\n"
    if hypervisor == "qemu":  # where the name led to could not be mounted in a full jail
        assert mounted.status().jail == "full"


def test_a_mount_is_read_only_unless_asked_otherwise(mounted: vc.Pod, shared_files: Path) -> None:
    result = sh(mounted, "echo x >/data/new")
    assert result.exit_code != 0
    assert b"Read-only file system" in result.stderr
    assert not (shared_files / "data/new").exists()


def test_a_single_file_can_be_mounted_where_nothing_was(mounted: vc.Pod) -> None:
    assert sh(mounted, "cat /etc/app/single.conf").stdout == b"a file alone\n"


def test_what_is_written_to_a_writable_mount_is_on_the_host(mounted: vc.Pod, shared_files: Path) -> None:
    assert sh(mounted, "echo from the guest >/var/scratch/out").exit_code == 0
    assert (shared_files / "scratch/out").read_text(encoding="utf-8") == "from the guest\n"


def test_a_guest_cannot_plant_a_set_user_id_program_or_a_device_on_the_host(
    mounted: vc.Pod, shared_files: Path, hypervisor: str
) -> None:
    made = sh(mounted, "cd /var/scratch && cp /bin/busybox evil; chmod 4755 evil; mknod sda b 8 0; ls -l evil sda")
    evil, device = (shared_files / "scratch" / name for name in ("evil", "sda"))
    assert evil.stat().st_mode & 0o6000 == 0
    assert not device.is_block_device()
    if hypervisor != "uml":
        assert b"rwsr-xr-x" in made.stdout, "the guest itself sees what it asked for"
        assert device.is_file()
        assert (evil.stat().st_mode | device.stat().st_mode) & 0o111 == 0
    else:
        assert made.stderr.count(b"Operation not permitted") == 2


@pytest.mark.hypervisors("qemu")  # the others run their VMs with all capabilities of root, FSETID among them
def test_a_set_user_id_file_of_the_host_loses_the_bit_when_the_guest_rewrites_it(
    mounted: vc.Pod, shared_files: Path
) -> None:
    program = shared_files / "scratch/program"
    program.write_bytes(b"old")
    program.chmod(0o6755)
    sh(mounted, "echo of the guest >>/var/scratch/program")
    assert program.read_bytes() == b"oldof the guest\n"
    assert program.stat().st_mode & 0o6000 == 0


@pytest.mark.hypervisors("qemu")
def test_what_a_deleted_container_was_given_is_gone_for_qemu_and_only_the_mounts_were_ever_writable(
    mounted: vc.Pod, bundle: Path, shared_files: Path, store: Store
) -> None:
    """What QEMU sees is what an attacker has that took it over; its root is opened as a root of the host could."""
    shares = Path(f"/proc/{vm_processes(store, 'mounted')[1]}/root/shares")
    mounts = [vc.Mount(str(shared_files / "volume"), "/in"), vc.Mount(str(shared_files / "scratch"), "/out", False)]
    cmd = vc.Cmd(args=["sleep", "100000"])
    one = mounted.create_container(vc.ContainerConfig(id="doomed", root_fs=str(bundle), cmd=cmd, mounts=mounts))
    (shared_files / "scratch/held").touch()
    one.start()
    twice = ["0", "bin", "etc", "tmp"] * 2  # the read-only directory is shared with and without a cache
    assert sorted(path.name for path in shares.glob("*/doomed/*/*")) == sorted([*twice, "1"])
    [writable] = shares.glob("*/doomed/mounts/1")
    for above in (writable.parent, *writable.parent.parents[:2]):
        with pytest.raises(OSError, match="Read-only file system"):
            (above / "planted").mkdir()
    with (writable / "held").open("a", encoding="utf-8"):  # unmounting would fail, were it not forced
        one.delete(force=True)
    assert list(shares.glob("*/doomed")) == []
    assert list(shares.glob("*/c1")) != []


def test_mounts_can_be_given_to_a_container_that_is_added_later(
    mounted: vc.Pod, bundle: Path, shared_files: Path
) -> None:
    mounts = [vc.Mount(str(shared_files / "volume"), "/in"), vc.Mount(str(shared_files / "scratch"), "/out", False)]
    late = vc.ContainerConfig(id="late", root_fs=str(bundle), cmd=vc.Cmd(args=["cat", "/in/file"]), mounts=mounts)
    one = mounted.create_container(late)
    one.start()
    assert one.wait() == 0
    assert Path(one.status().log_path).read_text(encoding="utf-8") == "by tag\n"
    one.delete()


def test_a_volume_is_there_by_its_tag(mounted: vc.Pod, hypervisor: str) -> None:
    over_virtio = "mount -t 9p -o trans=virtio,version=9p2000.L,ro tagged /v"
    mount = {
        "qemu": over_virtio,
        "libvirt": over_virtio,
        "uml": "mount -t hostfs -o ro,$(tr ' ' '\\n' </proc/cmdline | sed -n s/^vc.share.tagged=hostfs://p) tagged /v",
    }
    assert sh(mounted, f"mkdir /v && {mount[hypervisor]} && cat /v/file").stdout == b"by tag\n"


def test_commands_run_in_the_root_of_the_pod(mounted: vc.Pod) -> None:
    result = mounted.enter(vc.Cmd(args=["sh", "-c", "hostname; ls -d /data; ls /bin/busybox"]))
    assert result.stdout == b"mounted\n/bin/busybox\n"
    done = virtc("pod", "enter", "-i", "mounted", "--", "sh", "-c", "cat; exit 4", stdin=b"in")
    assert (done.stdout, done.returncode) == (b"in", 4)


def test_commands_run_in_the_guest_itself_where_the_pod_has_no_root(pod: vc.Pod) -> None:
    result = pod.enter(vc.Cmd(args=["/bin/busybox", "ps", "-o", "args"]))
    assert b"sleep 100000" in result.stdout
    assert b"/init" in result.stdout


def test_a_source_that_becomes_a_link_is_refused_at_each_start_of_its_container(
    mounted: vc.Pod, bundle: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "ours").touch()
    cmd = vc.Cmd(args=["sleep", "100000"])
    mounts = [vc.Mount(str(source), "/in", read_only=False)]
    one = mounted.create_container(vc.ContainerConfig(id="swapped", root_fs=str(bundle), cmd=cmd, mounts=mounts))
    for _ in ("first start", "restart"):
        with Swapped(source, "/etc"), pytest.raises(vc.errors.ConfigError, match="never written by a guest"):
            one.start()
        one.start()
        assert one.enter(vc.Cmd(args=["ls", "/in"])).stdout == b"ours\n"
        one.stop(force=True)
    one.delete()


@pytest.mark.parametrize("field", ["root_fs", "container", "volumes", "agent_config"])
def test_what_becomes_a_link_after_the_pod_was_created_is_refused_when_it_starts(
    bundle: Path, tmp_path: Path, field: str
) -> None:
    source = tmp_path / "source"
    (source / "bin").mkdir(parents=True)
    volume = vc.Volume("t", str(source))
    fields: dict[str, dict[str, object]] = {
        "root_fs": {"root_fs": str(source)},
        "container": {"containers": [container(source)]},
        "volumes": {"volumes": [volume]},
        "agent_config": {"agent_config": {"volumes": [{"mount_tag": "t", "host_path": str(source)}]}},
    }
    made = vc.create_pod(pod_config(id="late", **{"containers": [container(bundle)], **fields[field]}))
    with Swapped(source, "/"), pytest.raises(vc.errors.ConfigError, match="never shown to a guest"):
        made.start()
    assert made.status().state == "ready"
    made.delete()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--mount /does/not/exist:/x", "/does/not/exist"),
        ("--mount /proc:/x", "never shown to a guest"),
        ("--mount /etc:/x:rw", "never written by a guest"),
        ("--volume t:/etc/passwd", "is not a directory"),
        ("--pod-rootfs /", "never shown to a guest"),
        ("--pod-rootfs /does/not/exist", "/does/not/exist"),
        ("--console /etc/passwd", "/etc/passwd"),
    ],
)
def test_what_may_not_be_mounted_is_refused_in_one_sentence(bundle: Path, words: str, message: str) -> None:
    done = virtc("pod", "run", "--id", "bad", "--bundle", str(bundle), *words.split(), "--", "true")
    assert done.returncode == 1
    assert message in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1
    assert [one.id for one in vc.list_pods() if one.id == "bad"] == []
