"""Files copied into containers and out of them, with the command and both APIs."""

from __future__ import annotations

import asyncio
import io
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

import vc_core as vc
from vc_core import aio

from .conftest import virtc, virtc_path

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.hypervisors("qemu")]

#: More than all buffers on the way hold together.
LONG = os.urandom(3_000_000)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "tree"
    (top / "d").mkdir(parents=True)
    (top / "long").write_bytes(LONG)
    (top / "d/f").write_bytes(b"f")
    (top / "d/f").chmod(0o640)
    (top / "d/hard").hardlink_to(top / "d/f")
    (top / "d/link").symlink_to("../long")
    (top / "d").chmod(0o550)
    return top


def seen(top: Path) -> dict[str, tuple[int, bytes | str]]:
    """Return mode and contents of all that is below a directory."""
    found: dict[str, tuple[int, bytes | str]] = {}
    for path in sorted(top.rglob("*")):
        content = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else ""
        found[str(path.relative_to(top))] = (stat.S_IMODE(path.lstat().st_mode), content)
    return found


def sh(pod: vc.Pod, script: str) -> bytes:
    return pod.enter_container("c1", vc.Cmd(args=["sh", "-c", script])).stdout


def test_a_directory_comes_back_as_it_was(pod: vc.Pod, tree: Path, tmp_path: Path) -> None:
    container = pod.container("c1")
    container.copy_in(tree, "/tmp/there")
    assert sh(pod, "stat -c '%a %U' /tmp/there/d/f; cmp /tmp/there/long /tmp/there/d/link && echo same") == (
        b"640 root\nsame\n"
    )
    container.copy_out("/tmp/there", tmp_path / "back")
    assert seen(tmp_path / "back") == seen(tree)
    assert (tmp_path / "back/d/hard").samefile(tmp_path / "back/d/f")


def test_the_command_copies_files_and_archives_both_ways(pod: vc.Pod, tree: Path, tmp_path: Path) -> None:
    assert virtc("cp", f"{tree}/.", "shared/c1:/tmp/contents").returncode == 0
    packed = virtc("cp", "shared:/tmp/contents", "-")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as read:
        assert "contents/d/f" in read.getnames()
    assert virtc("cp", "-", "shared:/tmp/again", stdin=packed.stdout).returncode == 0
    assert virtc("cp", "shared:/tmp/again/contents/d/f", f"{tmp_path}/f").returncode == 0
    assert (tmp_path / "f").read_bytes() == b"f"


def test_owners_are_kept_on_demand(pod: vc.Pod, tree: Path) -> None:
    os.chown(tree / "d/f", 1000, 1001)
    pod.container("c1").copy_in(tree / "d/f", "/tmp/owned", owners=True)
    assert sh(pod, "stat -c '%u %g' /tmp/owned") == b"1000 1001\n"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["shared:/no/such", "x"], "files cannot be copied out of container 'c1': .*No such file or directory"),
        (["/etc/hostname", "shared:/no/such/place"], "into container 'c1': /no/such/place: No such file or directory"),
        (["/no/such", "shared:/tmp"], "'/no/such' cannot be read: No such file or directory"),
        (["shared:/etc/passwd", "/no/such/place"], "'/no/such/place' cannot be written to: No such file or directory"),
        (["/etc/hostname", "shared:/proc/x"], "into container 'c1': /proc/x: "),
    ],
)
def test_a_copy_that_fails_is_one_sentence(pod: vc.Pod, words: list[str], reason: str) -> None:
    failed = virtc("cp", *words)
    assert failed.returncode == 1
    assert failed.stderr.count(b"\n") == 1
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(failed.stderr.decode())


def test_an_archive_whose_reader_has_gone_ends_the_copy(pod: vc.Pod) -> None:
    sh(pod, "head -c 5000000 /dev/zero >/tmp/zeros")
    with subprocess.Popen([virtc_path(), "cp", "shared:/tmp/zeros", "-"], stdout=subprocess.PIPE) as copying:
        assert copying.stdout
        copying.stdout.read(1000)
        copying.stdout.close()
        assert copying.wait(timeout=60) == 1
    assert b"zeros" not in sh(pod, "rm /tmp/zeros; ps -o args | grep -v grep")


def test_links_of_a_container_that_lead_out_are_left_out(pod: vc.Pod, tmp_path: Path) -> None:
    sh(pod, "mkdir /tmp/trap; cd /tmp/trap; ln -s /etc a; ln -s ../.. b; echo x >f; mknod p p")
    with pytest.raises(vc.CopyError) as failure:
        pod.container("c1").copy_out("/tmp/trap", tmp_path / "trap")
    assert failure.value.left_out
    assert len(failure.value.left_out) == 3
    assert [path.name for path in (tmp_path / "trap").iterdir()] == ["f"]


def test_a_copy_ends_at_its_timeout_and_when_it_is_cancelled(pod: vc.Pod) -> None:
    with pytest.raises(vc.CommandTimeoutError):
        pod.container("c1").copy_in(_Endless(), "/tmp/endless", timeout=1)

    async def main() -> None:
        async with asyncio.timeout(1):
            await aio.Container(pod.id, "c1").copy_in(_Endless(), "/tmp/endless")

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    sh(pod, "rm -r /tmp/endless")


def test_a_file_that_is_not_open_for_it_is_refused(pod: vc.Pod, tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with (tmp_path / "f").open("rb") as file, pytest.raises(vc.ConfigError, match="write to that is open in binary"):
        pod.container("c1").copy_out("/etc/passwd", file)


class _Endless(io.BytesIO):
    """An archive that begins and goes on without an end."""

    def __init__(self) -> None:
        info = tarfile.TarInfo("zeros")
        info.size = 2**40
        super().__init__(info.tobuf())

    def read(self, size: int | None = -1) -> bytes:
        assert size
        assert size > 0
        return super().read(size).ljust(size, b"\0")


def test_files_of_the_pod_itself_are_copied_too(pod: vc.Pod, tmp_path: Path) -> None:
    pod.copy_in(io.BytesIO(_archive_of("f")), "/pods-own")
    pod.copy_out("/pods-own/f", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == b""
    assert pod.enter_container("c1", vc.Cmd(args=["ls", "/pods-own"])).exit_code != 0


def _archive_of(name: str) -> bytes:
    return tarfile.TarInfo(name).tobuf() + bytes(1024)
