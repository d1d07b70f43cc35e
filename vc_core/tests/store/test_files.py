"""Files below the roots: written atomically; links and other mounts are not followed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vc_core import failpoints
from vc_core.errors import StorageError
from vc_core.store import files
from vc_core.store.roots import guest_cache, private_directory


@pytest.mark.promise("T13")
def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    files.write_atomic(tmp_path, "state.json", b"old")
    # A full disk, as seen by the process: files may not grow.
    script = (
        "import resource, sys; from pathlib import Path; from vc_core.store import files; import signal;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (8, 8));"
        f"files.write_atomic(Path({str(tmp_path)!r}), 'state.json', b'new content that does not fit')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8")
    assert "StorageError" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]
    assert (tmp_path / "state.json").read_bytes() == b"old"


@pytest.mark.parametrize("before", [b"old", None])
def test_a_replacement_that_may_not_survive_a_crash_is_undone(before: bytes | None, tmp_path: Path) -> None:
    """The rename succeeded, and the fsync of the directory did not."""
    if before is not None:
        files.write_atomic(tmp_path, "state.json", before)
    failpoints.configure("store.write.renamed=error")
    try:
        with pytest.raises(StorageError, match=r"state\.json' cannot be written"):
            files.write_atomic(tmp_path, "state.json", b"new")
    finally:
        failpoints.configure("")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == ({"state.json": before} if before else {})


def test_a_link_in_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    (tmp_path / ".state.json.new").symlink_to(target)
    with pytest.raises(StorageError):
        files.write_atomic(tmp_path, "state.json", b"x")
    (tmp_path / "state.json").symlink_to(target)
    with pytest.raises(StorageError):
        files.read_whole(tmp_path / "state.json")
    assert target.read_bytes() == b"precious"


@pytest.mark.parametrize("kind", ["directory", "fifo"])
def test_what_is_no_file_is_refused_without_hanging(tmp_path: Path, kind: str) -> None:
    import os

    path = tmp_path / "state.json"
    path.mkdir() if kind == "directory" else os.mkfifo(path)
    with pytest.raises(StorageError):
        files.read_whole(path)


@pytest.mark.promise("T07")
def test_removing_a_tree_does_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").touch()
    (tmp_path / "doomed/sub").mkdir(parents=True)
    (tmp_path / "doomed/sub/link").symlink_to(tmp_path / "kept")
    files.remove_tree(tmp_path / "doomed")
    assert not (tmp_path / "doomed").exists()
    assert (tmp_path / "kept/file").exists()
    files.remove_tree(tmp_path / "doomed")  # nothing there is no error


@pytest.mark.promise("T07")
@pytest.mark.root
@pytest.mark.needs("mount namespaces")
def test_removing_a_tree_refuses_to_enter_a_bind_mount(tmp_path: Path) -> None:
    """rmtree over a live bind mount empties its source; the source has the same device number."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source/file").write_text("precious", encoding="utf-8")
    (tmp_path / "doomed/mount").mkdir(parents=True)
    script = (
        "import os, sys; from pathlib import Path; from vc_core.host import mounts; from vc_core.store import files;"
        "top = Path(sys.argv[1]);"
        "mounts.bind(os.open(top / 'source', os.O_PATH), top / 'doomed/mount'); files.remove_tree(top / 'doomed')"
    )
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", script, str(tmp_path)], capture_output=True, encoding="utf-8"
    )
    assert "is a mount point; unmount it first" in done.stderr
    assert (tmp_path / "source/file").read_text(encoding="utf-8") == "precious"


@pytest.mark.promise("T07")
@pytest.mark.root
@pytest.mark.needs("mount namespaces")
def test_removing_a_tree_leaves_what_was_mounted_there_and_is_detached_while_it_is_in_use(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/file").write_text("precious", encoding="utf-8")
    (tmp_path / "doomed/mount").mkdir(parents=True)
    script = (
        "import os, subprocess, sys; from pathlib import Path;"
        "from vc_core.host import mounts; from vc_core.store import files;"
        "top = Path(sys.argv[1]); place = top / 'doomed/mount';"
        "mounts.bind(os.open(top / 'source', os.O_PATH), place); used = os.open(place, os.O_PATH);"
        "subprocess.run(['umount', '--lazy', place], check=True);"
        "files.remove_tree(top / 'doomed'); print(os.listdir(f'/proc/self/fd/{used}'))"
    )
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", script, str(tmp_path)], capture_output=True, encoding="utf-8"
    )
    assert done.stdout == "['file']\n", done.stderr
    assert not (tmp_path / "doomed").exists()
    assert (tmp_path / "source/file").read_text(encoding="utf-8") == "precious"


def test_files_of_any_names_are_removed(tmp_path: Path) -> None:
    for name in (b"\xff \x1b[2J\n'\"", b"\xfe\n", b"-rf", b"\x80" * 255):
        (tmp_path / "doomed" / os.fsdecode(name) / "sub").mkdir(parents=True)
        os.mkfifo(tmp_path / "doomed" / os.fsdecode(name) / os.fsdecode(name))
    files.remove_tree(tmp_path / "doomed")
    assert list(tmp_path.iterdir()) == []


#: Fills the file system argv[1] with 100,000 directories, each in the one before, and with a file; removes all of it.
_DEEP_AND_FULL = """
import os, sys
from pathlib import Path
from vc_core.store import files

top = Path(sys.argv[1])
(top / "doomed").mkdir()
above = os.open(top / "doomed", os.O_RDONLY)
for _ in range(100_000):
    os.mkdir("d", dir_fd=above)
    below = os.open("d", os.O_RDONLY, dir_fd=above)
    os.close(above)
    above = below
os.close(above)
try:
    (top / "doomed/file").write_bytes(bytes(1 << 20))
except OSError as error:
    print(error.strerror)
files.remove_tree(top / "doomed")
print(list(top.iterdir()))
"""


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.needs("mount namespaces")
def test_100_000_nested_directories_are_removed_from_a_full_file_system(tmp_path: Path) -> None:
    """They are too many for a path, for a recursion, and for open files."""
    mounting = 'mount -t tmpfs -o size=512k,nr_inodes=200000 tmpfs "$0" && exec "$@"'
    argv = ["unshare", "--mount", "sh", "-c", mounting, str(tmp_path), sys.executable, "-c", _DEEP_AND_FULL]
    done = subprocess.run([*argv, str(tmp_path)], capture_output=True, encoding="utf-8")
    assert done.stdout.splitlines() == ["No space left on device", "[]"], done.stderr


def test_a_root_that_others_can_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(StorageError, match="chmod 700"):
        private_directory(tmp_path / "open")


def test_a_root_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(StorageError, match="not a directory"):
        private_directory(tmp_path / "link")


def test_a_root_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    assert private_directory(tmp_path / "a/b").stat().st_mode & 0o777 == 0o700


def test_a_cache_that_others_can_write_is_refused_with_the_variable_that_moves_it(tmp_path: Path) -> None:
    cache = guest_cache(tmp_path / "cache")
    assert cache.stat().st_mode & 0o777 == 0o700
    for directory in (cache, tmp_path / "cache"):
        directory.chmod(0o777)
        with pytest.raises(StorageError, match=f"{directory}' is writable by others; run: chmod 700"):
            guest_cache(tmp_path / "cache")
    (tmp_path / "link").symlink_to(cache)
    with pytest.raises(StorageError, match="is not a directory; move it away or set VIRTCONTAINERS_CACHE"):
        guest_cache(tmp_path / "link")
