"""Runs a coroutine that drivers take part in, and that acts on no pod, for either interpreter."""

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from vc_core.client.interpreters import InThread, Operation, Ready, of_the_caller, system_errors
from vc_core.driver.guest import Progress
from vc_core.plugins import event_loop

_T = TypeVar("_T")


def run_coroutine(work: Callable[[Progress], Coroutine[Any, Any, _T]], progress: Progress | None) -> Operation[_T]:
    """Run a coroutine in a thread with an event loop of its own and return its result; cancelled as the operation is.

    The coroutine is given a function that has ``progress`` called in the caller's thread.
    """
    steps: deque[tuple[str, float | None]] = deque()
    with system_errors():
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)  # a byte for each step; its end, at the end

    def note(phrase: str, fraction: float | None) -> None:
        steps.append((phrase, fraction))
        with suppress(BlockingIOError, BrokenPipeError):  # then there are bytes enough to wake the reader, or it left
            os.write(writer, b"\0")

    loop = event_loop.EventLoop()
    task = loop.create_task(work(note))
    ended = threading.Event()
    # Building may take any time; only a caller that is interrupted does not wait for a builder that blocks.
    watchdog = event_loop.Watchdog(lambda error: ended.set(), math.inf)

    def run() -> None:
        try:
            event_loop.run(_settled(task), watchdog, loop)
        finally:
            os.close(writer)
            ended.set()

    def wait_ended() -> None:
        watchdog.hurry()
        ended.wait()

    threading.Thread(target=run, name="work", daemon=True).start()
    try:
        data = b"\0"
        while data:
            yield Ready(read=[reader])
            data = os.read(reader, 4096)
            while steps:
                step = steps.popleft()
                if progress is not None:
                    with of_the_caller():
                        progress(*step)
    except BaseException:
        with suppress(RuntimeError):  # the loop is closed: it has ended
            loop.call_soon_threadsafe(task.cancel)
        raise
    finally:
        yield InThread(wait_ended)
        os.close(reader)
    return task.result()


async def _settled(task: asyncio.Future[Any]) -> None:
    """Wait until a task is done, however it ends."""
    await asyncio.wait({task})
