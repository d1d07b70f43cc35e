"""Pools of pods that wait to be taken, with drivers that need no virtual machine."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import vc_core as vc
from vc_core import aio
from vc_core.client import pool as pool_module
from vc_core.client.pods import run_pod
from vc_core.errors import BusyError, ConfigError, HypervisorError, StateError
from vc_core.store import pools
from vc_core.store.roots import Roots
from vc_core.store.store import Store
from waiting import PATIENCE


@pytest.fixture
def config(mock_config: Callable[..., vc.PodConfig]) -> vc.PodConfig:
    return replace(mock_config(), id="")


def waiting(name: str = "") -> list[str]:
    return [one.id for one in vc.list_pods() if one.pool and name in ("", one.pool)]


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def test_a_taken_pod_runs_and_is_replaced(config: vc.PodConfig) -> None:
    with vc.PodPool(config, size=2) as pool:
        taken = pool.take()
        assert taken.status().state == "running"
        wait_for(lambda: len(waiting()) == 2, "the pool is full again")
        assert taken.id not in waiting()
        taken.delete(force=True)


def test_pods_that_wait_are_listed_with_the_name_of_their_pool(config: vc.PodConfig) -> None:
    with vc.PodPool(config, size=1, name="web"), vc.PodPool(config, size=2, name="db"):
        wait_for(lambda: len(waiting("web")) == 1 and len(waiting("db")) == 2, "both pools are full")


def test_closing_deletes_the_pods_that_wait_and_no_other(config: vc.PodConfig) -> None:
    pool = vc.PodPool(config, size=3)
    taken = pool.take()
    pool.close()
    assert [one.id for one in vc.list_pods()] == [taken.id]
    taken.delete(force=True)


def test_a_closed_pool_hands_out_nothing_and_can_be_closed_again(config: vc.PodConfig) -> None:
    pool = vc.PodPool(config, size=1, name="web")
    pool.close()
    pool.close()
    with pytest.raises(StateError, match="pool 'web' is closed"):
        pool.take()


def test_a_take_that_waits_ends_when_the_pool_is_closed(config: vc.PodConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go = hold_starts(monkeypatch)
    pool = vc.PodPool(config, size=1)
    assert begun.wait(PATIENCE)
    closer = threading.Timer(0.1, pool.close)
    closer.start()
    with pytest.raises(StateError, match="is closed"):
        pool.take(timeout=PATIENCE)
    go.set()
    closer.join()
    assert vc.list_pods() == []


def hold_starts(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Let pods be started only once the second event is set; the first one is set when a start has begun."""
    begun, go = threading.Event(), threading.Event()

    def held(*arguments: Any, **named: Any) -> Any:
        begun.set()
        assert go.wait(PATIENCE)
        return (yield from run_pod(*arguments, **named))

    monkeypatch.setattr(pool_module, "run_pod", held)
    return begun, go


def test_waiting_for_a_pod_ends_with_its_timeout(config: vc.PodConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    _, go = hold_starts(monkeypatch)
    with vc.PodPool(config, size=1, name="web") as pool:
        with pytest.raises(BusyError, match=r"no pod of pool 'web' got ready within 0\.05 s"):
            pool.take(timeout=0.05)
        go.set()


def test_a_pod_that_ended_while_it_waited_is_not_handed_out(config: vc.PodConfig) -> None:
    with vc.PodPool(config, size=1) as pool:
        wait_for(waiting, "the pool is full")
        (ended,) = waiting()
        vc.stop_pod(ended)
        taken = pool.take()
        assert taken.id != ended
        taken.delete(force=True)
    assert vc.list_pods() == []


def test_a_pod_that_is_too_old_is_replaced(config: vc.PodConfig) -> None:
    with vc.PodPool(config, size=1, max_age=0.2):
        wait_for(waiting, "the pool is full")
        (first,) = waiting()
        wait_for(lambda: waiting() not in ([], [first]), "the pod was replaced")


def test_the_error_of_a_start_is_raised_by_take_and_the_next_take_tries_again(
    config: vc.PodConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = replace(config, hypervisor_config=vc.HypervisorConfig(options={"fail_start": "no memory"}))
    with vc.PodPool(failing, size=2) as pool:
        for _ in range(2):
            with pytest.raises(HypervisorError, match="no memory"):
                pool.take()
    assert vc.list_pods() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": {"id": "p1"}}, "leave out the id 'p1'"),
        ({"size": 0}, "the size of a pool is 0; give a number of pods from 1 to 1000"),
        ({"size": True}, "the size of a pool is True"),
        ({"size": 1001}, "the size of a pool is 1001"),
        ({"max_age": 0}, "max_age of a pool is 0; give a number of seconds, more than 0"),
        ({"max_age": "60"}, "max_age of a pool is '60'; give a number of seconds, more than 0"),
        ({"name": "a b"}, "pool id 'a b' is not valid"),
    ],
)
def test_what_no_pool_can_have_is_refused(config: vc.PodConfig, change: dict[str, Any], message: str) -> None:
    changed = replace(config, **change.pop("config", {}))
    with pytest.raises(ConfigError, match=message):
        vc.PodPool(changed, **change)


def test_many_threads_take_each_pod_once(config: vc.PodConfig) -> None:
    taken: list[str] = []
    with vc.PodPool(config, size=3) as pool:
        threads = [threading.Thread(target=lambda: taken.append(pool.take(timeout=PATIENCE).id)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(set(taken)) == 8
    assert {one.id for one in vc.list_pods()} == set(taken)
    for pod_id in taken:
        vc.delete_pod(pod_id, force=True)


def test_the_async_pool_is_the_same(config: vc.PodConfig) -> None:
    async def main() -> list[str]:
        async with aio.PodPool(config, size=2) as pool:
            taken = await asyncio.gather(*(pool.take() for _ in range(3)))
            states = [str((await one.status()).state) for one in taken]
            for one in taken:
                await one.delete(force=True)
        return states

    assert asyncio.run(main()) == ["running"] * 3
    assert vc.list_pods() == []


PROGRAM = """
import sys, vc_core as vc
config = vc.PodConfig(hypervisor_type="mock", agent_type="noop")
pool = vc.PodPool(config, size=2)
pool.take()
while len([one for one in vc.list_pods() if one.pool]) < 2:
    pass
print("full", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def program() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_a_program_that_ends_with_an_open_pool_leaves_only_what_it_took(program: subprocess.Popen[bytes]) -> None:
    assert program.communicate()[0] == b"full\n"
    assert [one.pool for one in vc.list_pods()] == [""]


def test_the_next_pool_deletes_what_a_killed_program_left(
    program: subprocess.Popen[bytes], config: vc.PodConfig, store: Store, roots: Roots
) -> None:
    with program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"full\n"
        os.kill(program.pid, signal.SIGKILL)
    left = waiting()
    assert len(left) == 2
    with vc.PodPool(config, size=1, name="next"):
        wait_for(lambda: not set(left) & set(store.ids()), "the pods of the killed program are deleted")
    assert [one.pool for one in vc.list_pods()] == [""]


def test_the_next_pool_deletes_a_pod_whose_start_was_undone_when_the_program_was_killed(
    config: vc.PodConfig, store: Store, roots: Roots
) -> None:
    pod = vc.create_pod(config)
    gone = {"pid": 2**22 + 1, "start_time": 1, "boot_id": "of another boot"}
    pools.mark(store, pod.id, pools.PoolMark(pool="web", owner=gone))
    shutil.rmtree(roots.pod_run_dir(pod.id), ignore_errors=True)  # as by the supervisor that undoes the start
    with vc.PodPool(config, size=1, name="next"):
        wait_for(lambda: pod.id not in store.ids(), "the pod of the killed program is deleted")


def test_a_fork_takes_no_pod_and_closes_none(config: vc.PodConfig) -> None:
    with vc.PodPool(config, size=2, name="web") as pool:
        wait_for(lambda: len(waiting()) == 2, "the pool is full")
        full = set(waiting())
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                with pool:
                    pool.take(timeout=PATIENCE)
            except BaseException as error:
                os.write(writer, str(error).encode())
            os._exit(0)
        os.waitpid(child, 0)
        os.close(writer)
        answer = os.read(reader, 1000).decode()
        os.close(reader)
        assert f"pool 'web' belongs to process {os.getpid()}" in answer
        assert set(waiting()) == full
        taken = pool.take(timeout=PATIENCE)
        assert taken.id in full
        taken.delete(force=True)


def test_a_pod_whose_take_is_cancelled_is_deleted(config: vc.PodConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    claimed, go = threading.Event(), threading.Event()
    unmark = pools.unmark

    def held(roots: Roots, pod_id: str) -> None:
        unmark(roots, pod_id)
        claimed.set()
        assert go.wait(PATIENCE)

    async def main() -> None:
        async with aio.PodPool(config, size=1) as pool:
            taking = asyncio.create_task(pool.take())
            await asyncio.to_thread(claimed.wait, PATIENCE)
            taking.cancel()
            go.set()
            with pytest.raises(asyncio.CancelledError):
                await taking

    monkeypatch.setattr(pools, "unmark", held)
    asyncio.run(main())
    assert claimed.is_set()
    assert vc.list_pods() == []


def test_a_pod_that_started_and_cannot_be_watched_is_not_left(
    config: vc.PodConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(pool_module, "vm_identity", fail)
    with vc.PodPool(config, size=1) as pool, pytest.raises(vc.StorageError, match="Too many open files"):
        pool.take(timeout=PATIENCE)
    assert vc.list_pods() == []


def test_a_pool_fills_without_threads_when_the_host_allows_no_more(
    config: vc.PodConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "pool web" and threading.active_count() > before:
            raise RuntimeError("can't start new thread")
        start(thread)

    before = threading.active_count()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with vc.PodPool(config, size=2, name="web") as pool:
        pool.take(timeout=PATIENCE).delete(force=True)
    assert vc.list_pods() == []
