"""The two small interpreters of operations: one blocking, one async.

Every operation of this library is written once, as a generator that yields the few steps that differ: waiting for
descriptors (:class:`Ready`) and calling a function that may block (:class:`InThread`). Cancelling an async call, and an
exception such as KeyboardInterrupt in a blocking one, is thrown into the generator where it waits; what the
generator yields after that, to clean up, is still performed.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from vc_core.errors import VCError, refused
from vc_core.frozen import frozen

_T = TypeVar("_T")


@contextmanager
def system_errors() -> Iterator[None]:
    """Raise a StorageError in the place of an OSError that is no error of this project.

    Callers of the API have to expect errors of this project only. Not used around functions that they gave: what those
    raise reaches them unchanged.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, VCError):
            raise
        raise refused(error) from error


class _OfTheCaller(Exception):
    """Carries an OSError that a function of the caller has raised through an operation."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


@contextmanager
def of_the_caller() -> Iterator[None]:
    """Let an OSError that a function of the caller raises within an operation reach the caller unchanged."""
    try:
        yield
    except OSError as error:
        raise _OfTheCaller(error) from error


@frozen
class Ready:
    """Wait until one of the descriptors can be read or written, or ``deadline`` (of time.monotonic) is reached.

    The answer is the set of descriptors that are ready, empty at the deadline.
    """

    read: Collection[int] = ()
    write: Collection[int] = ()
    deadline: float | None = None


@frozen
class InThread:
    """Call a function that may block for a moment; the answer is its result.

    An error of the system that the function does not expect becomes a StorageError: no caller of the API gets another.
    """

    function: Callable[[], Any]

    def call(self) -> Any:
        """Call the function and return its result. Raises VCError, and what is a fault of the function."""
        with system_errors():
            return self.function()


Step = Ready | InThread

#: An operation: yields steps, is sent their answers, returns its result.
Operation = Generator[Step, Any, _T]


def _advance(operation: Operation[Any], answer: Any, error: BaseException | None) -> Step:
    """Perform an operation up to its next step, and return that.

    An error of the system that the operation does not expect, such as that no descriptor is left, becomes a
    StorageError; but that the process at the other end of a pipe reads no more is an answer, which writers expect.
    """
    try:
        return operation.send(answer) if error is None else operation.throw(error)
    except _OfTheCaller as carried:
        raise carried.error from None
    except BrokenPipeError:
        raise
    except OSError as failure:
        if isinstance(failure, VCError):
            raise
        raise refused(failure) from failure


def run_blocking(operation: Operation[_T]) -> _T:
    """Perform an operation in this thread and return its result. Raises what the operation raises."""
    answer: Any = None
    error: BaseException | None = None
    while True:
        try:
            step = _advance(operation, answer, error)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return] # typeshed: StopIteration.value is Any
        answer = error = None
        try:
            answer = _wait(step) if isinstance(step, Ready) else step.call()
        except BaseException as caught:
            error = caught


def _wait(step: Ready) -> set[int]:
    poll = select.poll()
    for fd in step.read:
        poll.register(fd, select.POLLIN)
    for fd in step.write:
        poll.register(fd, select.POLLOUT)
    timeout = None if step.deadline is None else max(0.0, step.deadline - time.monotonic()) * 1000
    return {fd for fd, _ in poll.poll(timeout)}


async def run_async(operation: Operation[_T]) -> _T:
    """Perform an operation on the running event loop and return its result. Raises what the operation raises."""
    answer: Any = None
    error: BaseException | None = None
    while True:
        try:
            step = _advance(operation, answer, error)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return] # typeshed: StopIteration.value is Any
        answer = error = None
        try:
            if isinstance(step, Ready):
                answer = await _wait_async(step)
            else:
                answer = await _in_thread(step.call)
        except BaseException as caught:
            error = caught


async def _in_thread(function: Callable[[], Any]) -> Any:
    """Call a function in a thread; when cancelled, wait for it first, for a thread cannot be stopped half way."""
    import asyncio

    call = asyncio.ensure_future(asyncio.to_thread(function))
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait({call})
        raise


async def _wait_async(step: Ready) -> set[int]:
    import asyncio

    loop = asyncio.get_running_loop()
    ready: set[int] = set()
    first: asyncio.Future[None] = loop.create_future()

    def note(fd: int) -> None:
        ready.add(fd)
        if not first.done():
            first.set_result(None)

    for fd in step.read:
        loop.add_reader(fd, note, fd)
    for fd in step.write:
        loop.add_writer(fd, note, fd)
    timeout = None if step.deadline is None else max(0.0, step.deadline - time.monotonic())
    try:
        # Not wait_for: up to Python 3.11 it loses a cancellation that comes at the moment when the future is done.
        async with asyncio.timeout(timeout):
            await first
    except TimeoutError:
        pass
    finally:
        for fd in step.read:
            loop.remove_reader(fd)
        for fd in step.write:
            loop.remove_writer(fd)
    return ready
