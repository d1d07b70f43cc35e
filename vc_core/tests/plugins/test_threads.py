"""Calls on threads: one after another on the same thread, and none behind one that hangs."""

from __future__ import annotations

import multiprocessing
import threading
import time
from contextvars import ContextVar

import pytest

from vc_core.plugins import threads
from vc_core.plugins.notifications import HookTimeoutError, with_timeout
from vc_core.testing.slowness import scaled

PATIENCE = scaled(10)

variable: ContextVar[str] = ContextVar("variable", default="")


def test_calls_one_after_another_are_made_on_one_thread_each_in_a_context_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "_IDLE", scaled(5))

    def call() -> tuple[int, str]:
        before = variable.get()
        variable.set("changed")
        return threading.get_ident(), before

    try:
        (first, _), (second, seen) = with_timeout(call, PATIENCE), with_timeout(call, PATIENCE)
        assert first == second != threading.get_ident()
        assert seen == ""
    finally:
        monkeypatch.undo()
        with_timeout(lambda: None, PATIENCE)  # after which the thread ends soon


def test_a_call_behind_one_that_hangs_is_made_on_another_thread() -> None:
    go_on = threading.Event()
    with pytest.raises(HookTimeoutError):
        with_timeout(go_on.wait, 0.01)
    try:
        assert with_timeout(lambda: 7, PATIENCE) == 7
    finally:
        go_on.set()


def test_what_a_call_raises_reaches_its_caller() -> None:
    def fail() -> None:
        raise SystemExit("no luck")

    with pytest.raises(SystemExit, match="no luck"):
        with_timeout(fail, PATIENCE)


def test_calls_within_calls_end() -> None:
    assert with_timeout(lambda: with_timeout(lambda: with_timeout(lambda: 1, PATIENCE), PATIENCE), PATIENCE) == 1


def test_a_thread_without_calls_ends() -> None:
    with_timeout(lambda: None, PATIENCE)
    end = time.monotonic() + PATIENCE
    while threads._idle:
        assert time.monotonic() < end
        threading.Event().wait(0.01)


def test_a_forked_process_makes_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_IDLE", scaled(5))
    try:
        with_timeout(lambda: None, PATIENCE)
        child = multiprocessing.get_context("fork").Process(target=with_timeout, args=(lambda: None, PATIENCE))
        child.start()
        child.join(PATIENCE * 2)
        assert child.exitcode == 0
    finally:
        monkeypatch.undo()
        with_timeout(lambda: None, PATIENCE)  # after which the thread ends soon
