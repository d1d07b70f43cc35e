"""Streams on the host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vc_core.streams import ContainerLog


def test_a_container_log_is_capped(tmp_path: Path):
    log = ContainerLog(tmp_path / "c/output.log", cap=10_000)
    for number in range(1000):
        log.write(b"%08d\n" % number * 10)
    log.close()
    files = sorted((tmp_path / "c").iterdir())
    assert sum(path.stat().st_size for path in files) <= 10_000
    assert files[0].read_bytes().endswith(b"00000999\n")


def test_a_log_tells_its_next_owner_how_much_of_each_stream_it_has(tmp_path: Path):
    path = tmp_path / "c/output.log"
    first = ContainerLog(path, cap=1000)
    first.begin()
    for _ in range(40):  # the log is begun anew meanwhile
        first.write(b"x" * 70, 0)
        first.write(b"y" * 9, 1)
    first.close()
    second = ContainerLog(path, cap=1000)
    assert second.resume() == (2800, 360)
    second.write(b"z", 1)
    second.close()
    third = ContainerLog(path, cap=1000)
    assert third.resume() == (2800, 361)
    third.close()


@pytest.mark.parametrize("written", [0, 3, 10])
def test_a_death_in_the_middle_of_an_append_loses_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
):
    path = tmp_path / "output.log"
    log = ContainerLog(path)
    log.begin()
    log.write(b"before", 0)
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:written]))
    log.write(b"0123456789", 1)
    monkeypatch.undo()
    log.close()
    after = ContainerLog(path)
    assert after.resume() == (6, written)
    after.close()


def test_a_death_between_two_files_of_a_log_loses_and_repeats_nothing(tmp_path: Path):
    path = tmp_path / "output.log"
    log = ContainerLog(path)
    log.begin()
    log.write(b"all of it", 0)
    log.close()
    path.rename(path.with_name("output.log.1"))
    after = ContainerLog(path)
    assert after.resume() == (9, 0)
    after.close()


def test_a_log_that_nobody_counted_tells_nothing(tmp_path: Path):
    log = ContainerLog(tmp_path / "output.log")
    log.write(b"of a process in somebody's foreground")
    assert log.resume() is None
    log.close()
