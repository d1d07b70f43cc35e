"""What a check of the host that was killed leaves is cleared by the next one, and nothing else is."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vc_core.config.ids import pod_uuid
from vc_core.engine.workplace import clear_abandoned, workplace
from waiting import PATIENCE


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@contextmanager
def working(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that a check has started in a directory."""
    command = ["tail", "-q", "-f", "/dev/null", pod_uuid(directory)]
    with subprocess.Popen(command, cwd=directory, stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None
            assert pod_uuid(directory).encode() in process.stderr.readline()  # it has no such file, and so it runs
            yield process
        finally:
            process.kill()


def abandoned(directory: Path) -> Path:
    os.utime(directory, (0, 0))
    return directory


def test_what_runs_in_a_workplace_ends_with_it() -> None:
    with workplace() as directory:
        assert directory.stat().st_mode & 0o777 == 0o700
        assert list(directory.iterdir()) == []
        with working(directory) as process:
            (directory / "file").touch()
    assert not directory.exists()
    assert process.wait(PATIENCE) == -9


def test_that_of_a_check_that_was_killed_is_cleared_with_its_processes() -> None:
    directory = abandoned(Path(tempfile.mkdtemp(prefix="vc-host-check-")))
    with working(directory) as process:
        clear_abandoned()
        assert process.wait(PATIENCE) == -9
    assert not directory.exists()


def test_that_of_a_check_that_works_is_left(tmp_path: Path) -> None:
    with workplace() as directory:
        abandoned(directory)
        clear_abandoned()
        assert directory.exists()


def test_a_new_one_and_what_looks_like_one_are_left(tmp_path: Path) -> None:
    new = Path(tempfile.mkdtemp(prefix="vc-host-check-"))
    open_to_all, elsewhere = tmp_path / "vc-host-check-open", tmp_path / "elsewhere"
    for directory in (open_to_all, elsewhere):
        directory.mkdir(mode=0o755)
        abandoned(directory)
    link = tmp_path / "vc-host-check-link"
    link.symlink_to(elsewhere)
    clear_abandoned()
    assert all(path.exists() for path in (new, open_to_all, elsewhere, link))
