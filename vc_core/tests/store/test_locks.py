"""One holder at a time, whatever happens to the lock file."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vc_core.errors import BusyError
from vc_core.store import locks
from vc_core.testing.slowness import within
from waiting import PATIENCE


def test_a_held_lock_is_refused_after_the_timeout(tmp_path: Path) -> None:
    path = tmp_path / "p.lock"
    held = locks.acquire(path, 0, "busy")
    began = time.monotonic()
    with within(1), pytest.raises(BusyError, match="pod 'p' is busy"):
        locks.acquire(path, 0.2, "pod 'p' is busy")
    assert time.monotonic() - began > 0.15
    held.release()


def test_a_waiting_caller_gets_a_lock_that_is_let_go(tmp_path: Path) -> None:
    path = tmp_path / "p.lock"
    held = locks.acquire(path, 0, "busy")
    threading.Timer(0.1, held.release).start()
    locks.acquire(path, PATIENCE, "busy").release()


def test_a_lock_dies_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "p.lock"
    script = (
        "import sys; from pathlib import Path; from vc_core.store import locks;"
        "lock = locks.acquire(Path(sys.argv[1]), 0, ''); print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BusyError):
            locks.acquire(path, 0, "busy")
        holder.kill()
        locks.acquire(path, PATIENCE, "busy").release()


def test_two_can_never_hold_the_lock_though_the_file_was_unlinked_between(tmp_path: Path) -> None:
    """The deleter unlinks the file as its last act: who waited on the old file must not count as a holder."""
    path = tmp_path / "p.lock"
    deleter = locks.acquire(path, 0, "busy")
    got: list[locks.FileLock] = []
    waiter = threading.Thread(target=lambda: got.append(locks.acquire(path, PATIENCE, "busy")))
    waiter.start()
    deleter.unlink()
    deleter.release()
    waiter.join()
    with pytest.raises(BusyError):
        locks.acquire(path, 0, "busy")
    got[0].release()


@pytest.mark.promise("T15")
def test_racing_holders_and_deleters_never_overlap(tmp_path: Path) -> None:
    path, inside, overlaps = tmp_path / "p.lock", [], []

    def work(number: int) -> None:
        for turn in range(30):
            lock = locks.acquire(path, PATIENCE, "busy")
            inside.append(number)
            overlaps.extend(inside[1:])
            inside.remove(number)
            if (turn + number) % 3 == 0:
                lock.unlink()
            lock.release()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlaps == []


def test_who_gave_up_waiting_makes_no_file_again_that_its_holder_has_removed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held = locks.acquire(path, 0, "busy")
    with pytest.raises(BusyError):
        locks.acquire(path, 0.01, "busy")
    waiting = [thread for thread in threading.enumerate() if thread.name == "wait for lock"]
    held.unlink()
    held.release()
    for thread in waiting:
        thread.join(PATIENCE)
    assert waiting
    assert not path.exists()
