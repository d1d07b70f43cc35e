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
from typing import TYPE_CHECKING, Any, TypeVar

from vc_core.driver.kinds import PluginKind
from vc_core.errors import DriverContractError
from vc_core.plugins import running_call
from vc_core.plugins.quoting import one_line
from vc_core.plugins.running_call import Call
from vc_core.plugins.threads import on_thread

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    _Offers = list[tuple[PluginKind, EntryPoint]]

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

#: Called with a clause that says why, when a plug-in has stopped the loop before the work was done.
OnStopped = Callable[[str], None]


def run(
    main: Coroutine[Any, Any, _T],
    watchdog: Watchdog,
    loop: asyncio.AbstractEventLoop | None = None,
    on_stopped: OnStopped | None = None,
) -> _T:
    """Run ``main`` on a new event loop in this thread and return its result; like asyncio.run, but the end has a limit.

    ``watchdog`` watches the loop meanwhile. Tasks and threads that do not end are left behind. ``loop``: the event
    loop, if tasks of it exist already. Raises what ``main`` raises. A plug-in can stop the loop by ``loop.stop()``, or
    by SystemExit in a task or callback of its own: then ``on_stopped`` is called before the tasks are cancelled, and
    that SystemExit is raised, or RuntimeError.
    """
    try:
        loop = loop or EventLoop()
    except OSError:
        main.close()  # so that no warning is printed
        raise
    loop.set_default_executor(DaemonThreads())
    task = loop.create_task(main)
    with watchdog.watching(loop):
        try:
            return loop.run_until_complete(task)
        except BaseException as error:
            if on_stopped is not None and not task.done():
                on_stopped(_why_stopped(error))
            raise
        finally:
            if left := asyncio.all_tasks(loop):
                for task in left:
                    task.cancel()
                loop.run_until_complete(asyncio.wait(left, timeout=_END_TIMEOUT))
            loop.close()


class EventLoop(asyncio.SelectorEventLoop):
    """An event loop of asyncio of which nothing is printed if it cannot be made, for want of descriptors."""

    _is_made = False

    def __init__(self) -> None:
        super().__init__()
        self._is_made = True

    def is_closed(self) -> bool:
        """Return whether it is closed; asyncio closes one that is not when it is garbage, which one half made is."""
        return not self._is_made or super().is_closed()


class DaemonThreads(ThreadPoolExecutor):
    """An executor on daemon threads, so that a call which hangs does not keep the process alive.

    The threads of the base class, which asyncio asks for, are waited for when the loop and the process end.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call a function on a thread; return the future of its result."""
        future: Future[Any] = Future()

        def call() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(fn(*args, **kwargs))
                except BaseException as error:
                    future.set_exception(error)

        on_thread(call)
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
            running_call.beat()
            if self._is_answered(loop):
                continue
            call = running_call.of_thread(thread)
            frames = [frame for frame, _ in traceback.walk_stack(sys._current_frames().get(thread))]
            error = _blame(call, [(frame, frame.f_lineno) for frame in frames], self._timeout)
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


#: Frames and the lines that they execute, the innermost first.
_Places = list[tuple[FrameType, int]]


def _blame(call: Call | None, places: _Places, seconds: float) -> DriverContractError | None:
    """Return the error that names the plug-in whose code is being executed, None if that is not one's.

    ``call``: what the thread is recorded to execute; nothing is recorded of the tasks and callbacks of a plug-in.
    ``places``: of the thread.
    """
    offers = _offers()
    if call is not None:
        own = {entry.module.partition(".")[0] for kind, entry in offers if (kind, entry.name) == (call.kind, call.name)}
        place = next((_place(*one) for one in places if _package(one[0]) in own), "it")
        message = f"{call.plugin} blocks the event loop in {call.method}: {place} has not returned for {seconds:g} s"
        return DriverContractError(message, kind=call.kind, name=call.name)
    found = _owners(offers, places)
    if found is None:
        return None
    (kind, entry), *others = found[0]
    return DriverContractError(
        f"{_names(found[0])} blocks the event loop: {found[1]} has not returned for {seconds:g} s",
        kind=None if others else kind,
        name=None if others else entry.name,
    )


def _why_stopped(error: BaseException) -> str:
    """Return the clause that says which plug-in stopped an event loop, whose run ended by ``error``."""
    if isinstance(error, Exception):  # asyncio's own
        why = "its event loop was stopped"
    else:
        places = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__)][::-1]
        if found := _owners(_offers(), places):
            return f"{_names(found[0])} raised {one_line(error)} from a task or callback of its own, in {found[1]}"
        why = f"a task or callback raised {one_line(error)}"
    call = running_call.latest()
    return f"{why}; just before, {call}" if call else why


def _offers() -> _Offers:
    from vc_core.plugins.discovery import Catalogue  # which most processes need not load

    catalogue = Catalogue()
    return [(kind, entry) for kind in PluginKind for entry in catalogue.offers(kind)]


def _owners(offers: _Offers, places: _Places) -> tuple[_Offers, str] | None:
    """Return the plug-ins to which the innermost place of any plug-in may belong, and that place.

    They are those of the very module, or else all of its package.
    """
    for frame, line in places:
        package = [one for one in offers if one[1].module.partition(".")[0] == _package(frame)]
        if package:
            module = [one for one in package if one[1].module == frame.f_globals["__name__"]]
            return module or package, _place(frame, line)
    return None


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__")).partition(".")[0]


def _place(frame: FrameType, line: int) -> str:
    return f"{frame.f_code.co_qualname} ({frame.f_code.co_filename}, line {line})"


def _names(plugins: _Offers) -> str:
    """Return the name of a plug-in, or of several of one distribution."""
    from vc_core.plugins.discovery import supplier

    distribution, version = supplier(plugins[0][1])
    names = " or ".join(f"{kind.noun} {entry.name!r}" for kind, entry in plugins)
    return f"{names} of {distribution} {version}"
