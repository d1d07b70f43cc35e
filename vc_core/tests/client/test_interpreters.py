"""An operation behaves the same under both interpreters."""

from __future__ import annotations

import asyncio
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from vc_core.client.interpreters import InThread, Operation, Ready, of_the_caller, run_async, run_blocking
from vc_core.errors import BusyError, StorageError
from vc_core.testing.slowness import scaled

Run = Callable[[Operation[Any]], Any]


@pytest.fixture(params=["blocking", "async"])
def run(request: pytest.FixtureRequest) -> Run:
    return run_blocking if request.param == "blocking" else lambda operation: asyncio.run(run_async(operation))


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def test_the_result_is_what_the_generator_returns(run: Run) -> None:
    def operation() -> Operation[int]:
        number: int = yield InThread(lambda: 41)
        return number + 1

    assert run(operation()) == 42


def test_an_error_of_the_system_is_one_of_this_project(run: Run) -> None:
    def operation() -> Operation[None]:
        yield InThread(lambda: os.open("/nowhere", os.O_RDONLY))

    with pytest.raises(StorageError, match=r"the system refused an operation: .*No such file or directory: '/nowhere'"):
        run(operation())


def test_no_descriptor_left_in_an_operation_is_an_error_of_this_project(run: Run) -> None:
    def operation() -> Operation[None]:
        yield InThread(lambda: None)
        ends = [*os.pipe(), *os.pipe()]
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(ends), hard))
        try:
            os.pipe()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for end in ends:
                os.close(end)

    with pytest.raises(StorageError, match=r"the system refused an operation: .*Too many open files"):
        run(operation())


def test_an_error_of_the_system_in_a_function_of_the_caller_and_a_broken_pipe_stay_what_they_are(run: Run) -> None:
    def operation(error: OSError) -> Operation[None]:
        yield InThread(lambda: None)
        with of_the_caller():
            raise error

    def write() -> Operation[None]:
        yield InThread(lambda: None)
        raise BrokenPipeError

    for error in (FileNotFoundError("of the caller"), TimeoutError("too")):
        with pytest.raises(type(error), match=str(error)) as caught:
            run(operation(error))
        assert caught.value is error
    with pytest.raises(BrokenPipeError):
        run(write())


def test_an_error_of_this_project_that_is_also_one_of_the_system_stays_what_it_is(run: Run) -> None:
    def refuse() -> None:
        raise BusyError("busy")

    def operation() -> Operation[None]:
        yield InThread(refuse)

    with pytest.raises(BusyError, match=r"^busy$"):
        run(operation())


def test_a_descriptor_that_becomes_readable_ends_the_wait(run: Run, pipe: tuple[int, int]) -> None:
    reader, writer = pipe

    def operation() -> Operation[set[int]]:
        threading.Timer(0.05, os.write, (writer, b"x")).start()
        ready: set[int] = yield Ready(read=[reader], deadline=time.monotonic() + 10)
        return ready

    assert run(operation()) == {reader}


def test_the_deadline_answers_with_nothing(run: Run, pipe: tuple[int, int]) -> None:
    def operation() -> Operation[set[int]]:
        ready: set[int] = yield Ready(read=[pipe[0]], deadline=time.monotonic() + 0.05)
        return ready

    assert run(operation()) == set()


def test_an_error_of_a_function_is_raised_in_the_generator(run: Run) -> None:
    def operation() -> Operation[str]:
        try:
            yield InThread(lambda: 1 / 0)
        except ZeroDivisionError:
            return "caught"
        raise AssertionError("not raised")

    assert run(operation()) == "caught"


def test_what_the_generator_yields_while_it_cleans_up_is_performed(run: Run) -> None:
    done: list[str] = []

    def operation() -> Operation[None]:
        try:
            yield InThread(lambda: 1 / 0)
        finally:
            yield InThread(lambda: done.append("cleaned"))

    with pytest.raises(ZeroDivisionError):
        run(operation())
    assert done == ["cleaned"]


def test_cancelling_an_async_operation_cleans_up_and_stays_cancelled(pipe: tuple[int, int]) -> None:
    done: list[str] = []

    def operation() -> Operation[None]:
        try:
            yield Ready(read=[pipe[0]])
        finally:
            yield InThread(lambda: done.append("cleaned"))

    async def main() -> None:
        task = asyncio.ensure_future(run_async(operation()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert done == ["cleaned"]


@pytest.mark.parametrize("iterations", range(6))
def test_a_cancellation_at_the_moment_when_a_wait_ends_is_not_lost(iterations: int, pipe: tuple[int, int]) -> None:
    reader, writer = pipe

    def operation() -> Operation[None]:
        yield Ready(read=[reader], deadline=time.monotonic() + 60)
        yield Ready()  # for ever

    async def main() -> None:
        running = asyncio.ensure_future(run_async(operation()))
        await asyncio.sleep(0)
        os.write(writer, b"x")
        for _ in range(iterations):
            await asyncio.sleep(0)
        running.cancel()
        done, _ = await asyncio.wait({running}, timeout=scaled(5))
        running.cancel()
        assert running in done

    asyncio.run(main())
