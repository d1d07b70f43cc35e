"""Runs the code of plug-ins on threads of its own: calls with a timeout, and a queue of notifications."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from queue import Empty
from typing import TypeVar, cast

from vc_core.plugins.threads import on_thread

#: Notifications that a queue holds at most while an extension is slow, but not slow enough to be disabled.
_PENDING_MAX = 1000

_log = logging.getLogger(__name__)

_T = TypeVar("_T")


class HookTimeoutError(Exception):
    """A plug-in's code did not return within its timeout. Never leaves ``vc_core.plugins``."""


def with_timeout(function: Callable[[], _T], timeout: float) -> _T:
    """Return the result of ``function``, called on another thread while the calling thread blocks.

    Called to import a plug-in and to call its hooks. ``timeout``: seconds. Raises what ``function``
    raises, and HookTimeoutError when the timeout expires: the call then goes on in its daemon thread, which does not
    keep the process from ending.
    """
    try:
        result, error = on_thread(function).get(timeout=timeout)
    except Empty:
        raise HookTimeoutError from None
    try:
        if error is not None:
            raise error
    finally:
        del error  # its traceback refers to this frame
    return cast(_T, result)


#: Calls the hook of a name, with arguments, of every extension.
Deliver = Callable[[str, Mapping[str, object]], None]


class Notifications:
    """An ordered queue of notifications and the thread that delivers them.

    :meth:`put` and :meth:`drain` may be called from any thread. Notifications are delivered on one daemon thread, which
    :meth:`put` starts when the queue was empty and which ends when the queue is empty again.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Be empty. Called in a process that was forked: the thread that delivers is in its parent."""
        self._changed = threading.Condition()
        self._pending: deque[tuple[Deliver, str, Mapping[str, object]]] = deque()
        self._delivering = False

    def put(self, deliver: Deliver, hook: str, arguments: Mapping[str, object]) -> None:
        """Queue a call of a hook and return at once; if the queue is full, log the notification and drop it."""
        with self._changed:
            if len(self._pending) == _PENDING_MAX:
                _log.error("the extensions are too slow: %s with %s is not delivered", hook, arguments)
                return
            self._pending.append((deliver, hook, arguments))
            if not self._delivering:
                self._delivering = True
                threading.Thread(target=self._run, name="notifications", daemon=True).start()

    def drain(self, timeout: float) -> None:
        """Block until all notifications are delivered, for ``timeout`` seconds at most; log the number of the rest."""
        with self._changed:
            if not self._changed.wait_for(lambda: not self._delivering, timeout):
                _log.error("%d notifications of extensions are not delivered after %g s", len(self._pending), timeout)

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._pending:
                    self._delivering = False
                    self._changed.notify_all()
                    return
                deliver, hook, arguments = self._pending.popleft()
            try:
                deliver(hook, arguments)
            except Exception:
                _log.exception("%s cannot be delivered", hook)


#: That of this process: so what several operations notify of is delivered in their order, and no operation waits.
QUEUE = Notifications()
os.register_at_fork(after_in_child=QUEUE.reset)
