"""What a pod shares with its guest, mounted: in a mount namespace of the test's own, as root and as a plain user."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[[str], list[str]]

pytestmark = [pytest.mark.root, pytest.mark.needs("mount namespaces", "user namespaces")]

#: What every script has: two directories to share in argv[1], and a place for a shared directory.
_BEGIN = """
import os, sys
from pathlib import Path
from vc_core.host import mounts, share
from vc_core.host.sources import Source

top = Path(sys.argv[1])
directory = top / "run/share"
for name in ("one", "two"):
    (top / name).mkdir()
    (top / name / name).touch()
directory.parent.mkdir()
share.make_shared_dir(directory)

def bind(place, name, read_only=True):
    with Source("the test", str(top / name)) as source:
        share.bind_into(directory, place, source, read_only)

def attempt(path):
    try:
        path.touch()
        return "written"
    except OSError as error:
        return error.strerror

def names(path):
    return sorted(entry.name for entry in path.iterdir())
"""


@pytest.fixture(params=["root", "user"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Return a function that executes a script and returns the lines of its output."""
    namespaces = {"root": ["--mount"], "user": ["--user", "--map-root-user", "--mount"]}[request.param]

    def run(script: str) -> list[str]:
        argv = ["unshare", *namespaces, sys.executable, "-c", _BEGIN + script, str(tmp_path)]
        done = subprocess.run(argv, capture_output=True, encoding="utf-8")
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


def test_only_the_writable_mounts_of_a_shared_directory_can_be_written(run: Run) -> None:
    assert run("""
bind("c1/mounts/0", "one", read_only=False)
bind("c1/mounts/1", "two")
for path in (directory / "x", directory / "c1/x", directory / "c1/mounts/x", directory / "c1/mounts/1/x"):
    print(attempt(path))
print(attempt(directory / "c1/mounts/0/x"), (top / "one/x").exists())
""") == ["Read-only file system"] * 4 + ["written True"]


def test_a_new_bind_takes_the_place_of_what_an_interrupted_start_left(run: Run) -> None:
    assert run("""
bind("c1/rootfs", "one")
with (directory / "c1/rootfs/one").open():
    bind("c1/rootfs", "two")
print(names(directory / "c1/rootfs"), len(mounts.mounted_in(directory, "c1")))
""") == ["['two'] 1"]


def test_what_is_unbound_is_gone_although_a_copy_of_the_namespace_uses_it(run: Run) -> None:
    """The copy stands for that of the VM, which has a file open there."""
    assert run("""
bind("c1/mounts/0", "one", read_only=False)
bind("c2/rootfs", "two")
ready, go = os.pipe(), os.pipe()
child = os.fork()
if not child:
    import ctypes
    ctypes.CDLL(None).unshare(0x20000)  # CLONE_NEWNS; below it, share's mounts stay peers
    with (directory / "c1/mounts/0/one").open():
        os.write(ready[1], b"r")
        os.read(go[0], 1)
        print(names(directory), flush=True)
    os._exit(0)
os.read(ready[0], 1)
share.unbind(directory, "c1")
os.write(go[1], b"g")
os.waitpid(child, 0)
print(names(directory), names(top / "one"), names(directory / "c2/rootfs"))
share.unbind(directory, "c1")
""") == ["['c2']", "['c2'] ['one'] ['two']"]


def test_mounts_are_found_by_their_ids_and_not_by_their_names(run: Run) -> None:
    assert run("""
bind("c1/rootfs", "one")
(top / "run").rename(top / "moved")
(top / "run/share/c1/rootfs").mkdir(parents=True)
stranger = os.open(top / "two", os.O_PATH)
mounts.bind(stranger, top / "run/share/c1/rootfs")
share.unbind(top / "moved/share", "c1")
print(names(top / "moved/share"), names(top / "run/share/c1/rootfs"))
""") == ["[] ['two']"]


def test_a_root_that_two_containers_have_is_bound_once_and_until_both_have_ended(run: Run) -> None:
    lines = run(
        """
def bind_root(container_id, name):
    with Source("the test", str(top / name)) as source:
        return share.bind_root(directory, container_id, source)

one, two, other = bind_root("c1", "one"), bind_root("c2", "one"), bind_root("c3", "two")
print(one == two, one != other, names(directory / "c2/rootfs"))
share.unbind(directory, "c1")
print(names(directory), names(directory / one), names(directory / other))
share.unbind(directory, "c2")
print(names(directory), names(directory / ".roots"), names(directory / other), (directory / one).exists())
print(bind_root("c3", "two") == other, names(directory / other), len(mounts.mounted_below(directory)))
"""
    )
    assert lines == [
        "True True ['one']",
        "['.roots', 'c2', 'c3'] ['one'] ['two']",
        lines[2],
        "True ['two'] 2",
    ]
    assert lines[2].startswith("['.roots', 'c3'] ['")
    assert lines[2].endswith("'] ['two'] False")


def test_a_writable_mount_that_two_containers_have_is_bound_once_and_until_both_have_ended(run: Run) -> None:
    lines = run(
        """
def bind_mount(container_id, number, name, read_only=False):
    with Source("the test", str(top / name)) as source:
        return share.bind_mount(directory, container_id, number, source, read_only)

one, again, two = bind_mount("c1", 0, "one"), bind_mount("c2", 3, "one"), bind_mount("c2", 4, "two")
print(one == again, one != two, names(directory / "c1/mounts/0"), names(directory / one))
share.unbind(directory, "c1")
print(names(directory), names(directory / one))
share.unbind(directory, "c2")
print(names(directory), names(directory / ".mounts"), len(mounts.mounted_below(directory)))
print(bind_mount("c3", 0, "one", read_only=True))
"""
    )
    assert lines == [
        "True True ['one'] ['one']",
        "['.mounts', 'c2'] ['one']",
        "['.mounts'] [] 1",
        "c3/mounts/0",
    ]
