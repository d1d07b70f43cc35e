"""An overlay of an engine becomes one whose owners are translated, in a mount namespace of the test's own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.root, pytest.mark.needs("mount namespaces", "user namespaces")]

Run = Callable[[str], list[str]]

#: Makes an overlay of two layers in argv[1], as root, and translates it for the user namespace of the process argv[2].
_BEGIN = """
import os, sys
from pathlib import Path
from vc_core.host import mounts, share
from vc_core.host.sources import Source

top, users = Path(sys.argv[1]), Path(f"/proc/{sys.argv[2]}/ns/user")
for name in ("lower", "middle", "upper", "work", "merged", "run"):
    (top / name).mkdir()
for name in ("below", "hidden", "changed"):
    (top / "lower" / name).write_text(f"{name} of lower", encoding="utf-8")
(top / "middle/theirs").touch()
os.chown(top / "middle/theirs", 7, 7)

def overlay(options):
    mounts.mount_overlay(top / "merged", 0, options)

def translated(read_only=True):
    directory = top / "run/share"
    share.make_shared_dir(directory)
    with Source("the test", str(top / "merged")) as source:
        share.bind_into(directory, "c1/rootfs", source, read_only, users)
    return directory / "c1/rootfs"
"""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Return a function that executes a script and returns the lines of its output."""
    with subprocess.Popen(["unshare", "--user", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write(b"ready\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == b"ready\n"  # it is in the namespace
        ids = "0 1000000 65536"
        for kind in ("uid", "gid"):
            Path(f"/proc/{holder.pid}/{kind}_map").write_text(ids, encoding="ascii")

        def run(script: str) -> list[str]:
            argv = ["unshare", "--mount", sys.executable, "-c", _BEGIN + script, str(tmp_path), str(holder.pid)]
            done = subprocess.run(argv, capture_output=True, encoding="utf-8")
            assert done.returncode == 0, done.stderr
            return done.stdout.splitlines()

        yield run
        holder.stdin.close()


def test_the_files_of_all_layers_are_there_with_translated_owners(run: Run) -> None:
    assert run("""
overlay(f"lowerdir={top}/middle:{top}/lower,upperdir={top}/upper,workdir={top}/work")
(top / "merged/hidden").unlink()
(top / "merged/changed").write_text("changed", encoding="utf-8")
root = translated()
print(sorted(path.name for path in root.iterdir()))
print((root / "changed").read_text(encoding="utf-8"), (root / "below").read_text(encoding="utf-8"))
print((root / "theirs").stat().st_uid, (root / "changed").stat().st_uid)
""") == ["['below', 'changed', 'theirs']", "changed below of lower", "1000007 1000000"]


def test_a_layer_that_is_an_overlay_itself_counts_as_all_of_its_layers(run: Run) -> None:
    assert run("""
inner = top / "inner"
inner.mkdir()
mounts.mount_overlay(inner, 0, f"lowerdir={top}/middle:{top}/lower")
overlay(f"lowerdir={inner},upperdir={top}/upper,workdir={top}/work")
(top / "merged/hidden").unlink()
root = translated()
print(sorted(path.name for path in root.iterdir()), (root / "theirs").stat().st_uid)
""") == ["['below', 'changed', 'theirs'] 1000007"]


def test_nothing_can_be_written_and_nothing_else_stays_mounted(run: Run) -> None:
    assert run("""
overlay(f"lowerdir={top}/middle:{top}/lower,upperdir={top}/upper,workdir={top}/work")
before = len(mounts.table())
root = translated()
try:
    (root / "new").touch()
except OSError as error:
    print(error.strerror)
print(len(mounts.table()) - before)
share.unbind(top / "run/share", "c1")
print(len(mounts.table()) - before)
""") == ["Read-only file system", "2", "1"]


def test_an_overlay_whose_paths_were_shortened_is_found_beside_its_upper_layer(run: Run) -> None:
    assert run("""
(top / "snapshots/9").mkdir(parents=True)
for name in ("lower", "middle", "upper", "work"):
    (top / name).rename(top / "snapshots" / ("9/" + name if name in ("upper", "work") else name))
os.chdir(top / "snapshots")
overlay(f"lowerdir=middle:lower,upperdir={top}/snapshots/9/upper,workdir={top}/snapshots/9/work")
os.chdir("/")
print((translated() / "below").read_text(encoding="utf-8"))
""") == ["below of lower"]


def test_an_overlay_whose_layers_are_gone_is_refused_in_one_sentence(run: Run) -> None:
    assert run("""
overlay(f"lowerdir={top}/middle:{top}/lower,upperdir={top}/upper,workdir={top}/work")
(top / "lower").rename(top / "moved")
try:
    translated()
except Exception as error:
    print(type(error).__name__, "cannot be shared with the guest of a jailed VM" in str(error))
""") == ["StorageError True"]
