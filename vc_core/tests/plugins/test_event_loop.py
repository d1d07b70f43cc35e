"""An event loop ends although a plug-in hangs in it, and what blocks it is found and named."""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType
from typing import Any

import pytest

import distributions
from vc_core.driver.kinds import PluginKind
from vc_core.errors import DriverContractError
from vc_core.plugins import event_loop, running_call
from vc_core.plugins.event_loop import Watchdog
from vc_core.plugins.loaded import LoadedPlugin
from waiting import PATIENCE

BLOCKER = """
    import threading

    END = threading.Event()

    class Plugin:
        async def stop(self):
            END.wait()
"""


@pytest.fixture
def blocker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """An installed driver whose method blocks until the test ends."""
    monkeypatch.setattr(event_loop, "_INTERVAL", 0.01)
    monkeypatch.setattr(event_loop, "_STEP", 0.02)
    distributions.install(tmp_path, "blocker", "hypervisors", "blocker", BLOCKER)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("stranger_blocker")
    yield module
    module.END.set()
    del sys.modules["stranger_blocker"]


def never(error: DriverContractError) -> None:
    raise AssertionError(f"not blocked: {error}")


def begin(work: Coroutine[Any, Any, Any], watchdog: Watchdog) -> threading.Thread:
    thread = threading.Thread(target=lambda: event_loop.run(work, watchdog), daemon=True)
    thread.start()
    return thread


def test_a_plug_in_that_blocks_the_loop_is_named_with_the_place(blocker: ModuleType) -> None:
    found: SimpleQueue[DriverContractError] = SimpleQueue()
    thread = begin(blocker.Plugin().stop(), Watchdog(found.put, 0.1))
    error = found.get(timeout=PATIENCE)
    assert str(error).startswith(
        "hypervisor driver 'blocker' of stranger-blocker 7.8 blocks the event loop: Plugin.stop ("
    )
    assert "stranger_blocker.py, line 8) has not returned for 0.1 s" in str(error)
    assert (error.kind, error.name) == ("hypervisor", "blocker")
    blocker.END.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert found.empty()


def test_of_two_plug_ins_of_a_package_the_one_that_is_executed_is_named(blocker: ModuleType, tmp_path: Path) -> None:
    (entry_points,) = tmp_path.glob("*/entry_points.txt")
    entry_points.write_text(
        entry_points.read_text(encoding="utf-8") + "another = stranger_blocker:Plugin\n", encoding="utf-8"
    )
    found: SimpleQueue[DriverContractError] = SimpleQueue()

    async def execute(name: str) -> None:
        plugin = LoadedPlugin(PluginKind.HYPERVISOR, name, "stranger-blocker", "7.8", object())
        with running_call.Executing(plugin.call("stop")):
            await blocker.Plugin().stop()

    for name in ("blocker", "another"):
        blocker.END.clear()
        thread = begin(execute(name), Watchdog(found.put, 0.1))
        error = found.get(timeout=PATIENCE)
        blocker.END.set()
        thread.join(PATIENCE)
        assert str(error).startswith(
            f"hypervisor driver {name!r} of stranger-blocker 7.8 blocks the event loop in stop: Plugin.stop ("
        )
        assert (error.kind, error.name) == ("hypervisor", name)

    blocker.END.clear()
    thread = begin(blocker.Plugin().stop(), Watchdog(found.put, 0.1))  # a task of one of them: nothing is recorded
    error = found.get(timeout=PATIENCE)
    blocker.END.set()
    thread.join(PATIENCE)
    both = "hypervisor driver 'another' or hypervisor driver 'blocker' of stranger-blocker 7.8 blocks the event loop: "
    assert str(error).startswith(both)
    assert error.name is None


@pytest.mark.slow
def test_a_caller_that_leaves_need_not_wait_for_a_plug_in_that_blocks(blocker: ModuleType) -> None:
    found: SimpleQueue[DriverContractError] = SimpleQueue()
    watchdog = Watchdog(found.put, 1000.0)
    begin(blocker.Plugin().stop(), watchdog)
    watchdog.hurry()
    assert "Plugin.stop" in str(found.get(timeout=PATIENCE))


@pytest.mark.slow
def test_a_loop_that_no_plug_in_blocks_goes_on(blocker: ModuleType) -> None:
    end, blocked = threading.Event(), threading.Event()

    async def block() -> str:
        blocked.set()
        end.wait()
        return "went on"

    outcome: list[str] = []
    watchdog = Watchdog(never, 0.02)
    thread = threading.Thread(target=lambda: outcome.append(event_loop.run(block(), watchdog)), daemon=True)
    thread.start()
    assert blocked.wait(PATIENCE)
    assert not end.wait(0.3)  # several times what the watchdog allows to a plug-in
    end.set()
    thread.join(PATIENCE)
    assert outcome == ["went on"]


def test_a_thread_that_hangs_is_left_behind() -> None:
    end = threading.Event()

    async def main() -> str:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.to_thread(end.wait)
        return await asyncio.to_thread(lambda: "another thread works")

    assert event_loop.run(main(), Watchdog(never)) == "another thread works"
    left = [thread for thread in threading.enumerate() if thread.name == "a call"]
    end.set()
    assert left
    assert all(thread.daemon for thread in left)
    for thread in left:
        thread.join(PATIENCE)


def test_a_task_that_ignores_its_cancellation_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_loop, "_END_TIMEOUT", 0.05)
    cancelled = 0

    async def ignore() -> None:
        nonlocal cancelled
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled += 1

    async def main() -> asyncio.Task[None]:
        task = asyncio.create_task(ignore())
        await asyncio.sleep(0)
        return task

    task = event_loop.run(main(), Watchdog(never))
    assert cancelled == 1
    assert not task.done()
    task.get_coro().close()


@pytest.mark.slow
def test_the_result_and_the_exception_of_the_work_pass() -> None:
    async def fail() -> None:
        raise LookupError("gone")

    async def work() -> int:
        return await asyncio.to_thread(lambda: 7)

    assert event_loop.run(work(), Watchdog(never)) == 7
    with pytest.raises(LookupError, match="gone"):
        event_loop.run(fail(), Watchdog(never))
