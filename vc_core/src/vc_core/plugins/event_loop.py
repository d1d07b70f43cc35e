"""Runs an event loop that executes the code of plug-ins, so that no plug-in can keep its process from ending.

A plug-in may block the loop (a method that never returns), ignore its cancellation, or hang in a thread. A watchdog
finds the first by the missing answer of the loop; the others are left behind when the loop ends.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from vc_core.driver.kinds import PluginKind
from vc_core.errors import DriverContractError
from vc_core.plugins.discovery import Catalogue, supplier

#: Seconds that a plug-in may block an event loop: longer than one exchange with a VM or guest, shorter than clients
#: wait for an answer.
BLOCK_TIMEOUT = 12.0

#: Seconds for that when the caller has interrupted the operation.
HURRIED_TIMEOUT = 2.0

#: Seconds between two questions to the loop, and the steps in which an answer is awaited. While a whole process is
#: stopped (SIGSTOP, a host that sleeps) its clock runs on: then no more than one step seems to have passed.
_INTERVAL, _STEP = 3.0, 0.25

#: Seconds for all tasks to end after they were cancelled because the loop ends.
_END_TIMEOUT = 2.0

_T = TypeVar("_T")

#: Called with the error that names the plug-in, on the watchdog's thread while the loop is blocked.
OnBlocked = Callable[[DriverContractError], None]


def run(main: Coroutine[Any, Any, _T], watchdog: Watchdog, loop: asyncio.AbstractEventLoop | None = None) -> _T:
    """Run ``main`` on a new event loop in this thread and return its result; like asyncio.run, but the end has a limit.

    ``watchdog`` watches the loop meanwhile. Tasks and threads that do not end are left behind. ``loop``: the event
    loop, if tasks of it exist already. Raises what ``main`` raises.
    """
    loop = loop or asyncio.new_event_loop()
    loop.set_default_executor(DaemonThreads())
    with watchdog.watching(loop):
        try:
            return loop.run_until_complete(main)
        finally:
            if left := asyncio.all_tasks(loop):
                for task in left:
                    task.cancel()
                loop.run_until_complete(asyncio.wait(left, timeout=_END_TIMEOUT))
            loop.close()


class DaemonThreads(ThreadPoolExecutor):
    """An executor with a daemon thread for each call, so that a call which hangs does not keep the process alive.

    The threads of the base class, which asyncio asks for, are waited for when the loop and the process end.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call a function on a new thread; return the future of its result."""
        future: Future[Any] = Future()

        def call() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(fn(*args, **kwargs))
                except BaseException as error:
                    future.set_exception(error)

        threading.Thread(target=call, name="work of an event loop", daemon=True).start()
        return future


class Watchdog:
    """Watches one event loop from a thread of its own, and calls ``on_blocked`` once when a plug-in blocks it."""

    def __init__(self, on_blocked: OnBlocked, timeout: float | None = None) -> None:
        """``on_blocked`` ends the process, or what waits for the loop: nothing else can go on.

        ``timeout``: seconds that the loop may be blocked, by default ``BLOCK_TIMEOUT``.
        """
        self._on_blocked = on_blocked
        self._timeout = BLOCK_TIMEOUT if timeout is None else timeout
        self._lock = threading.Lock()
        self._hurried, self._ended = threading.Event(), threading.Event()

    @contextmanager
    def watching(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """Watch ``loop``, which runs in this thread, during the block."""
        thread = threading.get_ident()
        threading.Thread(target=self._watch, args=(loop, thread), name="watchdog", daemon=True).start()
        try:
            yield
        finally:
            with self._lock:
                self._ended.set()
            self._hurried.set()

    def hurry(self) -> None:
        """Wait only ``HURRIED_TIMEOUT`` seconds for the loop from now on.

        Called when nobody waits for the work of the loop any more, only for its end.
        """
        self._timeout = min(self._timeout, HURRIED_TIMEOUT)
        self._hurried.set()

    def _watch(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        while not self._ended.wait(_STEP if self._hurried.wait(_INTERVAL) else 0):
            if self._is_answered(loop):
                continue
            frames = [frame for frame, _ in traceback.walk_stack(sys._current_frames().get(thread))]
            error = _blame(frames, self._timeout)
            if error is None:  # such as a slow disk: not for a plug-in to repair
                continue
            with self._lock:  # not after the loop has ended
                if not self._ended.is_set():
                    self._on_blocked(error)
            return

    def _is_answered(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Return whether the loop runs a callback in time, or has ended."""
        answered = threading.Event()
        try:
            loop.call_soon_threadsafe(answered.set)
        except RuntimeError:  # it is closed
            return True
        steps = 0
        while steps * _STEP < self._timeout:
            if answered.wait(_STEP) or self._ended.is_set():
                return True
            steps += 1
        return False


def _blame(frames: list[FrameType], seconds: float) -> DriverContractError | None:
    """Return the error that names the plug-in whose code is being executed, None if that is not one's.

    ``frames``: of the thread, the innermost first.
    """
    catalogue = Catalogue()
    offers = {entry.module.partition(".")[0]: (kind, entry) for kind in PluginKind for entry in catalogue.offers(kind)}
    for frame in frames:
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if package in offers:
            kind, entry = offers[package]
            distribution, version = supplier(entry)
            code = frame.f_code
            return DriverContractError(
                f"{kind.noun} {entry.name!r} of {distribution} {version} blocks the event loop: {code.co_qualname} "
                f"({code.co_filename}, line {frame.f_lineno}) has not returned for {seconds:g} s",
                kind=kind,
                name=entry.name,
            )
    return None
