"""An async method of a driver that takes too long is cancelled, or left behind if it ignores that."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from vc_core.plugins import limits
from vc_core.plugins.limits import OverrunError, limit, limited
from vc_core.testing.slowness import within

#: Seconds for what would take for ever.
HANG = 30.0


def run(work: Coroutine[Any, Any, Any]) -> Any:
    async def main() -> Any:
        async with asyncio.timeout(HANG):
            return await work

    return asyncio.run(main())


async def hang(cancelled: list[str] | None = None) -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        if cancelled is not None:
            cancelled.append("cleaned up")
        raise


async def ignore_cancellation(end: asyncio.Event) -> None:
    while not end.is_set():
        try:
            await end.wait()
        except asyncio.CancelledError:
            continue


@pytest.mark.parametrize(
    ("method", "timeout", "seconds"),
    [
        ("stop", 7.0, 7.0 + limits.MARGIN),
        ("stop", 0, limits.MARGIN),
        ("pause", None, limits.DEFAULT_TIMEOUT + limits.MARGIN),
        ("wait", None, None),
        ("wait_lost", None, None),
        ("build", None, None),
    ],
)
def test_a_method_may_take_its_timeout_and_a_margin(method: str, timeout: float | None, seconds: float | None) -> None:
    assert limit(method, timeout) == seconds


def test_the_result_and_the_exception_of_a_method_pass() -> None:
    async def result() -> str:
        return "done"

    async def failure() -> None:
        raise LookupError("gone")

    assert run(limited(result(), 1.0, "start")) == "done"
    assert run(limited(result(), None, "wait")) == "done"
    with pytest.raises(LookupError, match="gone"):
        run(limited(failure(), 1.0, "start"))


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_an_exception_that_would_end_the_event_loop_passes_to_the_caller(error: BaseException) -> None:
    async def end() -> None:
        raise error

    async def main() -> str:
        with pytest.raises(type(error)):
            await limited(end(), 1.0, "start")
        return "the loop goes on"

    assert run(main()) == "the loop goes on"


def test_a_limit_is_said_with_one_decimal() -> None:
    with pytest.raises(OverrunError, match=r" within 1 s; it was cancelled$"):
        run(limited(hang([]), 1.0199, "start"))


def test_a_method_that_takes_too_long_is_cancelled() -> None:
    cancelled: list[str] = []
    with pytest.raises(OverrunError) as caught:
        run(limited(hang(cancelled), 0.01, "start"))
    assert cancelled == ["cleaned up"]
    assert caught.value.clause == "did not return from start within 0.01 s; it was cancelled"


def test_a_method_is_cancelled_with_its_caller() -> None:
    cancelled: list[str] = []

    async def main() -> None:
        caller = asyncio.create_task(limited(hang(cancelled), None, "wait"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller

    run(main())
    assert cancelled == ["cleaned up"]


@pytest.mark.parametrize("by", ["limit", "caller"])
def test_a_method_that_ignores_its_cancellation_is_left_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, by: str
) -> None:
    monkeypatch.setattr(limits, "CANCEL_TIMEOUT", 0.01)
    monkeypatch.setattr(limits, "_left_behind", set())

    async def main() -> None:
        end = asyncio.Event()
        caller = asyncio.create_task(limited(ignore_cancellation(end), 0.01 if by == "limit" else None, "stop"))
        if by == "limit":
            with pytest.raises(OverrunError, match="it ignored its cancellation and was left behind"):
                await caller
        else:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            caller.cancel()
            with pytest.raises(asyncio.CancelledError):
                await caller
        end.set()
        (left,) = limits._left_behind
        await asyncio.wait({left})
        await asyncio.sleep(0)
        assert not limits._left_behind

    with within(HANG / 2):
        run(main())
    assert "stop was cancelled, and has not ended after 0.01 s" in caplog.text
