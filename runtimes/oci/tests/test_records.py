"""The directory of a container, its record and its status."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from vc_core.driver import ProcessIdentity
from vc_runtime.faults import NoSuchContainer, RuntimeFault
from vc_runtime.records import Record, Root, Shim


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """Return a process that stands for a shim."""
    with subprocess.Popen(["sleep", "1000"]) as sleeping:
        yield sleeping
        sleeping.kill()


def shim_of(process: subprocess.Popen[bytes]) -> Shim:
    identity = ProcessIdentity.of(process.pid)
    assert identity is not None
    return Shim(identity.pid, identity.start_time, identity.boot_id)


def record(**fields: object) -> Record:
    return Record(id="c1", bundle="/b", pod="c1", container="c1", **fields)  # type: ignore[arg-type]


def test_the_status_is_that_of_the_shim(process: subprocess.Popen[bytes]) -> None:
    shim = shim_of(process)
    assert record().status == "stopped"
    assert record(shim=shim).status == "created"
    assert record(shim=shim, started=True).status == "running"
    assert record(shim=shim, started=True, paused=True).status == "paused"
    process.kill()
    process.wait()
    assert record(shim=shim, started=True).status == "stopped"
    assert record(shim=shim, started=True).pid == 0


def test_another_process_with_the_pid_of_a_shim_is_not_taken_for_it(process: subprocess.Popen[bytes]) -> None:
    shim = shim_of(process)
    shim.start_time -= 1
    assert record(shim=shim, started=True).status == "stopped"


def test_a_record_is_what_was_written(root: Root) -> None:
    home = root.home("c1")
    home.create()
    home.write(record(annotations={"a": "b"}, shim=Shim(2, 3, "boot")))
    assert home.read() == record(annotations={"a": "b"}, shim=Shim(2, 3, "boot"))
    assert [one.id for one in root.records()] == ["c1"]


def test_an_id_that_is_taken_is_refused(root: Root) -> None:
    root.home("c1").create()
    with pytest.raises(RuntimeFault, match="container with id c1 exists"):
        root.home("c1").create()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "x" * 1025])
def test_an_id_that_cannot_be_a_directory_is_refused(root: Root, name: str) -> None:
    with pytest.raises(RuntimeFault, match="is not valid"):
        root.home(name)


def test_a_container_that_is_not_there_is_reported_by_its_id(root: Root) -> None:
    with pytest.raises(NoSuchContainer, match="container gone does not exist"):
        root.home("gone").read()


def test_a_directory_without_a_record_is_not_listed(root: Root) -> None:
    root.home("half").create()
    assert root.records() == []


def test_ids_that_engines_choose_at_random_are_kept() -> None:
    assert Root(Path("/r")).vc_id("0123456789abcdef" * 4) == "0123456789abcdef" * 4


def test_equal_ids_below_two_roots_are_two_pods() -> None:
    one, other = Root(Path("/r1")).vc_id("web"), Root(Path("/r2")).vc_id("web")
    assert one != other
    assert one.startswith("web-")


@pytest.mark.parametrize("name", ["x" * 76, "+odd+", "_", "-a"])
def test_every_id_has_one_that_the_core_accepts(name: str) -> None:
    import re

    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", Root(Path("/r")).vc_id(name))


def test_the_socket_of_a_shim_is_reached_below_a_long_path(tmp_path: Path) -> None:
    root = Root(tmp_path / ("d" * 120))
    home = root.home("c" * 100)
    home.create()
    with home.listen(), home.connect() as connected:
        assert connected.fileno() >= 0
