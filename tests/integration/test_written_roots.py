"""Containers that write to the directories that are their roots, so that the host has what they wrote."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import vc_core as vc
from vc_core.errors import ConfigError, NotSupportedError

from .conftest import pod_config, virtc

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.hypervisors("qemu")]


def container(root_fs: Path, container_id: str, *, writes: bool = True) -> vc.ContainerConfig:
    cmd = vc.Cmd(args=["sleep", "100000"])
    return vc.ContainerConfig(id=container_id, root_fs=str(root_fs), cmd=cmd, writable_root_fs=writes)


@pytest.fixture(scope="module")
def top(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory that only root can enter, with root file systems "one" and "two"."""
    made = tmp_path_factory.mktemp("closed")
    made.chmod(0o700)
    for name in ("one", "two"):
        shutil.copytree(bundle / "rootfs", made / name, symlinks=True)
    return made


@pytest.fixture(scope="module", params=["hyperstart", "sshd"])
def written(request: pytest.FixtureRequest, top: Path, root: Path) -> Iterator[vc.Pod]:
    """Return a pod of each agent, whose container writes to the root "one"."""
    one = container(top / "one", "c1")
    made = vc.run_pod(pod_config(id=f"written-{request.param}", agent_type=request.param, containers=[one]))
    yield made
    made.delete(force=True)


def sh(pod: vc.Pod, script: str, where: str = "c1") -> bytes:
    done = pod.enter_container(where, vc.Cmd(args=["sh", "-c", script]))
    assert done.exit_code == 0, done
    return done.stdout


def test_what_a_container_makes_has_its_owner_mode_and_type_on_the_host(written: vc.Pod, top: Path) -> None:
    sh(written, "rm -rf /made; mkdir -m 750 /made; echo text >/made/file; chown 1234:65534 /made/file")
    sh(written, "chmod 640 /made/file; ln -s /etc/passwd /made/link; mkfifo /made/pipe; ln /made/file /made/hard")
    found = {path.name: path.lstat() for path in (top / "one/made").iterdir()}
    assert stat.filemode((top / "one/made").stat().st_mode) == "drwxr-x---"
    assert {name: stat.filemode(one.st_mode) for name, one in found.items()} == {
        "file": "-rw-r-----",
        "hard": "-rw-r-----",
        "link": "lrwxrwxrwx",
        "pipe": "prw-r--r--",
    }
    assert (found["file"].st_uid, found["file"].st_gid, found["file"].st_nlink) == (1234, 65534, 2)
    assert (top / "one/made/file").read_text(encoding="utf-8") == "text\n"


def test_a_program_is_left_without_its_set_user_id_bit_and_there_are_no_devices(written: vc.Pod, top: Path) -> None:
    script = "cp /bin/busybox /planted; chmod 6755 /planted; mkdir -p -m 2775 /group; mknod /disk b 8 0; echo $?"
    assert sh(written, script) == b"1\n"
    assert stat.S_IMODE((top / "one/planted").stat().st_mode) == 0o755
    assert stat.S_IMODE((top / "one/group").stat().st_mode) == 0o775
    assert not os.path.lexists(top / "one/disk")


def test_a_socket_is_listened_on_and_a_file_without_a_name_is_read(written: vc.Pod) -> None:
    # syslogd listens where this link leads to.
    sh(written, "ln -sf /tmp/log /dev/log; syslogd -O /messages; until [ -S /tmp/log ]; do usleep 10000; done")
    sh(written, "logger arrived; until grep arrived /messages; do usleep 10000; done; killall syslogd")
    assert sh(written, "exec 3>/gone 4</gone; rm /gone; echo kept >&3; cat <&4") == b"kept\n"


def test_what_the_host_changes_there_is_seen_by_the_container(written: vc.Pod, top: Path) -> None:
    (top / "one/shown").write_text("of the host\n", encoding="utf-8")
    assert sh(written, "cat /shown") == b"of the host\n"
    (top / "one/shown").unlink()
    assert sh(written, "ls /shown 2>&1 || true").endswith(b"No such file or directory\n")


def test_a_container_that_is_added_writes_to_its_root_too_and_leaves_it(written: vc.Pod, top: Path) -> None:
    added = written.create_container(container(top / "two", "c2"))
    added.start()
    sh(written, "echo second >/mine", "c2")
    added.stop(force=True)
    added.delete()
    assert (top / "two/mine").read_text(encoding="utf-8") == "second\n"


def test_a_pod_that_was_not_made_for_it_takes_no_such_container(top: Path, bundle: Path) -> None:
    with vc.run_pod(pod_config(id="plain", containers=[container(bundle, "c1", writes=False)])) as pod:
        added = pod.create_container(container(top / "two", "c2"))
        with pytest.raises(NotSupportedError, match=r"without writable roots; .* or make it with writable_roots"):
            added.start()


def test_a_directory_that_other_users_can_reach_is_refused(bundle: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="vc-open-", dir="/var/tmp") as place:
        Path(place).chmod(0o755)
        (Path(place) / "root/bin").mkdir(parents=True)
        (Path(place) / "root").chmod(0o755)
        with pytest.raises(ConfigError, match="other users of this host can reach"):
            vc.check_writable_root(f"{place}/root")
        done = virtc("pod", "run", "--bundle", f"{place}/root", "--writable-rootfs", "--", "true")
        assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
        assert b"put it below a directory that only you can enter (chmod 700)" in done.stderr


def test_what_was_written_is_there_when_the_pod_starts_again(top: Path) -> None:
    with vc.run_pod(pod_config(id="again", containers=[container(top / "two", "c1")])) as pod:
        sh(pod, "echo kept >/kept")
        pod.stop()
        pod.start()
        assert sh(pod, "cat /kept") == b"kept\n"
