"""What all workers of a run share is made by one of them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from once import make_once
from waiting import wait_until


def test_a_worker_that_waited_while_another_made_it_does_not_make_it_again(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    name = tmp_path_factory.mktemp("once").name
    made: list[str] = []
    second = threading.Thread(target=lambda: make_once(tmp_path_factory, name, lambda top: made.append("second")))

    def make(top: Path) -> None:
        second.start()
        inode = f":{(top / 'made').stat().st_ino} "
        locks = Path("/proc/locks")
        wait_until(lambda: any("->" in line and inode in line for line in locks.read_text("ascii").splitlines()))
        made.append("first")

    make_once(tmp_path_factory, name, make)
    second.join()
    assert made == ["first"]


def test_what_is_there_no_more_is_made_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    name = tmp_path_factory.mktemp("again").name
    made: list[Path] = []
    there = iter([True, False])
    for _ in range(3):
        make_once(tmp_path_factory, name, made.append, lambda top: next(there))
    assert len(made) == 2
