"""Answers clients' requests about one pod; the same in a supervisor and, for pods without one, in the client."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import assert_never

from vc_core.driver.agent import GuestProcessId
from vc_core.driver.terminal import TerminalSize
from vc_core.engine.containers import Attachment
from vc_core.engine.engine import Engine
from vc_core.engine.streams import AttachedIO
from vc_core.errors import SupervisorError, VCError, refused
from vc_core.store.events import OUT_OF_MEMORY
from vc_core.supervisor.client_request import ClientRequest
from vc_core.supervisor.messages import (
    Answer,
    Attach,
    Copy,
    CreateContainer,
    DeleteContainer,
    Exec,
    Failure,
    KillContainer,
    Pause,
    PauseContainer,
    Progress,
    Request,
    Resume,
    ResumeContainer,
    Start,
    StartContainer,
    Started,
    StatsContainer,
    StatsPod,
    Stop,
    StopContainer,
    Streams,
    UpdateContainer,
    WaitContainer,
    WriteConsole,
)

#: Seconds for which a client that said so may send another request.
_NEXT_TIMEOUT = 10.0

_log = logging.getLogger(__name__)


async def serve(engine: Engine, sock: socket.socket, on_busy: Callable[[bool], None] = lambda busy: None) -> None:
    """Serve one connection: one request, its answer, and further ones if the client said so. Takes over the socket.

    ``on_busy`` is called with True when a request is there, and with False when another one may follow its answer.
    """
    client = ClientRequest(sock)
    try:
        await client.greet()
        try:
            request = await client.request()
        except SupervisorError as error:
            return await client.answer(Failure.of(error))
        while request is not None:
            on_busy(True)
            answer = await _answer(engine, client, request)
            await client.answer(answer)
            if isinstance(request, Start) and request.discard and isinstance(answer, Answer):
                await engine.discard()
            if not (isinstance(request, Exec) and request.more and isinstance(answer, Answer)):
                break
            on_busy(False)
            client.release()
            client = ClientRequest(sock)
            request = await _next_request(client)
    except (OSError, VCError) as error:
        _log.info("a client was not served: %s", error)
        await client.answer(Failure.of(error if isinstance(error, VCError) else refused(error)))
    finally:
        client.close()


async def _next_request(client: ClientRequest) -> Request | None:
    """Return another request on a connection, greeted once it is read; None if the client left, or sent none in time.

    Raises SupervisorError for a message that is not one, OSError when the client has gone.
    """
    try:
        async with asyncio.timeout(_NEXT_TIMEOUT):
            request = await client.request()
    except TimeoutError:
        return None
    if request is not None:
        await client.greet()
    return request


async def _answer(engine: Engine, client: ClientRequest, request: Request) -> Answer | Failure:
    """Return the message that answers a request; a client that leaves withdraws it, one that detaches does not."""
    task = asyncio.current_task()
    assert task is not None

    def end() -> None:
        if client.detached:
            client.begin(client.answer(Answer(exit_code=0, detached=True)))
        if not client.detached or isinstance(request, Attach):  # nothing of an attach is left to do
            task.cancel()

    try:
        with client.listening(end):
            return await _perform(engine, client, request)
    except asyncio.CancelledError:
        return Failure.of(SupervisorError("the request was withdrawn"))
    except VCError as error:
        return Failure.of(error)
    except OSError as error:
        return Failure.of(refused(error))
    except Exception as error:
        name = type(request).__name__
        _log.exception("request %s failed", name)
        return Failure.of(SupervisorError(f"request {name} failed unexpectedly: {error!r}"))


async def _perform(engine: Engine, client: ClientRequest, request: Request) -> Answer:
    """Perform a request and return its answer. Raises what the engine raises."""
    match request:
        case Start():
            return await _start(engine, client, request)
        case Exec():
            return await _exec(engine, client, request)
        case Attach():
            return await _attach(engine, client, request)
        case Copy():
            return await _copy(engine, client, request)
        case StartContainer():
            return await _start_container(engine, client, request)
        case WriteConsole(streams=streams):
            io = client.streams(streams)
            try:
                await engine.write_console(io)
            finally:
                io.close()
        # Once begun, these are finished even if the client leaves.
        case Stop(timeout=timeout, force=force, discard=discard):
            engine.discarded = engine.discarded or discard
            await asyncio.shield(engine.stop(timeout, force))
        case Pause():
            await asyncio.shield(engine.pause())
        case Resume():
            await asyncio.shield(engine.resume())
        case StopContainer(container=container_id, timeout=timeout, force=force):
            await asyncio.shield(engine.stop_container(container_id, timeout, force))
        case PauseContainer(container=container_id):
            await asyncio.shield(engine.pause_container(container_id))
        case ResumeContainer(container=container_id):
            await asyncio.shield(engine.resume_container(container_id))
        case UpdateContainer(container=container_id, memory=memory, pids=pids, cpus=cpus):
            await asyncio.shield(engine.update_container(container_id, memory, pids, cpus))
        case DeleteContainer(container=container_id, force=force):
            await asyncio.shield(engine.delete_container(container_id, force))
        case CreateContainer(config=config):
            await engine.create_container(config)
        case KillContainer(container=container_id, signal=signum):
            await engine.signal_container(container_id, signum)
        case StatsContainer(container=container_id):
            return Answer(usage=await engine.stats_container(container_id))
        case StatsPod():
            return Answer(pod_usage=await engine.stats())
        case WaitContainer(container=container_id):
            return Answer(exit_code=await engine.wait_container(container_id))
        case _:
            assert_never(request)
    return Answer()


async def _start(engine: Engine, client: ClientRequest, request: Start) -> Answer:
    def progress(phrase: str, fraction: float | None) -> None:
        client.send_event(Progress(phrase=phrase, fraction=fraction))

    with _attachment(engine, client, request.container, request.streams) as attachment:
        attached = {} if attachment is None else {request.container: attachment}
        await engine.start(progress, attached, request.ready_timeout, request.strict)
    if attachment is not None:
        return await _foreground(engine, client, request.container, attachment)
    client.send_event(_started(engine))
    return Answer()


async def _start_container(engine: Engine, client: ClientRequest, request: StartContainer) -> Answer:
    with _attachment(engine, client, request.container, request.streams) as attachment:
        await engine.start_container(request.container, attachment, client.sources(request.sources))
    if attachment is None:
        return Answer()
    return await _foreground(engine, client, request.container, attachment)


@contextmanager
def _attachment(
    engine: Engine, client: ClientRequest, container_id: str, streams: Streams | None
) -> Iterator[Attachment | None]:
    """Give the streams of a container that starts in the client's foreground; closed again if it does not start."""
    if streams is None:
        yield None
        return
    io = client.streams(streams, engine.open_log(container_id))
    try:
        yield Attachment(io, streams.terminal)
    except BaseException:
        io.close()
        raise


async def _attach(engine: Engine, client: ClientRequest, request: Attach) -> Answer:
    io, container_id, size = client.streams(request.streams), request.container, request.streams.terminal
    taking: asyncio.Future[None] | None = None
    try:
        shared = engine.attach(container_id)
        _forward(engine, client, container_id, io)
        client.send_event(_started(engine))
        if size is not None:
            with suppress(VCError):  # it has no terminal, or has just ended
                await engine.resize_container(container_id, size)
        if shared is not None and io.has_input:
            taking = asyncio.ensure_future(shared.take(io, request.ends_input))
        return await _end(engine, container_id)
    finally:
        if taking is not None:
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)
        io.close()


async def _foreground(engine: Engine, client: ClientRequest, container_id: str, attachment: Attachment) -> Answer:
    """Send the event that the client's container runs; return the answer once it ended."""
    _forward(engine, client, container_id, attachment.io)
    client.send_event(_started(engine))
    answer = await _end(engine, container_id)
    answer.output_failure = attachment.io.output_failure
    return answer


async def _end(engine: Engine, container_id: str) -> Answer:
    """Return the answer once a container ended."""
    code = await engine.wait_container(container_id)
    reason = engine.record.containers[container_id].reason
    return Answer(exit_code=code, out_of_memory=OUT_OF_MEMORY in reason)


def _forward(engine: Engine, client: ClientRequest, container_id: str, io: AttachedIO) -> None:
    """Forward what the client sends to the main process of a container."""

    async def send(signum: int) -> None:
        await engine.signal_container(container_id, signum)

    async def resize(size: TerminalSize) -> None:
        await engine.resize_container(container_id, size)

    async def close_output(errors: bool) -> None:
        await engine.close_container_output(container_id, errors)

    client.forward_signals(io, send, resize, close_output)


async def _exec(engine: Engine, client: ClientRequest, request: Exec) -> Answer:
    io, on_started = _streams(engine, client, request.streams)
    try:
        code = await engine.exec(request.container, request.cmd, io, request.streams.terminal, on_started)
    finally:
        io.close()
    return Answer(exit_code=code, output_failure=io.output_failure)


async def _copy(engine: Engine, client: ClientRequest, request: Copy) -> Answer:
    io, on_started = _streams(engine, client, request.streams)
    try:
        code = await engine.copy(request.container, request.copy, io, on_started)
    finally:
        io.close()
    return Answer(exit_code=code, output_failure=io.output_failure)


def _streams(
    engine: Engine, client: ClientRequest, streams: Streams
) -> tuple[AttachedIO, Callable[[GuestProcessId], None]]:
    """Return the streams of a further process, and what is called once it runs."""
    io = client.streams(streams)

    def on_started(process: GuestProcessId) -> None:
        async def send(signum: int) -> None:
            await engine.signal(process, signum)

        async def resize(size: TerminalSize) -> None:
            await engine.resize(process, size)

        async def close_output(errors: bool) -> None:
            await engine.close_output(process, errors)

        client.forward_signals(io, send, resize, close_output)
        client.send_event(_started(engine))

    return io, on_started


def _started(engine: Engine) -> Started:
    return Started(acceleration=engine.record.acceleration, loses_streams=engine.loses_streams)
