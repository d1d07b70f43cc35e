"""The operations of the API that act on built guests; each written once, for both interpreters."""

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from vc_core.client.interpreters import InThread, Operation, Ready
from vc_core.driver.guest import BuiltGuest, GuestBuilder, GuestImage, Progress
from vc_core.engine import guest_image
from vc_core.plugins import event_loop
from vc_core.plugins.registry import Plugins
from vc_core.store.roots import Roots, guest_cache

_T = TypeVar("_T")


def build_guest(
    agent_type: str,
    agent_config: Mapping[str, object],
    guest: str,
    guest_options: Mapping[str, object],
    progress: Progress | None = None,
) -> Operation[GuestImage]:
    """Build the guest for an agent afresh and return it. ``progress`` is called in the caller's thread.

    Raises ConfigError, DriverError, GuestError.
    """

    async def build(note: Progress) -> GuestImage:
        plugins = Plugins()
        request = guest_image.guest_request(plugins, agent_type, dict(agent_config), Roots.from_environment().cache)
        return await guest_image.builder(plugins, guest, guest_options).build(request, note)

    return (yield from _run_coroutine(build, progress))


def list_guests(guest: str) -> Operation[list[BuiltGuest]]:
    """Return the guests in the cache that a driver built, newest last. Raises DriverError, NotSupportedError."""

    def work() -> list[BuiltGuest]:
        builder, directory = _builder(guest)
        return sorted(builder.list(directory), key=_built_at)

    found: list[BuiltGuest] = yield InThread(work)
    return found


def delete_guest(key: str, guest: str) -> Operation[None]:
    """Delete a guest that a driver built. Raises GuestError, DriverError, NotSupportedError."""

    def work() -> None:
        builder, directory = _builder(guest)
        builder.remove(directory, key)

    yield InThread(work)


def _builder(guest: str) -> tuple[GuestBuilder, Path]:
    """Return a driver's builder, and the directory of the guests that it built."""
    return guest_image.builder(Plugins(), guest, {}), guest_cache(Roots.from_environment().cache)


def _built_at(guest: BuiltGuest) -> float:
    """Return when a guest was built, in seconds since the epoch; 0 for one that was deleted meanwhile."""
    with suppress(OSError):
        return guest.directory.stat().st_mtime
    return 0.0


def _run_coroutine(work: Callable[[Progress], Coroutine[Any, Any, _T]], progress: Progress | None) -> Operation[_T]:
    """Run a coroutine in a thread with an event loop of its own and return its result; cancelled as the operation is.

    The coroutine is given a function that has ``progress`` called in the caller's thread.
    """
    steps: deque[tuple[str, float | None]] = deque()
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)  # a byte for each step; its end, at the end

    def note(phrase: str, fraction: float | None) -> None:
        steps.append((phrase, fraction))
        with suppress(BlockingIOError, BrokenPipeError):  # then there are bytes enough to wake the reader, or it left
            os.write(writer, b"\0")

    loop = asyncio.new_event_loop()
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

    threading.Thread(target=run, name="guest", daemon=True).start()
    try:
        data = b"\0"
        while data:
            yield Ready(read=[reader])
            data = os.read(reader, 4096)
            while steps:
                step = steps.popleft()
                if progress is not None:
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
