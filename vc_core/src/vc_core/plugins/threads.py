"""Daemon threads that call one function after another: to start a pod takes some sixty calls on threads.

Most of these take less time than to make a thread. One that hangs keeps its thread, and the others get another one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextvars import Context
from queue import Empty, SimpleQueue

#: Seconds for which a thread without a call waits for the next one, before it ends.
_IDLE = 0.02

#: The result of a call, or the exception that it raised.
Outcome = tuple[object, BaseException | None]


def on_thread(function: Callable[[], object]) -> SimpleQueue[Outcome]:
    """Call a function on a thread that no other call uses; return the queue in which its outcome will be."""
    try:
        thread = _idle.pop()
    except IndexError:
        thread = _Thread()
    return thread.call(function)


class _Thread:
    """One such thread."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Callable[[], object], SimpleQueue[Outcome]]] = SimpleQueue()
        threading.Thread(target=self._work, name="a call", daemon=True).start()

    def call(self, function: Callable[[], object]) -> SimpleQueue[Outcome]:
        """Let the thread, which calls nothing, call a function."""
        outcome: SimpleQueue[Outcome] = SimpleQueue()
        self._calls.put((function, outcome))
        return outcome

    def _work(self) -> None:
        while True:
            try:
                function, outcome = self._calls.get(timeout=_IDLE)
            except Empty:
                try:
                    _idle.remove(self)
                except ValueError:  # it was taken just now
                    continue
                return
            found = _outcome(function)
            _idle.append(self)
            outcome.put(found)
            del function, outcome, found  # what they refer to may be released


def _outcome(function: Callable[[], object]) -> Outcome:
    try:
        return Context().run(function), None
    except BaseException as error:
        return None, error


#: The threads that call nothing. Each change of the list is one step of the interpreter, so it needs no lock.
_idle: list[_Thread] = []

os.register_at_fork(after_in_child=_idle.clear)  # a forked process has none of them
