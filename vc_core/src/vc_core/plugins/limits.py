"""How long the async methods of a driver's object may take, and what ends one that takes longer.

An async method is cancelled when its time is over. If it ignores that, its task is left behind and the caller goes on.
A method that blocks its thread instead is found by the watchdog (in ``event_loop``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any, TypeVar, cast

#: Seconds beyond the ``timeout`` argument of a method in which it can raise its own error and clean up.
MARGIN = 5.0

#: Seconds for a method without ``timeout`` argument; each is one exchange with the VM or the guest.
DEFAULT_TIMEOUT = 10.0

#: Seconds in which a method that is cancelled must end.
CANCEL_TIMEOUT = 5.0

#: Methods that wait for an event, or may take any time while they report progress.
UNLIMITED = frozenset({"wait", "wait_lost", "build"})

_T = TypeVar("_T")

_log = logging.getLogger(__name__)

#: Tasks that ignored their cancellation; the event loop itself refers to them weakly.
_left_behind: set[asyncio.Future[Any]] = set()


class OverrunError(Exception):
    """An async method did not return in time. Never leaves ``vc_core.plugins``.

    ``clause``: what it did, for a sentence whose subject is the plug-in.
    """

    def __init__(self, clause: str) -> None:
        super().__init__(clause)
        self.clause = clause


def limit(method: str, timeout: object) -> float | None:
    """Return the seconds after which the core ends a call of ``method``, None for any time.

    ``timeout``: its argument of that name, None if it has none.
    """
    if method in UNLIMITED:
        return None
    return MARGIN + (float(timeout) if isinstance(timeout, int | float) else DEFAULT_TIMEOUT)


async def limited(work: Awaitable[_T], seconds: float | None, what: str) -> _T:
    """Return the result of ``work``, the call of the async method ``what`` of a driver's object.

    ``seconds``: from now on; None for any time. It is cancelled then, and when the caller is. Raises what ``work``
    raises, and OverrunError.
    """
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()
    task = loop.create_task(_outcome(work, over))
    timer = None if seconds is None else loop.call_later(seconds, _wake, over)
    try:
        await over
    except asyncio.CancelledError:
        await _cancelled(task, what)
        raise
    finally:
        if timer is not None:
            timer.cancel()
    if task.done():
        result, error = task.result()
        if error is not None:
            raise error
        return cast(_T, result)
    ended = await _cancelled(task, what)
    how = "it was cancelled" if ended else "it ignored its cancellation and was left behind"
    assert seconds is not None
    shown = round(seconds, 1 if seconds >= 1 else 2)  # what is left until a deadline has many digits
    raise OverrunError(f"did not return from {what} within {shown:g} s; {how}")


async def _outcome(work: Awaitable[_T], over: asyncio.Future[None]) -> tuple[_T | None, BaseException | None]:
    """Return the result of ``work``, or its exception: SystemExit of a task would end the event loop.

    ``over`` gets a result at the end: its waiter goes on one turn of the loop earlier than one of the task.
    """
    try:
        return await work, None
    except (asyncio.CancelledError, GeneratorExit):
        raise
    except BaseException as error:
        return None, error
    finally:
        _wake(over)


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


async def _cancelled(task: asyncio.Future[Any], what: str) -> bool:
    """Cancel a task; return whether it ended within the time for that."""
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=CANCEL_TIMEOUT)
    if done:
        _forget(task)
        return True
    _log.warning("%s was cancelled, and has not ended after %g s", what, CANCEL_TIMEOUT)
    _left_behind.add(task)
    task.add_done_callback(_forget)
    return False


def _forget(task: asyncio.Future[Any]) -> None:
    """Take a task's exception, so that it is not logged as one that nobody looked at."""
    _left_behind.discard(task)
    if not task.cancelled():
        task.exception()
