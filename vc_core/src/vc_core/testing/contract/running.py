"""Runs a driver's async methods for the contract's tests: with a timeout, or in a process that is then killed."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import pytest

from vc_core.testing.slowness import scaled

#: Timeout in seconds of an operation that takes less than one, long enough for a busy host.
TIMEOUT = scaled(60.0)

_T = TypeVar("_T")
Main = Callable[[], Coroutine[Any, Any, Mapping[str, object]]]


def promise(kept: object, broken: str) -> None:
    """Fail the test with the sentence ``broken``, alone on its line, unless a promise was kept."""
    if not kept:
        pytest.fail(broken, pytrace=False)


@contextmanager
def unwritten_methods_fail() -> Iterator[None]:
    """Turn NotImplementedError, which a generated method raises until it is written, into a failure of one line."""
    try:
        yield
    except NotImplementedError as error:
        pytest.fail(f"still to be written: {error}", pytrace=False)


def run(main: Coroutine[Any, Any, _T], timeout: float = TIMEOUT) -> _T:
    """Run a test's coroutine to its end, for ``timeout`` seconds at most."""

    async def limited() -> _T:
        async with asyncio.timeout(timeout):
            return await main

    with unwritten_methods_fail():
        return asyncio.run(limited())


def run_elsewhere(main: Main) -> Any:
    """Run a coroutine in another process, kill that process, and return the result, which is sent as JSON.

    The process receives SIGKILL as soon as it has sent the result, so it closes and saves nothing.
    """
    context = multiprocessing.get_context("fork")  # the only method that can run a local function
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(main, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        answer = ours.recv() if ours.poll(TIMEOUT) else {"error": f"no result within {TIMEOUT:g} s"}
    except EOFError:
        answer = {"error": "the process ended"}
    finally:
        process.kill()
        process.join()
        process.close()
        ours.close()
    if "missing" in answer:
        with unwritten_methods_fail():
            raise NotImplementedError(answer["missing"])
    assert "error" not in answer, f"in another process: {answer['error']}"
    return json.loads(answer["result"])


def _answer(main: Main, connection: Connection) -> None:
    async def answer() -> None:
        try:
            connection.send({"result": json.dumps(dict(await main()))})
        except NotImplementedError as error:
            connection.send({"missing": str(error)})
        except Exception as error:
            connection.send({"error": repr(error)})
        await asyncio.Event().wait()  # until SIGKILL

    asyncio.run(answer())
