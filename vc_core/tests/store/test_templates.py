"""The cache of templates, without any VM: which are whole, who makes them, and which go first."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from vc_core.errors import BusyError, StorageError, TemplateNotFoundError
from vc_core.store import templates
from vc_core.store.templates import Templates

MEMORY = templates._HASHED_MAX + 1

#: The id of a user without rights.
PLAIN = 65534


@pytest.fixture
def cache(tmp_path: Path) -> Templates:
    return Templates(tmp_path / "cache")


def make(cache: Templates, kind: str = "k1", state: bytes = b"state", size_max: int = 2048) -> Path:
    """Make a template of a large file and a small one."""
    with cache.making(kind, lambda _: None) as making:
        (making / "state").write_bytes(state)
        with (making / "memory").open("wb") as file:
            file.truncate(MEMORY)
        cache.publish(making, hypervisor="h", agent="a", memory=1, vcpus=2, size_max=size_max)
    found = cache.find(kind)
    assert found is not None
    return found


def rewrite(path: Path, data: bytes) -> None:
    """Change a file, but not its time."""
    times = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        lambda path: (path / "memory").write_bytes(b"short"),
        lambda path: os.utime(path / "memory", (1, 1)),
        lambda path: (path / "memory").unlink(),
        lambda path: rewrite(path / "state", b"STATE"),
        lambda path: (path / "manifest.json").write_bytes(b"{"),
        lambda path: (path / "manifest.json").unlink(),
        lambda path: (path / "manifest.json").write_bytes((path / "manifest.json").read_bytes()[:-10]),
        lambda path: path.chmod(0o755),
        lambda path: (path / "memory").chmod(0o662),
        lambda path: (path / "state").symlink_to((path / "state").rename(path / "other")),
        lambda path: path.rename(path.with_name("other")) and path.write_bytes(b"no directory"),
        lambda path: path.symlink_to(path.rename(path.with_name("other"))),
    ],
    ids=[
        *("truncated", "touched", "missing", "changed", "manifest", "no manifest", "part of a manifest"),
        *("readable by others", "memory writable by others", "state is a link", "a file", "a link"),
    ],
)
def test_a_template_that_is_not_whole_is_not_found_and_removed(
    cache: Templates, change: Callable[[Path], object]
) -> None:
    path = make(cache)
    change(path)
    assert cache.find("k1") is None
    assert not os.path.lexists(path)
    assert make(cache) == path


@pytest.mark.root
@pytest.mark.parametrize("name", ["", "memory", "manifest.json"], ids=["directory", "memory", "manifest"])
def test_a_template_that_is_another_users_is_not_found_and_removed(cache: Templates, name: str) -> None:
    path = make(cache)
    os.chown(path / name, PLAIN, PLAIN)
    assert cache.find("k1") is None
    assert not path.exists()


@pytest.mark.parametrize(
    "change", [lambda path: path.write_bytes(b""), lambda path: path.mkdir()], ids=["file", "directory"]
)
def test_what_has_the_name_of_a_new_template_is_replaced(cache: Templates, change: Callable[[Path], object]) -> None:
    path = make(cache).with_name("k2")
    change(path)
    assert make(cache, "k2") == path


@pytest.mark.root
def test_a_template_in_a_cache_that_can_only_be_read_is_used(place: Path) -> None:
    cache = Templates(place / "cache")
    path = make(cache)
    path.parent.chmod(0o500)
    path.chmod(0o500)
    (path / "manifest.json").chmod(0o400)
    give(place)
    with plain_user():
        assert cache.find("k1") == path


@pytest.mark.root
def test_a_directory_that_cannot_be_entered_is_an_error_and_no_template_is_made_there(place: Path) -> None:
    cache = Templates(place / "cache")
    make(cache).parent.chmod(0)
    give(place)
    with plain_user():
        assert not cache.may_be_made("k1")
        for work in (cache.list, lambda: cache.find("k1"), lambda: cache.remove("k1")):
            with pytest.raises(StorageError, match="Permission denied"):
                work()


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a directory that every user can enter; those of pytest only root can."""
    with TemporaryDirectory(dir="/var/tmp") as name:
        Path(name).chmod(0o711)
        yield Path(name)


def give(place: Path) -> None:
    """Let a plain user own all that is below a directory."""
    for one in place.rglob("*"):
        os.chown(one, PLAIN, PLAIN)


@contextmanager
def plain_user() -> Iterator[None]:
    """Have the rights of a plain user: root could read and write whatever the modes are."""
    os.seteuid(PLAIN)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_cache_that_others_can_write_to_is_refused(cache: Templates) -> None:
    make(cache).parent.chmod(0o777)
    with pytest.raises(StorageError, match="is writable by others"):
        cache.find("k1")


def test_one_process_at_a_time_makes_a_template(cache: Templates) -> None:
    with cache.making("k1", lambda _: None), pytest.raises(BusyError), cache.making("k1", lambda _: None):
        pass
    make(cache)


def test_what_a_killed_maker_left_is_removed_and_what_fails_leaves_nothing(cache: Templates) -> None:
    top = make(cache).parent
    (top / ".making-k1").mkdir()
    (top / ".making-k1" / "memory").write_bytes(b"left")
    seen: list[Path] = []

    def fail() -> None:
        with cache.making("k1", lambda path: seen.extend(path.iterdir())) as making:
            assert list(making.iterdir()) == []
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [one.name for one in seen] == ["memory"]
    assert sorted(one.name for one in top.iterdir()) == ["k1"]
    assert cache.find("k1") is not None


def test_what_killed_makers_and_removers_of_other_kinds_left_is_removed_but_not_what_is_being_made(
    cache: Templates,
) -> None:
    top = make(cache).parent
    for name in (".making-k2", ".removed-1"):
        (top / name / "run").mkdir(parents=True)
    seen: list[str] = []
    with cache.making("k3", lambda _: None):
        make_other = cache.making("k4", lambda path: seen.append(path.name))
        with make_other:
            assert sorted(seen) == [".making-k4"]
            assert sorted(one.name for one in top.glob(".making-*")) == [".making-k3", ".making-k4"]
    assert sorted(one.name for one in top.iterdir()) == ["k1"]


def test_those_that_were_not_used_for_the_longest_time_go_first(cache: Templates) -> None:
    data = os.urandom(1 << 20)
    paths = {name: make(cache, name, data) for name in ("old", "used", "new")}
    for number, name in enumerate(("old", "used", "new")):
        os.utime(paths[name] / "manifest.json", (number, number))
    cache.find("old")
    assert [one.kind for one in cache.list()] == ["used", "new", "old"]
    make(cache, "another", data, size_max=3)
    assert [one.kind for one in cache.list()] == ["old", "another"]
    make(cache, "large", data, size_max=1)
    assert [one.kind for one in cache.list()] == ["large"]


def test_a_template_is_described(cache: Templates) -> None:
    path = make(cache)
    [one] = cache.list()
    assert (one.kind, one.hypervisor, one.agent, one.memory, one.vcpus) == ("k1", "h", "a", 1, 2)
    assert one.size == sum((path / name).stat().st_blocks * 512 for name in ("memory", "state"))


@pytest.mark.parametrize("kind", ["none", "", ".making-k1", "../k1", "k1/memory"])
def test_what_is_not_there_cannot_be_removed(cache: Templates, kind: str) -> None:
    make(cache)
    with pytest.raises(TemplateNotFoundError, match="there is no template"):
        cache.remove(kind)
    assert cache.find("k1") is not None


def test_what_could_not_be_made_is_tried_again_later_or_when_it_was_made(
    cache: Templates, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache.may_be_made("k1")
    cache.refuse("k1", "why")
    assert not cache.may_be_made("k1")
    make(cache)
    assert cache.may_be_made("k1")
    cache.refuse("k1", "why")
    monkeypatch.setattr(templates, "_REFUSED_FOR", -1.0)
    assert cache.may_be_made("k1")
