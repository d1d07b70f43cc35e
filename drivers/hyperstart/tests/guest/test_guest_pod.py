"""The pod itself as a place for commands, and containers' mounts."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from guest_vm import VM, RawHost

from vc_agent_hyperstart.codec import Code

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def extended(original: VM) -> VM:
    """A VM whose pod has a root of its own and directories for mounts, and a container c1 that sleeps."""
    root = original.directory / "share/pod/rootfs"
    (root / "bin").mkdir(parents=True)
    shutil.copy(original.directory / "share/base/rootfs/bin/busybox", root / "bin/busybox")
    (root / "whose").write_text("the pod's\n", encoding="utf-8")
    host = RawHost(original)
    host.hello()
    pod = {"hostname": "pod-host", "shareDir": "share", "liveDir": "live", "writableDir": "writable", "containers": []}
    reason = host.refused(Code.STARTPOD, pod | {"root": "nosuch"})["reason"]
    assert reason == "root 'nosuch' in the shared directory: No such file or directory"
    host.ok(Code.STARTPOD, pod | {"root": "pod/rootfs"})
    host.start_container("c1", "sleep", "1000000")
    host.close()
    return original


def pod_output(host: RawHost, script: str) -> str:
    status, out, err = host.run("", "/bin/busybox", "sh", "-c", script)
    assert (status, err) == (0, b"")
    return out.decode()


# The pod itself.


def test_a_command_without_a_container_runs_in_the_pod_s_own_root(host: RawHost) -> None:
    assert pod_output(host, "cat /whose; pwd") == "the pod's\n/\n"


def test_the_pod_s_root_is_writable_keeps_what_is_written_and_never_changes_the_host_s(
    host: RawHost, extended: VM
) -> None:
    pod_output(host, "echo mine >/whose; echo new >/new")
    assert pod_output(host, "cat /whose /new") == "mine\nnew\n"
    root = extended.directory / "share/pod/rootfs"
    assert sorted(path.name for path in root.iterdir()) == ["bin", "whose"]
    assert (root / "whose").read_text(encoding="utf-8") == "the pod's\n"


def test_the_pod_s_root_has_the_pod_s_namespaces_but_its_own_mounts(host: RawHost) -> None:
    script = "for name in pid ipc uts mnt; do readlink /proc/self/ns/$name; done; hostname; ls /dev"
    itself = pod_output(host, script).splitlines()
    container = host.run("c1", "sh", "-c", script)[1].decode().splitlines()
    assert itself[:3] == container[:3]
    assert itself[3] != container[3]
    assert itself[4:] == container[4:]


def test_a_command_of_the_pod_is_listed_and_signalled_like_any_other(host: RawHost) -> None:
    stdio = host.exec("", "/bin/busybox", "sleep", "1000")
    (found,) = (each for each in host.hello()["processes"] if each["stdio"] == stdio)
    assert (found["container"], found["init"], found["ended"]) == ("", False, False)
    host.ok(Code.SIGNAL, {"stdio": stdio, "signal": 15})
    assert host.finish(stdio)[0] == 128 + 15


def test_the_pod_s_commands_have_terminals(host: RawHost) -> None:
    assert host.run("", "/bin/busybox", "tty", terminal=True)[1] == b"/dev/pts/0\r\n"


def test_the_pod_itself_is_no_container_that_can_be_killed_or_removed(host: RawHost) -> None:
    for code in (Code.KILLCONTAINER, Code.REMOVECONTAINER):
        assert host.refused(code, {"container": "", "signal": 9})["reason"].endswith("has no 'container'")
    assert pod_output(host, "echo well") == "well\n"


# Mounts.


def start_with(
    host: RawHost,
    name: str,
    *mounts: tuple[str, str, dict[str, bool]],
    args: Sequence[str] = ("sleep", "1000000"),
    **more: Any,
) -> int:
    """Start a container with mounts; each is (source, path, what else of it)."""
    fsmap = [{"source": source, "path": path, **keys} for source, path, keys in mounts]
    return host.start_container(name, *args, fsmap=fsmap, **more)


def refused_with(host: RawHost, *mounts: tuple[str, str], image: str = "base") -> Any:
    fsmap = [{"source": source, "path": path, "readOnly": True} for source, path in mounts]
    process = {"stdio": 5, "stderr": 6, "args": ["true"]}
    container = {"id": "no", "image": image, "rootfs": "rootfs", "overlay": True, "process": process, "fsmap": fsmap}
    return host.refused(Code.NEWCONTAINER, container)["reason"]


def output(host: RawHost, name: str, script: str) -> str:
    status, out, err = host.run(name, "sh", "-c", script)
    assert (status, err) == (0, b"")
    return out.decode()


def end(host: RawHost, name: str) -> None:
    host.ok(Code.KILLCONTAINER, {"container": name, "signal": 9})
    (stdio,) = (each["stdio"] for each in host.hello()["processes"] if each["container"] == name and each["init"])
    host.finish(stdio)
    host.ok(Code.REMOVECONTAINER, {"container": name})


@pytest.fixture
def shared(extended: VM) -> Path:
    """Files of the host to be mounted: ``one/dir`` and ``one/file``."""
    one = extended.directory / "share/one"
    shutil.rmtree(one, ignore_errors=True)
    (one / "dir").mkdir(parents=True)
    (one / "dir/inside").write_text("inside\n", encoding="utf-8")
    (one / "file").write_text("file\n", encoding="utf-8")
    return one


READ_ONLY = {"readOnly": True}


def test_a_directory_and_a_file_are_seen_where_they_are_mounted(host: RawHost, shared: Path) -> None:
    start_with(host, "m1", ("one/dir", "/data/deep", READ_ONLY), ("one/file", "/etc/made", READ_ONLY))
    assert output(host, "m1", "cat /data/deep/inside /etc/made; ls /data/deep") == "inside\nfile\ninside\n"
    end(host, "m1")


def test_a_read_only_mount_can_not_be_written_to_nor_made_writable(host: RawHost, shared: Path) -> None:
    start_with(host, "m2", ("one/dir", "/data", READ_ONLY), ("one/file", "/etc/group", READ_ONLY))
    script = "echo x >/data/new; echo x >>/etc/group; rm /data/inside; chmod 777 /data; mount -o remount,rw,bind /data"
    status, _, err = host.run("m2", "sh", "-c", script + "; echo x >/data/new")
    assert status != 0
    assert err.count(b"Read-only file system") == 5
    assert sorted(path.name for path in (shared / "dir").iterdir()) == ["inside"]
    end(host, "m2")


def test_what_the_host_changes_in_a_mount_is_seen_at_once(host: RawHost, shared: Path) -> None:
    start_with(host, "m3", ("one/dir", "/data", READ_ONLY))
    assert output(host, "m3", "cat /data/inside; ls /data") == "inside\ninside\n"
    (shared / "dir/inside").write_text("changed, and longer\n", encoding="utf-8")
    (shared / "dir/added").write_text("added\n", encoding="utf-8")
    assert output(host, "m3", "cat /data/inside /data/added; ls /data") == (
        "changed, and longer\nadded\nadded\ninside\n"
    )
    (shared / "dir/added").unlink()
    assert output(host, "m3", "ls /data") == "inside\n"
    end(host, "m3")


def test_mounts_are_made_in_order_so_one_may_lie_in_another(host: RawHost, shared: Path) -> None:
    (shared / "dir/place").touch()
    start_with(host, "m4", ("one/dir", "/data", READ_ONLY), ("one/file", "/data/place", READ_ONLY))
    assert output(host, "m4", "cat /data/inside /data/place") == "inside\nfile\n"
    end(host, "m4")


def test_a_writable_mount_is_written_through_to_the_host(host: RawHost, extended: VM) -> None:
    (extended.directory / "writable/w1").mkdir()
    start_with(host, "m5", ("w1", "/data", {"writable": True}))
    output(host, "m5", "echo hello >/data/file; mkdir /data/dir; mv /data/file /data/dir/; chmod 600 /data/dir/file")
    assert (extended.directory / "writable/w1/dir/file").read_text(encoding="utf-8") == "hello\n"
    (extended.directory / "writable/w1/reply").write_text("from the host\n", encoding="utf-8")
    assert output(host, "m5", "cat /data/reply; stat -c %a /data/dir/file") == "from the host\n600\n"
    end(host, "m5")


def test_a_writable_directory_can_be_mounted_read_only(host: RawHost, extended: VM) -> None:
    (extended.directory / "writable/w2").mkdir()
    start_with(host, "m6", ("w2", "/data", {"writable": True, "readOnly": True}))
    assert b"Read-only file system" in host.run("m6", "touch", "/data/x")[2]
    end(host, "m6")


def test_nothing_that_a_container_writes_gives_it_power_on_the_host(host: RawHost, extended: VM) -> None:
    directory = extended.directory / "writable/w3"
    directory.mkdir()
    start_with(host, "m7", ("w3", "/data", {"writable": True}))
    output(host, "m7", "cat /bin/busybox >/data/tool; chmod 4755 /data/tool; mkdir /data/sub; chmod 2777 /data/sub")
    output(host, "m7", "mknod /data/disk b 8 0; ln -s /etc/shadow /data/link")
    for path in directory.iterdir():
        status = path.lstat()
        assert not status.st_mode & 0o6000, path
        assert path.is_dir() or (path.is_file() and not path.is_symlink()), path
    assert not os.access(directory / "tool", os.X_OK)
    # Only the guest sees what it meant.
    assert output(host, "m7", "stat -c '%a %F' /data/tool; stat -c %F /data/disk; readlink /data/link") == (
        "4755 regular file\nblock special file\n/etc/shadow\n"
    )
    end(host, "m7")


def test_a_link_of_the_image_leads_a_mount_to_nowhere_outside_of_the_root(
    host: RawHost, extended: VM, shared: Path
) -> None:
    """What is missing above a mount would be made through the link, and the mount be on top of it."""
    root = extended.directory / "share/linked/rootfs"
    (root / "bin").mkdir(parents=True)
    shutil.copy(extended.directory / "share/base/rootfs/bin/busybox", root / "bin/busybox")
    (root / "real").mkdir()
    (root / "absolute").symlink_to("/real")
    (root / "up").symlink_to("../../../../real")
    (root / "magic").symlink_to("/proc/1/root")
    (root / "self").symlink_to("/proc/self/fd")
    (root / "dangling").symlink_to("/nowhere")
    mounts = [("one/dir", f"/{link}/{link}", READ_ONLY) for link in ("absolute", "up")]
    start_with(host, "m8", *mounts, args=("/bin/busybox", "sleep", "1000000"), image="linked")
    status, out, _ = host.run("m8", "/bin/busybox", "ls", "/real/absolute", "/real/up")
    assert (status, out) == (0, b"/real/absolute:\ninside\n\n/real/up:\ninside\n")
    end(host, "m8")
    start_with(host, "m8", ("one/file", "/dangling", READ_ONLY), args=("/bin/busybox", "sleep", "9"), image="linked")
    assert host.run("m8", "/bin/busybox", "cat", "/nowhere")[1] == b"file\n"
    end(host, "m8")
    for target in ("/magic/x", "/magic", "/self/0"):
        assert refused_with(host, ("one/dir", target), image="linked").startswith(f"mount target '{target}': ")


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("one/nosuch", "/x", "mount source 'one/nosuch' in the shared directory: No such file or directory"),
        ("../etc", "/x", "mount source '../etc' leads out of the shared directory"),
        ("one/out", "/x", "mount source 'one/out' leads out of the shared directory"),
        ("one/file", "/etc", "mount target '/etc' is a directory, but its source is not"),
        ("one/dir", "/etc/passwd", "mount target '/etc/passwd' is not a directory, but its source is"),
        ("one/dir", "/etc/passwd/x", "mount target '/etc/passwd/x': Not a directory"),
        ("one/dir", "//", "mount target '//' is the container's root"),
        ("one/dir", "/sys/x", "mount target '/sys/x': Read-only file system"),
        ("one/dir", "/" + "x" * 300, f"mount target '/{'x' * 300}': Filename too long"),
    ],
)
def test_a_mount_that_cannot_be_made_is_an_error_with_its_reason(
    host: RawHost, shared: Path, source: str, target: str, reason: str
) -> None:
    (shared / "out").symlink_to("/etc")
    assert refused_with(host, (source, target)) == reason


def test_a_container_that_failed_to_start_for_a_missing_root_starts_when_it_is_there(
    host: RawHost, extended: VM
) -> None:
    missing = {"id": "late", "image": "late", "rootfs": "rootfs", "overlay": True}
    process = {"stdio": 5, "stderr": 6, "args": ["/bin/busybox", "true"]}
    assert "No such file" in host.refused(Code.NEWCONTAINER, missing | {"process": process})["reason"]
    (extended.directory / "share/late").mkdir()
    subprocess.run(
        ["cp", "-a", extended.directory / "share/base/rootfs", extended.directory / "share/late/rootfs"], check=True
    )
    stdio = host.start_container("late", "/bin/busybox", "true", image="late")
    assert host.finish(stdio)[0] == 0
    host.ok(Code.REMOVECONTAINER, {"container": "late"})


@pytest.mark.root
def test_a_bind_mount_that_is_made_while_the_vm_runs_is_a_root_for_a_container(
    host: RawHost, extended: VM, tmp_path: Path
) -> None:
    """As the core adds a container to a running pod: below a shared mount, after the guest looked there."""
    place = extended.directory / "share/bound"
    for content in ("first", "second"):
        source = tmp_path / content
        subprocess.run(["cp", "-a", extended.directory / "share/base/rootfs", source], check=True)
        (source / "content").write_text(content, encoding="utf-8")
        place.mkdir()
        subprocess.run(["mount", "--bind", source, place], check=True)
        try:
            stdio = host.start_container("bound", "cat", "/content", image="bound", rootfs="")
            assert host.finish(stdio) == (0, content.encode(), b"")
            host.ok(Code.REMOVECONTAINER, {"container": "bound"})
        finally:
            subprocess.run(["umount", place], check=True)
            place.rmdir()


def test_a_container_starts_again_afresh_and_nothing_of_it_is_left(host: RawHost, extended: VM, shared: Path) -> None:
    def mounts_and_shared_memory() -> int:
        lines = pod_output(host, "cat /proc/meminfo").splitlines()
        return int(next(line for line in lines if line.startswith("Shmem:")).split()[1])

    (extended.directory / "writable/w4").mkdir()
    before = mounts_and_shared_memory()
    for _ in range(3):
        script = "test ! -e /left && head -c 8000000 /dev/zero >/left && cat /data/inside && exit 7"
        mounts = (("one/dir", "/data", READ_ONLY), ("w4", "/writable", {"writable": True}))
        stdio = start_with(host, "again", *mounts, args=("sh", "-c", script))
        assert host.finish(stdio) == (7, b"inside\n", b"")
        host.ok(Code.REMOVECONTAINER, {"container": "again"})
    assert mounts_and_shared_memory() - before < 4000
