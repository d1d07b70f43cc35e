"""The processes that this host started or took over: starting, signalling, resizing and waiting for them."""

from __future__ import annotations

import asyncio
import signal as signals
from collections.abc import Callable
from functools import partial

from vc_agent_hyperstart import translate
from vc_agent_hyperstart.codec import StreamControlType
from vc_agent_hyperstart.connection import Connection
from vc_agent_hyperstart.control import RefusedError
from vc_agent_hyperstart.guest_process import CreditedInput, DiscardIO, FlowControlledInput, GuestProcess, PacedInput
from vc_agent_hyperstart.replies import ProcessEvent, ProcessNames, decode
from vc_agent_hyperstart.requests import (
    KillContainer,
    Ping,
    ProcessSpec,
    Request,
    Signal,
    SignalProcess,
    WinSize,
    WinSizeById,
)
from vc_core.driver import Cmd, GuestProcessId, ProcessIO, TerminalSize
from vc_core.errors import AgentError, CommandError, ConfigError, NotSupportedError

#: Seconds for a request that no caller waits for, such as the kill of a process whose start was cancelled.
TIMEOUT = 60.0


class ProcessTable:
    """The processes of one guest, by the number of their ``stdio``. ``first`` are those of containers, by their ids."""

    def __init__(self, connection: Connection) -> None:
        self.first: dict[str, GuestProcess] = {}
        self._connection = connection
        self._tasks: set[asyncio.Task[None]] = set()

    async def aclose(self) -> None:
        """Stop killing processes whose start was cancelled."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def start(
        self,
        container_id: str,
        cmd: Cmd,
        io: ProcessIO,
        timeout: float,
        terminal: TerminalSize | None,
        make_request: Callable[[ProcessSpec], Request],
        *,
        init: bool,
    ) -> GuestProcess:
        """Start a process with the request that ``make_request`` returns for it; ``init``: a container's first.

        ``timeout`` is in seconds. Raises NotSupportedError, ConfigError, CommandError if its program cannot be
        executed, else AgentError.
        """
        connection = self._connection
        where = f"container {container_id!r}" if container_id else f"pod {connection.pod_id!r}"
        if not cmd.args:
            raise ConfigError(f"the command for {where} has no args; name a program")
        dialect, streams = connection.dialect, connection.streams
        numbers = streams.new_numbers(terminal=terminal is not None)
        spec = translate.process(dialect, cmd, numbers, terminal, has_input=io.has_input)
        request = make_request(spec)
        # Its output may arrive before the answer to the command.
        names = ProcessNames(container_id, init, *numbers, terminal is not None)
        process = streams.add(names, status_by_event=dialect.by_id)
        try:
            await connection.call(request, timeout, where)
        except (RefusedError, ConfigError, NotSupportedError) as error:
            streams.remove(process)
            if not isinstance(error, RefusedError):
                raise
            what = f"cannot run {cmd.args[0][:200]!r} in {where}"
            if error.exit_code:
                raise CommandError(f"{what}: {error.reason or error}", exit_code=error.exit_code) from error
            raise AgentError(f"{what}: {error}") from error
        except BaseException:
            self._abandon(process)
            raise
        process.attach(io, None if spec.no_input else self.input(process))
        if terminal is not None and terminal.rows and not dialect.ours:
            await self._resize(process, terminal.rows, terminal.columns, timeout)
        return process

    def input(self, process: GuestProcess, received: int = 0, consumed: int = 0) -> FlowControlledInput:
        """Return the input of a process, of which the guest has received and consumed so many bytes already."""
        connection = self._connection
        if connection.dialect.ours:
            return CreditedInput(connection.streams, process.names.stdio, received, consumed)
        ping = partial(connection.call, Ping(), TIMEOUT)
        return PacedInput(connection.streams, process.names.stdio, ping)

    def _abandon(self, process: GuestProcess) -> None:
        """Kill a process whose start was cancelled or has timed out, once it runs."""
        process.attach(DiscardIO(), None)
        if self._connection.loss is None and self._connection.dialect.ours:
            task = asyncio.get_running_loop().create_task(self._kill_abandoned(process))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _kill_abandoned(self, process: GuestProcess) -> None:
        try:
            await self._connection.call(Signal(process.names.stdio, signals.SIGKILL), TIMEOUT)
        except RefusedError:
            self._connection.streams.remove(process)  # it never started
        except AgentError:
            pass  # the guest is lost or does not answer: the next request raises that

    def on_event(self, payload: bytes) -> None:
        """Handle the payload of PROCESSASYNCEVENT. Raises AgentProtocolError."""
        event = decode("process event", payload, ProcessEvent)
        process = self._connection.streams.processes.get(int(event.process))
        if event.event == "finished" and process is not None:
            process.on_status(event.status)

    async def wait(self, process: GuestProcessId) -> int:
        """Return a process' exit code once it has ended and its output was written. Raises AgentError."""
        self._connection.check_connected()
        stdio, streams = stdio_of(process), self._connection.streams
        if (running := streams.processes.get(stdio)) is not None:
            return await running.wait()
        if (status := streams.statuses.get(stdio)) is not None:
            return status
        self._connection.check()
        raise no_process(process)

    async def signal_container(self, container_id: str, signal: int, timeout: float) -> None:
        """Send KILLCONTAINER, unless the container's first process has ended. Raises AgentError."""
        first = self.first.get(container_id)
        if first is None or not first.ended:
            try:
                await self._connection.call(KillContainer(container_id, signal), timeout)
            except RefusedError:
                if first is None or not first.ended:
                    raise

    async def signal(self, process: GuestProcessId, signal: int, timeout: float) -> None:
        """Send a signal to a process, unless it has ended. Raises NotSupportedError if the guest cannot, AgentError."""
        running = self._running(process)
        if running is None:
            return
        dialect, names = self._connection.dialect, running.names
        request: Request
        if dialect.ours:
            request = Signal(names.stdio, signal)
        elif dialect.by_id:
            request = SignalProcess(names.container, str(names.stdio), signal)
        elif names.init:
            request = KillContainer(names.container, signal)
        else:
            raise NotSupportedError("the guest's hyperstart is of 2016 and can only signal a container's first process")
        try:
            await self._connection.call(request, timeout)
        except RefusedError:
            if not running.ended:
                raise

    def close_output(self, process: GuestProcessId, *, errors: bool) -> None:
        """Send a CLOSE, unless the process has ended. Raises NotSupportedError for one on a terminal, AgentError."""
        running = self._running(process)
        if running is None:
            return
        if running.names.terminal:
            raise NotSupportedError("the output of a process on a terminal cannot be closed")
        stream = running.names.stderr if errors else running.names.stdio
        self._connection.streams.control(StreamControlType.CLOSE, stream, 0, at_once=True)

    async def resize(self, process: GuestProcessId, rows: int, columns: int, timeout: float) -> None:
        """Send WINSIZE, unless the process has ended. Raises AgentError."""
        running = self._running(process)
        if running is not None:
            await self._resize(running, rows, columns, timeout)

    async def _resize(self, process: GuestProcess, rows: int, columns: int, timeout: float) -> None:
        names = process.names
        request: Request = WinSize(names.stdio, rows, columns)
        if self._connection.dialect.by_id:
            request = WinSizeById(names.container, str(names.stdio), rows, columns)
        await self._connection.call(request, timeout)

    def _running(self, process: GuestProcessId) -> GuestProcess | None:
        """Return a process, or None if the guest has reported its end. Raises AgentError if it never existed."""
        self._connection.check()
        stdio, streams = stdio_of(process), self._connection.streams
        running = streams.processes.get(stdio)
        if running is None and stdio not in streams.statuses:
            raise no_process(process)
        return None if running is None or running.ended else running

    def forget_container(self, container_id: str) -> None:
        """Remove a container's processes; waiting for one of them raises AgentError."""
        self.first.pop(container_id, None)
        streams = self._connection.streams
        for process in list(streams.processes.values()):
            if process.names.container == container_id:
                process.fail(AgentError(f"container {container_id!r} was removed"))
                streams.remove(process)


def stdio_of(process: GuestProcessId) -> int:
    """Return the number of a process' ``stdio``, which is its id. Raises AgentError for an id that is no number."""
    if not process.process_id.isdecimal():
        raise no_process(process)
    return int(process.process_id)


def no_process(process: GuestProcessId) -> AgentError:
    """Return the error for a process that the guest does not have."""
    return AgentError(f"the guest has no process {process.process_id!r} of container {process.container_id!r}")
