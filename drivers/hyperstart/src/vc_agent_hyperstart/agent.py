"""The host's side of a guest whose pid 1 is hyperstart, an original or ours."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal as signals
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec

from vc_agent_hyperstart import messages
from vc_agent_hyperstart.codec import Code, StreamControlType
from vc_agent_hyperstart.config import HyperstartConfig
from vc_agent_hyperstart.connection import Connection, Dialect
from vc_agent_hyperstart.control import RefusedError
from vc_agent_hyperstart.messages import Message, ProcessNames, ProcessReport
from vc_agent_hyperstart.process import CreditedInput, DiscardIO, GuestProcess, Input, PacedInput
from vc_core.agent import Agent, AgentCapability, GuestContainer, OpenChannel, Process, ProcessIO, TerminalSize
from vc_core.config import Cmd
from vc_core.context import PodContext
from vc_core.devices import Channel, Device, SharedDirectory
from vc_core.errors import (
    AgentConnectError,
    AgentError,
    AgentTimeoutError,
    CommandError,
    ConfigError,
    NotSupportedError,
    VCError,
)
from vc_core.network import GuestNetwork

#: Port names that the guest looks for, and the mount tag of its share (hyperstart ``src/init.c``; v0.1.0).
CHANNELS = ("sh.hyper.channel.0", "sh.hyper.channel.1")
SHARE_TAG = "hyperShared"

#: Mount tags for our guest: the share once more, of which it caches nothing, and the directory that it may write to.
LIVE_TAG = "hyperLive"
WRITABLE_TAG = "hyperWritable"

#: The name under which late originals run commands in the VM itself (hyperstart 1cf7b55).
_ORIGINAL_POD = "hyperstart"

#: Seconds for a command that nobody set a deadline for.
_DEADLINE = 60.0

_CAPABILITIES = frozenset(
    (
        AgentCapability.EXEC,
        AgentCapability.STREAMS,
        AgentCapability.TERMINAL,
        AgentCapability.MOUNTS,
        AgentCapability.ADD_CONTAINER,
    )
)


class SavedState(msgspec.Struct, frozen=True):
    """What :meth:`HyperstartAgent.save` returns. ``dialect`` is None until the guest has answered."""

    token: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
    dialect: Dialect | None = None
    hostname: str = ""
    processes: list[ProcessNames] = []


class HyperstartAgent(Agent):
    """Reaches into one pod's guest over two channels."""

    def __init__(self, pod: PodContext, config: HyperstartConfig, saved: Mapping[str, object] | None) -> None:
        self._pod = pod
        self._config = config
        try:
            self._saved = SavedState(secrets.token_hex(16)) if saved is None else msgspec.convert(saved, SavedState)
        except msgspec.ValidationError as error:
            raise ConfigError(f"the saved state of the agent of pod {pod.id!r} cannot be read: {error}") from error
        self._hostname = self._saved.hostname
        self._pod_ended = False
        self._first: dict[str, GuestProcess] = {}  #: the first process of each container
        #: Processes that a former host started and nobody has adopted yet; ours come with a report.
        self._orphans: dict[int, ProcessReport | None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._connection: Connection | None = None

    @property
    def capabilities(self) -> frozenset[AgentCapability]:
        """What this agent can do; more once the guest is known to be ours."""
        dialect = self._saved.dialect if self._connection is None else self._connection.dialect
        if dialect is not None and dialect.ours:
            return _CAPABILITIES | {AgentCapability.SIGNAL, AgentCapability.POD, AgentCapability.REATTACH}
        if dialect is not None and dialect.by_id:
            return _CAPABILITIES | {AgentCapability.SIGNAL, AgentCapability.POD}
        return _CAPABILITIES

    def devices(self) -> Sequence[Device]:
        """Return the two channels, further volumes, and the directories shared with the guest."""
        pod = self._pod
        shares = [SharedDirectory(tag, pod.share_dir) for tag in (SHARE_TAG, LIVE_TAG)]
        if pod.writable_dir is not None:
            shares.append(SharedDirectory(WRITABLE_TAG, pod.writable_dir, read_only=False))
        volumes = [SharedDirectory(one.mount_tag, Path(one.host_path), one.read_only) for one in self._config.volumes]
        return [*self._channels(), *volumes, *shares]

    def _channels(self) -> list[Channel]:
        config = self._config
        if config.sockets:
            return [Channel(socket.id, socket.name, Path(socket.host_path)) for socket in config.sockets]
        paths = [Path(path) if path else None for path in (config.sock_ctl_name, config.sock_tty_name)]
        return [Channel(f"charch{number}", name, paths[number]) for number, name in enumerate(CHANNELS)]

    # Connecting.

    async def connect(self, open_channel: OpenChannel, deadline: float) -> None:
        """Reach the guest: wait for READY and greet it, or take it over from a former host."""
        self._connection = connection = Connection(self._saved.token, self._saved.dialect, self._on_event)
        try:
            async with asyncio.timeout(deadline):
                reports = await connection.open(open_channel, [channel.name for channel in self._channels()])
                await self._take_over(connection, reports)
        except BaseException as error:
            await self.aclose()
            if isinstance(error, TimeoutError) and not isinstance(error, VCError):
                raise AgentTimeoutError(
                    f"the agent in the guest of pod {self._pod.id!r} did not answer within {deadline:g} s; "
                    "see the guest's console for what it did instead"
                ) from error
            raise

    async def _take_over(self, connection: Connection, reports: list[ProcessReport]) -> None:
        """Note a former host's processes. Commands are killed: whoever wanted their outcome went away with it."""
        streams, dialect = connection.streams, connection.dialect
        if dialect is None or not dialect.ours:
            for names in self._saved.processes:
                self._note_orphan(streams.add(names, status_by_event=dialect is not None and dialect.by_id), None)
        for report in reports:
            process = streams.add(report.names(), stdout_from=report.stdout_from, stderr_from=report.stderr_from)
            if not (report.init or report.ended):
                await connection.control.call(
                    Code.SIGNAL, messages.Signal(report.stdio, signals.SIGKILL).encode(), _DEADLINE
                )
            self._note_orphan(process, report)

    def _note_orphan(self, process: GuestProcess, report: ProcessReport | None) -> None:
        if process.names.init:
            self._orphans[process.names.stdio] = report
            self._first[process.names.container] = process
        else:
            self._adopt(process, report, DiscardIO())

    async def aclose(self) -> None:
        """Drop both channels."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._connection is not None:
            await self._connection.aclose()

    async def wait_lost(self) -> str:
        """Return what ended a channel, once one has ended."""
        return await self._connected().wait_lost()

    def _connected(self) -> Connection:
        """Return the connection, which may have been lost meanwhile."""
        if self._connection is None:
            raise AgentConnectError(f"the agent of pod {self._pod.id!r} is not connected")
        return self._connection

    def _guest(self) -> tuple[Connection, Dialect]:
        """Return the connection to a guest that can be reached, and its dialect. Raises AgentError."""
        connection = self._connected()
        connection.check()
        if connection.dialect is None:
            raise AgentConnectError(f"the guest of pod {self._pod.id!r} has not answered yet")
        return connection, connection.dialect

    async def _call(self, code: Code, message: Message, deadline: float) -> None:
        connection, _ = self._guest()
        await connection.control.call(code, message.encode(), deadline)

    def _on_event(self, code: Code, payload: bytes) -> None:
        """Take a control frame that answers no command."""
        if code is Code.PODFINISHED:
            # An original ends the pod with its last container, but the VM stays and takes another STARTPOD.
            self._pod_ended = True
            return
        event = messages.decode("process event", payload, messages.ProcessEvent)
        process = self._connected().streams.processes.get(int(event.process))
        if event.event == "finished" and process is not None:
            process.on_status(event.status)

    # The pod and its containers.

    async def start_pod(
        self, hostname: str, root_fs: str, deadline: float, network: GuestNetwork | None = None
    ) -> None:
        """Send STARTPOD, without containers."""
        _, dialect = self._guest()
        message = messages.StartPod(hostname, (), SHARE_TAG)
        if dialect.ours:
            if root_fs:
                _check_below_share(f"root_fs of pod {self._pod.id!r}", root_fs)
            writable_dir = WRITABLE_TAG if self._pod.writable_dir else ""
            message = messages.StartPod(hostname, (), SHARE_TAG, root_fs, LIVE_TAG, writable_dir)
        elif root_fs:
            raise NotSupportedError(
                "the guest's hyperstart is an original, which gives a pod no root file system of its own; "
                "leave root_fs empty"
            )
        self._hostname = hostname
        await self._call(Code.STARTPOD, message, deadline)
        self._pod_ended = False

    async def stop_pod(self, deadline: float) -> None:
        """Send DESTROYPOD."""
        connection, _ = self._guest()
        with contextlib.suppress(AgentConnectError):  # it may power off before its answer has left
            await connection.control.call(Code.DESTROYPOD, deadline=deadline)

    async def start_container(self, container: GuestContainer, io: ProcessIO, deadline: float) -> Process:
        """Send NEWCONTAINER."""
        start = partial(self._start, container.id, container.cmd, container.terminal, io, deadline, container)
        if self._pod_ended:
            await self.start_pod(self._hostname, "", deadline)
        try:
            process = await start()
        except AgentError:
            if not self._pod_ended:
                raise
            # The last container ended while the command was on its way.
            await self.start_pod(self._hostname, "", deadline)
            process = await start()
        self._first[container.id] = process
        return Process(container.id, str(process.names.stdio))

    async def exec(
        self, container_id: str, cmd: Cmd, io: ProcessIO, deadline: float, terminal: TerminalSize | None = None
    ) -> Process:
        """Send EXECCMD."""
        _, dialect = self._guest()
        guest_id = container_id
        if not container_id and not dialect.ours:
            if not dialect.by_id:
                raise NotSupportedError("the guest's hyperstart is of 2016 and runs commands only in containers")
            guest_id = _ORIGINAL_POD
        process = await self._start(guest_id, cmd, terminal, io, deadline)
        return Process(container_id, str(process.names.stdio))

    async def _start(
        self,
        container_id: str,
        cmd: Cmd,
        terminal: TerminalSize | None,
        io: ProcessIO,
        deadline: float,
        container: GuestContainer | None = None,
    ) -> GuestProcess:
        """Start a container's first process if ``container`` is given, a further one otherwise."""
        where = f"container {container_id!r}" if container_id else f"pod {self._pod.id!r}"
        if not cmd.args:
            raise ConfigError(f"the command for {where} has no args; name a program")
        connection, dialect = self._guest()
        streams = connection.streams
        stdio, stderr = streams.new_numbers(terminal=terminal is not None)
        process_id = str(stdio) if dialect.by_id else ""
        no_input = dialect.ours and not (io.has_input or terminal)
        spec = messages.ProcessSpec.of(
            cmd,
            stdio=stdio,
            stderr=stderr,
            terminal=terminal is not None,
            process_id=process_id,
            no_input=no_input,
            size=terminal if dialect.ours else None,
        )
        code, message = Code.EXECCMD, messages.ExecCommand(container_id, spec).encode()
        if container is not None:
            self._check(container, dialect)
            new = messages.NewContainer.of(container, spec, overlay=dialect.overlay)
            code, message = Code.NEWCONTAINER, new.encode()
        # Its output may arrive before the answer to the command.
        names = ProcessNames(container_id, container is not None, stdio, stderr, terminal is not None)
        process = streams.add(names, status_by_event=dialect.by_id)
        try:
            await connection.control.call(code, message, deadline)
        except (RefusedError, ConfigError) as error:
            streams.remove(process)
            if isinstance(error, ConfigError):
                raise
            what = f"cannot run {cmd.args[0][:200]!r} in {where}"
            if error.exit_code:
                raise CommandError(f"{what}: {error.reason or error}", exit_code=error.exit_code) from error
            raise AgentError(f"{what}: {error}") from error
        except BaseException:
            self._abandon(process)
            raise
        process.attach(io, None if no_input else self._input(process))
        if terminal is not None and terminal.rows and not dialect.ours:
            await self._resize(process, terminal.rows, terminal.columns, deadline)
        return process

    def _check(self, container: GuestContainer, dialect: Dialect) -> None:
        """Refuse a container that the guest cannot be given. Raises ConfigError, NotSupportedError."""
        _check_below_share(f"root_fs of container {container.id!r}", container.root_fs)
        for mount in container.mounts:
            _check_below_share(f"the source of mount {mount.target!r} of container {container.id!r}", mount.source)
            if mount.read_only:
                continue
            if not dialect.ours:
                raise NotSupportedError(
                    f"the guest's hyperstart is an original, so mount {mount.target!r} of container {container.id!r} "
                    "can only be read-only"
                )
            if self._pod.writable_dir is None:
                raise ConfigError(
                    f"mount {mount.target!r} of container {container.id!r} is writable, but pod {self._pod.id!r} was "
                    "started without a directory for such mounts"
                )

    def _input(self, process: GuestProcess, received: int = 0, consumed: int = 0) -> Input:
        connection, dialect = self._guest()
        if dialect.ours:
            return CreditedInput(connection.streams, process.names.stdio, received, consumed)
        ping = partial(connection.control.call, Code.PING, deadline=_DEADLINE)
        return PacedInput(connection.streams, process.names.stdio, ping)

    def _abandon(self, process: GuestProcess) -> None:
        """Leave nothing behind of a command whose caller has stopped waiting for its start."""
        process.attach(DiscardIO(), None)
        connection = self._connected()
        if connection.loss is None and connection.dialect is not None and connection.dialect.ours:
            task = asyncio.get_running_loop().create_task(self._kill_abandoned(connection, process))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _kill_abandoned(self, connection: Connection, process: GuestProcess) -> None:
        message = messages.Signal(process.names.stdio, signals.SIGKILL).encode()
        try:
            await connection.control.call(Code.SIGNAL, message, _DEADLINE)
        except RefusedError:
            connection.streams.remove(process)  # it never started
        except AgentError:
            pass  # the guest is lost or stuck, and whoever uses it is told so

    # Processes.

    async def wait(self, process: Process) -> int:
        """Return a process' exit code once it ended and its output was handed over."""
        connection, stdio = self._connected(), _stdio(process)
        if (running := connection.streams.processes.get(stdio)) is not None:
            return await running.wait()
        if (status := connection.streams.statuses.get(stdio)) is not None:
            return status
        connection.check()
        raise _unknown(process)

    async def signal_container(self, container_id: str, signal: int, deadline: float) -> None:
        """Send KILLCONTAINER."""
        first = self._first.get(container_id)
        if first is None or not first.ended:
            try:
                await self._call(Code.KILLCONTAINER, messages.KillContainer(container_id, signal), deadline)
            except RefusedError:
                if first is None or not first.ended:
                    raise

    async def signal(self, process: Process, signal: int, deadline: float) -> None:
        """Send a signal to one process, as the guest's dialect allows."""
        running = self._running(process)
        if running is None:
            return
        _, dialect = self._guest()
        names = running.names
        message: Message
        if dialect.ours:
            code, message = Code.SIGNAL, messages.Signal(names.stdio, signal)
        elif dialect.by_id:
            code, message = Code.SIGNALPROCESS, messages.SignalProcess(names.container, str(names.stdio), signal)
        elif names.init:
            code, message = Code.KILLCONTAINER, messages.KillContainer(names.container, signal)
        else:
            raise NotSupportedError("the guest's hyperstart is of 2016 and can only signal a container's first process")
        try:
            await self._call(code, message, deadline)
        except RefusedError:
            if not running.ended:
                raise

    async def resize(self, process: Process, rows: int, columns: int, deadline: float) -> None:
        """Send WINSIZE."""
        running = self._running(process)
        if running is not None:
            await self._resize(running, rows, columns, deadline)

    async def _resize(self, process: GuestProcess, rows: int, columns: int, deadline: float) -> None:
        _, dialect = self._guest()
        names = process.names
        message: Message = messages.WinSize(names.stdio, rows, columns)
        if dialect.by_id:
            message = messages.WinSizeById(names.container, str(names.stdio), rows, columns)
        await self._call(Code.WINSIZE, message, deadline)

    async def adopt(self, process: Process, io: ProcessIO) -> None:
        """Wire a container's process that a former host started."""
        connection, _ = self._guest()
        stdio = _stdio(process)
        running = connection.streams.processes.get(stdio)
        if stdio not in self._orphans or running is None or running.names.container != process.container_id:
            raise _unknown(process)
        self._adopt(running, self._orphans.pop(stdio), io)

    def _adopt(self, process: GuestProcess, report: ProcessReport | None, io: ProcessIO) -> None:
        if report is None:
            process.attach(io, self._input(process))
            return
        over = report.closed or report.ended
        process.attach(io, None if over else self._input(process, report.received, report.consumed))
        control = self._connected().streams.control
        # stdio last: the guest sends the process' end once that stream is resumed.
        if report.stderr:
            control(StreamControlType.RESUME, report.stderr, report.stderr_from, at_once=False)
        control(StreamControlType.RESUME, report.stdio, report.stdout_from, at_once=True)

    async def remove_container(self, container_id: str, deadline: float) -> None:
        """Send REMOVECONTAINER."""
        connection, dialect = self._guest()
        try:
            await self._call(Code.REMOVECONTAINER, messages.RemoveContainer(container_id), deadline)
        except RefusedError:
            if dialect.ours:
                raise
            # An original forgets a container when it, or the pod's last one, has ended.
        self._first.pop(container_id, None)
        for process in list(connection.streams.processes.values()):
            if process.names.container == container_id:
                process.fail(AgentError(f"container {container_id!r} was removed"))
                connection.streams.remove(process)

    def _running(self, process: Process) -> GuestProcess | None:
        """Return a process, or None if the guest has reported its end. Raises AgentError for one that never was."""
        connection, _ = self._guest()
        stdio = _stdio(process)
        running = connection.streams.processes.get(stdio)
        if running is None and stdio not in connection.streams.statuses:
            raise _unknown(process)
        return None if running is None or running.ended else running

    def save(self) -> Mapping[str, object]:
        """Return the token and dialect of the guest and its processes' streams; changes with every start."""
        state = self._saved
        if self._connection is not None and self._connection.dialect is not None:
            processes = [process.names for process in self._connection.streams.processes.values()]
            state = SavedState(self._saved.token, self._connection.dialect, self._hostname, processes)
        saved: dict[str, object] = msgspec.to_builtins(state)
        return saved


def _check_below_share(what: str, path: str) -> None:
    if not path or path.startswith("/") or ".." in path.split("/"):
        raise ConfigError(f"{what} is {path!r}, which is not below the share")


def _stdio(process: Process) -> int:
    if not process.process_id.isdecimal():
        raise _unknown(process)
    return int(process.process_id)


def _unknown(process: Process) -> AgentError:
    return AgentError(f"the guest has no process {process.process_id!r} of container {process.container_id!r}")
