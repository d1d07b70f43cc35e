"""The host's side of a guest whose pid 1 is hyperstart, an original or ours."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal as signals
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec

from vc_agent_hyperstart import messages
from vc_agent_hyperstart.codec import Code, StreamControlType, sync_marker
from vc_agent_hyperstart.config import HyperstartConfig
from vc_agent_hyperstart.control import ControlChannel, RefusedError
from vc_agent_hyperstart.messages import Message, ProcessNames, ProcessReport
from vc_agent_hyperstart.process import CreditedInput, DiscardIO, GuestProcess, Input, PacedInput
from vc_agent_hyperstart.streams import StreamChannel
from vc_core.agent import Agent, AgentCapability, GuestContainer, OpenChannel, Process, ProcessIO
from vc_core.config import Cmd
from vc_core.context import PodContext
from vc_core.devices import Channel as ChannelDevice
from vc_core.devices import Device, SharedDirectory
from vc_core.errors import (
    AgentConnectError,
    AgentError,
    AgentProtocolError,
    AgentTimeoutError,
    CommandError,
    ConfigError,
    NotSupportedError,
    VCError,
)

#: Port names that the guest looks for, and the mount tag of its share (hyperstart ``src/init.c``; v0.1.0).
CONTROL_CHANNEL = "sh.hyper.channel.0"
STREAM_CHANNEL = "sh.hyper.channel.1"
SHARE_TAG = "hyperShared"

#: API versions of originals that are known to speak as this driver does: 2016, and the two of 2017-18.
_API_2016, _API_LAST = 4242, 4244

#: What a guest that answers HELLO must be able to do, apart from the overlay, which needs its kernel's help.
_FEATURES = frozenset(("no-next", "reasons", "exec-ack", "signal", "status128", "drain", "credit", "sync", "pod-stays"))

#: Seconds for a command that nobody set a deadline for.
_DEADLINE = 60.0

_CAPABILITIES = frozenset(
    (AgentCapability.EXEC, AgentCapability.STREAMS, AgentCapability.TERMINAL, AgentCapability.ADD_CONTAINER)
)


class SavedState(msgspec.Struct, frozen=True):
    """What :meth:`HyperstartAgent.save` returns. ``api`` is 0 before the guest told; ``hello`` says that it is ours."""

    token: str
    api: int = 0
    hello: bool = False
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
        self._api = self._saved.api
        self._hello = self._saved.hello
        self._overlay = False
        self._hostname = self._saved.hostname
        self._pod_ended = False
        self._first: dict[str, GuestProcess] = {}  #: the first process of each container
        #: Processes that a former host started and nobody has adopted yet; ours come with a report.
        self._orphans: dict[int, ProcessReport | None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._control: ControlChannel | None = None
        self._streams: StreamChannel | None = None
        self._lost = asyncio.Event()
        self._loss: AgentError | None = None

    @property
    def capabilities(self) -> frozenset[AgentCapability]:
        """What this agent can do; more once the guest is known to be ours."""
        if self._hello:
            return _CAPABILITIES | {AgentCapability.SIGNAL, AgentCapability.REATTACH}
        if self._api > _API_2016:
            return _CAPABILITIES | {AgentCapability.SIGNAL}
        return _CAPABILITIES

    def devices(self) -> Sequence[Device]:
        """Return the two channels, the share, and further volumes."""
        config = self._config
        if config.sockets:
            channels = [
                ChannelDevice(id=socket.id, name=socket.name, host_path=Path(socket.host_path))
                for socket in config.sockets
            ]
        else:
            channels = [
                ChannelDevice(id=f"charch{number}", name=name, host_path=Path(path) if path else None)
                for number, (name, path) in enumerate(
                    ((CONTROL_CHANNEL, config.sock_ctl_name), (STREAM_CHANNEL, config.sock_tty_name))
                )
            ]
        volumes = [SharedDirectory(volume.mount_tag, Path(volume.host_path)) for volume in config.volumes]
        return [*channels, *volumes, SharedDirectory(SHARE_TAG, self._pod.share_dir)]

    # Connecting.

    async def connect(self, open_channel: OpenChannel, deadline: float) -> None:
        """Reach the guest: wait for READY and greet it, or take it over from a former host."""
        names = [device.name for device in self.devices() if isinstance(device, ChannelDevice)]
        try:
            async with asyncio.timeout(deadline):
                marker = sync_marker(bytes.fromhex(self._saved.token)) if self._hello else None
                leftovers = bool(self._api) and not self._hello
                control = ControlChannel(self._on_lost, self._on_event, marker, leftovers=leftovers)
                self._control = await control.open(await open_channel(names[0]))
                streams = StreamChannel(self._on_lost, marker)
                self._streams = await streams.open(await open_channel(names[1]))
                if self._hello:
                    await self._take_over(control, streams)
                elif self._api:
                    await self._take_over_original(control, streams)
                else:
                    await self._greet(control, streams)
        except BaseException as error:
            await self.aclose()
            if isinstance(error, TimeoutError) and not isinstance(error, VCError):
                raise AgentTimeoutError(
                    f"the agent in the guest of pod {self._pod.id!r} did not answer within {deadline:g} s; "
                    "see the guest's console for what it did instead"
                ) from error
            if isinstance(error, RefusedError):
                raise AgentConnectError(f"{error}, so it is no guest for the agent hyperstart") from error
            raise

    async def _greet(self, control: ControlChannel, streams: StreamChannel) -> None:
        await control.ready
        self._check_version(await control.call(Code.GETVERSION))
        try:
            payload = await control.call(Code.HELLO, messages.Hello(self._saved.token).encode())
        except RefusedError:
            return  # an original
        self._on_hello(payload, control, streams)
        self._hello = True

    async def _take_over(self, control: ControlChannel, streams: StreamChannel) -> None:
        control.stop_counting()
        await asyncio.gather(control.take_over(), streams.take_over())
        payload = await control.call(Code.HELLO, messages.Hello(self._saved.token).encode())
        for report in self._on_hello(payload, control, streams):
            process = streams.add(report.names(), stdout_from=report.stdout_from, stderr_from=report.stderr_from)
            if report.init:
                self._orphans[report.stdio] = report
                self._first[report.container] = process
                continue
            # Whoever wanted this command's outcome went away with the former host.
            if not report.ended:
                await control.call(Code.SIGNAL, messages.Signal(report.stdio, signals.SIGKILL).encode())
            self._adopt(process, report, DiscardIO())

    async def _take_over_original(self, control: ControlChannel, streams: StreamChannel) -> None:
        self._check_version(await control.call(Code.GETVERSION))
        for names in self._saved.processes:
            process = streams.add(names, status_by_event=self._api > _API_2016)
            if names.init:
                self._orphans[names.stdio] = None
                self._first[names.container] = process
            else:
                process.attach(DiscardIO(), None)

    def _check_version(self, payload: bytes) -> None:
        if len(payload) != 4:
            raise AgentProtocolError(f"the guest answered GETVERSION with {len(payload)} bytes instead of 4")
        version = int.from_bytes(payload)
        if not _API_2016 <= version <= _API_LAST:
            raise AgentConnectError(
                f"the guest's hyperstart speaks API version {version}; use one of {_API_2016} to {_API_LAST}"
            )
        self._api = version

    def _on_hello(self, payload: bytes, control: ControlChannel, streams: StreamChannel) -> list[ProcessReport]:
        """Note what the guest can do from now on, and return its processes."""
        reply = messages.decode("reply to HELLO", payload, messages.HelloReply)
        if missing := _FEATURES - reply.features:
            raise AgentProtocolError(f"the guest answered HELLO but lacks {', '.join(sorted(missing))}")
        numbers = [number for report in reply.processes for number in (report.stdio, report.stderr) if number]
        if len(set(numbers)) < len(numbers):
            raise AgentProtocolError("the guest answered HELLO with processes that share a stream number")
        control.stop_counting()
        streams.credit = True
        self._overlay = "overlay" in reply.features
        return reply.processes

    async def aclose(self) -> None:
        """Drop both channels."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for channel in (self._streams, self._control):  # streams have last words
            if channel is not None:
                await channel.aclose()

    async def wait_lost(self) -> str:
        """Return what ended a channel, once one has ended."""
        await self._lost.wait()
        return str(self._loss)

    def _on_lost(self, error: AgentError) -> None:
        """Drop both channels when one of them is lost."""
        if self._loss is None:
            self._loss = error
            self._lost.set()
            for channel in (self._control, self._streams):
                if channel is not None:
                    channel.fail(error)

    def _on_event(self, code: Code, payload: bytes) -> None:
        if code is Code.PODFINISHED:
            # An original ends the pod with its last container, but the VM stays and takes another STARTPOD.
            self._pod_ended = True
        elif self._streams is not None:
            event = messages.decode("process event", payload, messages.ProcessEvent)
            process = self._streams.processes.get(int(event.process)) if event.process.isdecimal() else None
            if event.event == "finished" and process is not None:
                process.on_status(event.status)

    def _channels(self) -> tuple[ControlChannel, StreamChannel]:
        if self._loss is not None:
            raise type(self._loss)(str(self._loss))
        if self._control is None or self._streams is None:
            raise AgentConnectError(f"the agent of pod {self._pod.id!r} is not connected")
        return self._control, self._streams

    async def _call(self, code: Code, message: Message, deadline: float) -> bytes:
        control, _ = self._channels()
        return await control.call(code, message.encode(), deadline)

    # The pod and its containers.

    async def start_pod(self, hostname: str, deadline: float) -> None:
        """Send STARTPOD, without containers."""
        self._hostname = hostname
        await self._call(Code.STARTPOD, messages.StartPod(hostname, (), SHARE_TAG), deadline)
        self._pod_ended = False

    async def stop_pod(self, deadline: float) -> None:
        """Send DESTROYPOD."""
        control, _ = self._channels()
        with contextlib.suppress(AgentConnectError):  # it may power off before its answer has left
            await control.call(Code.DESTROYPOD, deadline=deadline)

    async def start_container(self, container: GuestContainer, io: ProcessIO, deadline: float) -> Process:
        """Send NEWCONTAINER."""
        image, _, rootfs = container.root_fs.partition("/")
        if not image or ".." in container.root_fs.split("/"):
            raise ConfigError(f"root_fs {container.root_fs!r} of container {container.id!r} is not below the share")
        start = partial(self._start, container.id, container.cmd, container.terminal, io, deadline, image, rootfs)
        if self._pod_ended:
            await self.start_pod(self._hostname, deadline)
        try:
            process = await start()
        except AgentError:
            if not self._pod_ended:
                raise
            # The last container ended while the command was on its way.
            await self.start_pod(self._hostname, deadline)
            process = await start()
        self._first[container.id] = process
        return Process(container.id, str(process.names.stdio))

    async def exec(
        self, container_id: str, cmd: Cmd, io: ProcessIO, deadline: float, terminal: bool = False
    ) -> Process:
        """Send EXECCMD."""
        process = await self._start(container_id, cmd, terminal, io, deadline)
        return Process(container_id, str(process.names.stdio))

    async def _start(
        self,
        container_id: str,
        cmd: Cmd,
        terminal: bool,
        io: ProcessIO,
        deadline: float,
        image: str = "",
        rootfs: str = "",
    ) -> GuestProcess:
        """Start a container's first process if there is an image, a further one otherwise."""
        if not cmd.args:
            raise ConfigError(f"the command for container {container_id!r} has no args; name a program")
        control, streams = self._channels()
        stdio, stderr = streams.new_numbers(terminal=terminal)
        by_id = self._api > _API_2016 and not self._hello
        spec = messages.ProcessSpec.of(
            cmd, terminal=terminal, stdio=stdio, stderr=stderr, process_id=str(stdio) if by_id else ""
        )
        code, message = Code.EXECCMD, messages.ExecCommand(container_id, spec).encode()
        if image:
            code = Code.NEWCONTAINER
            message = messages.NewContainer(
                container_id, image, rootfs, spec, initialize=False, overlay=self._overlay
            ).encode()
        # Its output may arrive before the answer to the command.
        process = streams.add(ProcessNames(container_id, bool(image), stdio, stderr, terminal), status_by_event=by_id)
        try:
            await control.call(code, message, deadline)
        except RefusedError as refusal:
            streams.remove(process)
            what = f"cannot run {cmd.args[0][:200]!r} in container {container_id!r}"
            if refusal.exit_code:
                raise CommandError(f"{what}: {refusal.reason}", exit_code=refusal.exit_code) from refusal
            raise AgentError(f"{what}: {refusal}") from refusal
        except ConfigError:
            streams.remove(process)
            raise
        except BaseException:
            self._abandon(process)
            raise
        process.attach(io, self._input(process))
        return process

    def _input(self, process: GuestProcess, received: int = 0, consumed: int = 0) -> Input:
        control, streams = self._channels()
        if self._hello:
            return CreditedInput(streams, process.names.stdio, received, consumed)
        return PacedInput(streams, process.names.stdio, lambda: control.call(Code.PING, deadline=_DEADLINE))

    def _abandon(self, process: GuestProcess) -> None:
        """Leave nothing behind of a command whose caller has stopped waiting for its start."""
        process.attach(DiscardIO(), None)
        if self._hello and self._loss is None:
            task = asyncio.get_running_loop().create_task(self._kill_abandoned(process))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _kill_abandoned(self, process: GuestProcess) -> None:
        control, streams = self._channels()
        try:
            await control.call(Code.SIGNAL, messages.Signal(process.names.stdio, signals.SIGKILL).encode(), _DEADLINE)
        except RefusedError:
            streams.remove(process)  # it never started
        except AgentError:
            pass  # the guest is lost, and everybody has been told

    # Processes.

    async def wait(self, process: Process) -> int:
        """Return a process' exit code once it ended and its output was handed over."""
        stdio = _stdio(process)
        if self._streams is not None:
            if (running := self._streams.processes.get(stdio)) is not None:
                return await running.wait()
            if (status := self._streams.statuses.get(stdio)) is not None:
                return status
        self._channels()
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
        if running is None or running.ended:
            return
        names = running.names
        message: Message
        if self._hello:
            code, message = Code.SIGNAL, messages.Signal(names.stdio, signal)
        elif self._api > _API_2016:
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
        if running is None or running.ended:
            return
        names = running.names
        message: Message = messages.WinSize(names.stdio, rows, columns)
        if self._api > _API_2016 and not self._hello:
            message = messages.WinSizeById(names.container, str(names.stdio), rows, columns)
        await self._call(Code.WINSIZE, message, deadline)

    async def adopt(self, process: Process, io: ProcessIO) -> None:
        """Wire a container's process that a former host started."""
        _, streams = self._channels()
        stdio = _stdio(process)
        running = streams.processes.get(stdio)
        if stdio not in self._orphans or running is None or running.names.container != process.container_id:
            raise _unknown(process)
        self._adopt(running, self._orphans.pop(stdio), io)

    def _adopt(self, process: GuestProcess, report: ProcessReport | None, io: ProcessIO) -> None:
        _, streams = self._channels()
        if report is None:
            process.attach(io, self._input(process))
            return
        over = report.closed or report.ended
        process.attach(io, None if over else self._input(process, report.received, report.consumed))
        # stdio last: the guest sends the process' end once that stream is resumed.
        if report.stderr:
            streams.control(StreamControlType.RESUME, report.stderr, report.stderr_from, at_once=True)
        streams.control(StreamControlType.RESUME, report.stdio, report.stdout_from, at_once=True)

    async def remove_container(self, container_id: str, deadline: float) -> None:
        """Send REMOVECONTAINER."""
        _, streams = self._channels()
        try:
            await self._call(Code.REMOVECONTAINER, messages.RemoveContainer(container_id), deadline)
        except RefusedError:
            if self._hello:
                raise
            # An original forgets a container when it, or the pod's last one, has ended.
        self._first.pop(container_id, None)
        for process in list(streams.processes.values()):
            if process.names.container == container_id:
                process.fail(AgentError(f"container {container_id!r} was removed"))
                streams.remove(process)

    def _running(self, process: Process) -> GuestProcess | None:
        """Return a process that has not ended, None for one that has."""
        _, streams = self._channels()
        stdio = _stdio(process)
        running = streams.processes.get(stdio)
        if running is None and stdio not in streams.statuses:
            raise _unknown(process)
        return running

    def save(self) -> Mapping[str, object]:
        """Return the token and dialect of the guest and its processes' streams; changes with every start."""
        processes = self._saved.processes
        if self._streams is not None:
            processes = [process.names for process in self._streams.processes.values()]
        state = SavedState(self._saved.token, self._api, self._hello, self._hostname, processes)
        saved: dict[str, object] = msgspec.to_builtins(state)
        return saved


def _stdio(process: Process) -> int:
    if not process.process_id.isdecimal():
        raise _unknown(process)
    return int(process.process_id)


def _unknown(process: Process) -> AgentError:
    return AgentError(f"the guest has no process {process.process_id!r} of container {process.container_id!r}")
