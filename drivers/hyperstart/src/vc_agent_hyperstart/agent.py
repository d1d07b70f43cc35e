"""The agent ``hyperstart``: the host's side of a guest whose pid 1 is an original hyperstart or this project's."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec

from vc_agent_hyperstart import translate
from vc_agent_hyperstart.codec import Code
from vc_agent_hyperstart.config import HyperstartConfig
from vc_agent_hyperstart.connection import Connection
from vc_agent_hyperstart.control import RefusedError
from vc_agent_hyperstart.dialect import Dialect
from vc_agent_hyperstart.process_table import ProcessTable
from vc_agent_hyperstart.replies import ProcessNames, StatsReply, TimesReply, decode
from vc_agent_hyperstart.requests import (
    Clock,
    DestroyPod,
    ExecCommand,
    Freeze,
    NewContainer,
    ProcessSpec,
    RemoveContainer,
    StartPod,
    Stats,
    Sysctls,
    Times,
    Update,
)
from vc_agent_hyperstart.takeover import Takeover
from vc_core.driver import (
    Agent,
    AgentCapability,
    Channel,
    Cmd,
    ContainerUsage,
    Device,
    GuestContainer,
    GuestCopy,
    GuestNetwork,
    GuestProcessId,
    OpenChannel,
    PodContext,
    ProcessIO,
    SharedDirectory,
    TerminalSize,
    convert,
    trace_guest,
    traced,
)
from vc_core.errors import (
    AgentConnectError,
    AgentError,
    AgentTimeoutError,
    ConfigError,
    NotSupportedError,
    VCError,
)

#: Names of the ports that the guest opens (hyperstart ``src/init.c``).
CHANNELS = ("sh.hyper.channel.0", "sh.hyper.channel.1")

#: The name under which late originals run commands in the VM itself (hyperstart 1cf7b55).
_ORIGINAL_POD = "hyperstart"

#: Capabilities with every guest; further ones with later originals, with this project's guest, with a feature of it.
_CAPABILITIES = frozenset(
    (
        AgentCapability.EXEC,
        AgentCapability.STREAMS,
        AgentCapability.TERMINAL,
        AgentCapability.MOUNTS,
        AgentCapability.ADD_CONTAINER,
        AgentCapability.DISKS,
        AgentCapability.NETWORK,
        AgentCapability.CLONES,
    )
)
_LATE_CAPABILITIES = frozenset((AgentCapability.SIGNAL, AgentCapability.POD))
_OUR_CAPABILITIES = _LATE_CAPABILITIES | {AgentCapability.REATTACH}
_FEATURE_CAPABILITIES = {
    "confinement": AgentCapability.LIMITS,
    "stats": AgentCapability.STATS,
    "isolation": AgentCapability.ISOLATION,
    "close-output": AgentCapability.CLOSE_OUTPUT,
    "archive": AgentCapability.COPY,
    "own-pids": AgentCapability.PID_NAMESPACE,
    "seccomp": AgentCapability.SECCOMP,
    "devices": AgentCapability.DEVICES,
    "freeze": AgentCapability.FREEZE,
    "update": AgentCapability.UPDATE,
    "mount-options": AgentCapability.MOUNT_OPTIONS,
    "process-limits": AgentCapability.PROCESS_LIMITS,
    "sysctls": AgentCapability.SYSCTLS,
    "clock": AgentCapability.CLOCK,
    "writable-roots": AgentCapability.WRITABLE_ROOTS,
}


class SavedState(msgspec.Struct, frozen=True):
    """What :meth:`HyperstartAgent.save` returns. ``dialect`` is None until the guest has answered.

    ``pod`` is the STARTPOD to send again to an original, which ends the pod with its last container.
    """

    token: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
    dialect: Dialect | None = None
    pod: StartPod | None = None
    processes: list[ProcessNames] = []


class HyperstartAgent(Agent):
    """Reaches into one pod's guest over two channels."""

    def __init__(self, pod: PodContext, config: HyperstartConfig, saved: Mapping[str, object] | None) -> None:
        self._pod = pod
        self._config = config
        try:
            self._saved = SavedState(secrets.token_hex(16)) if saved is None else convert(saved, SavedState)
        except msgspec.ValidationError as error:
            raise ConfigError(f"the saved state of the agent of pod {pod.id!r} cannot be read: {error}") from error
        self._connection = Connection(pod.id, self._saved.token, self._saved.dialect, self._on_event)
        self._processes = ProcessTable(self._connection)
        self._takeover = Takeover(self._connection, self._processes)
        self._start_pod = self._saved.pod
        self._pod_ended = False

    @property
    def capabilities(self) -> frozenset[AgentCapability]:
        """What this agent can do with any guest; once connected, with this guest."""
        dialect = self._connection.dialect_or_none
        if dialect is None:
            return _CAPABILITIES
        if dialect.ours:
            more = {capability for name, capability in _FEATURE_CAPABILITIES.items() if name in dialect.features}
            return _CAPABILITIES | _OUR_CAPABILITIES | more
        return _CAPABILITIES | _LATE_CAPABILITIES if dialect.by_id else _CAPABILITIES

    @property
    def warnings(self) -> Sequence[str]:
        """Return a warning about lost input if the guest is an original: its protocol has no flow control."""
        dialect = self._connection.dialect_or_none
        if dialect is None or dialect.ours:
            return ()
        return (f"the guest's hyperstart is an original (API {dialect.api}) and drops input that is not read at once",)

    def devices(self) -> Sequence[Device]:
        """Return the two channels, the configured volumes, and the directories shared with the guest."""
        pod = self._pod
        shares = [SharedDirectory(tag, pod.share_dir) for tag in (translate.SHARE_TAG, translate.LIVE_TAG)]
        if pod.writable_dir is not None:
            shares.append(SharedDirectory(translate.WRITABLE_TAG, pod.writable_dir, read_only=False))
        if pod.roots_dir is not None:
            shares.append(SharedDirectory(translate.ROOTS_TAG, pod.roots_dir, read_only=False, owners=True))
        volumes = [SharedDirectory(one.mount_tag, Path(one.host_path), one.read_only) for one in self._config.volumes]
        return [*self._channels(), *volumes, *shares]

    def _channels(self) -> list[Channel]:
        config = self._config
        if config.sockets:
            return [Channel(socket.id, socket.name, Path(socket.host_path)) for socket in config.sockets]
        paths = [Path(path) if path else None for path in (config.sock_ctl_name, config.sock_tty_name)]
        return [Channel(f"charch{number}", name, paths[number]) for number, name in enumerate(CHANNELS)]

    # The connection.

    async def connect(self, open_channel: OpenChannel, timeout: float) -> None:
        """Wait for the guest's READY and send HELLO, or take the guest over from a former host.

        ``timeout`` is in seconds. Raises AgentTimeoutError, AgentConnectError, AgentProtocolError.
        """
        async with self._connecting(timeout):
            await self._connect(open_channel, clone=False)
        await self._trace(timeout)

    async def wake(self, open_channel: OpenChannel, timeout: float) -> None:
        """Send WAKE and HELLO to a clone.

        ``timeout`` is in seconds. Raises AgentTimeoutError, AgentConnectError, AgentProtocolError.
        """
        async with self._connecting(timeout):
            await self._connect(open_channel, clone=True)
        await self._trace(timeout)

    async def settle(self, open_channel: OpenChannel, timeout: float) -> None:
        """Wait for the guest's READY, send WAKE to learn whether it can do that, and close the channel.

        ``timeout`` is in seconds. Raises NotSupportedError for an original, AgentTimeoutError, AgentConnectError,
        AgentProtocolError.
        """
        async with self._connecting(timeout):
            await self._connection.settle(open_channel, self._channels()[0].name)
        await self.aclose()

    async def _connect(self, open_channel: OpenChannel, *, clone: bool) -> None:
        names = [channel.name for channel in self._channels()]
        reports = await self._connection.open(open_channel, names, clone=clone)
        await self._takeover.collect(self._saved.processes, reports)

    @contextlib.asynccontextmanager
    async def _connecting(self, timeout: float) -> AsyncIterator[None]:
        """Limit the time of the body, and close the channels if it fails."""
        try:
            async with asyncio.timeout(timeout):
                yield
        except BaseException as error:
            await self.aclose()
            if isinstance(error, TimeoutError) and not isinstance(error, VCError):
                raise AgentTimeoutError(
                    f"the agent of pod {self._pod.id!r} did not answer within {timeout:g} s"
                ) from error
            raise

    async def _trace(self, timeout: float) -> None:
        """Add to the trace, if this process writes one, what the guest did since the last call. Raises AgentError."""
        if not traced() or "times" not in self._connection.dialect.features:
            return
        before = time.monotonic_ns()
        reply = decode("reply to TIMES", await self._connection.call(Times(), timeout), TimesReply)
        # What is between the two clocks, exact to half of the time of the exchange.
        offset = (before + time.monotonic_ns()) // 2 - reply.now
        trace_guest(self._pod.id, [(one.name, one.begin + offset, one.end + offset) for one in reply.phases])

    async def aclose(self) -> None:
        """Close both channels; containers run on."""
        await self._processes.aclose()
        await self._connection.aclose()

    async def wait_lost(self) -> str:
        """Return why the connection was lost, once it is."""
        return await self._connection.wait_lost()

    def _on_event(self, code: Code, payload: bytes) -> None:
        """Handle a control frame that answers no command."""
        if code is Code.PODFINISHED:
            # An original ends the pod with its last container, but the VM stays and takes another STARTPOD.
            self._pod_ended = True
        else:
            self._processes.on_event(payload)

    def save(self) -> Mapping[str, object]:
        """Return the guest's token and dialect and its processes' streams; changes with each start of a process."""
        state, connection = self._saved, self._connection
        if connection.dialect_or_none is not None and connection.connected:
            processes = [process.names for process in connection.streams.processes.values()]
            state = SavedState(state.token, connection.dialect_or_none, self._start_pod, processes)
        saved: dict[str, object] = msgspec.to_builtins(state)
        return saved

    # The pod.

    async def start_pod(
        self,
        hostname: str,
        root_fs: str,
        timeout: float,
        network: GuestNetwork | None = None,
    ) -> None:
        """Send STARTPOD, without containers. Raises NotSupportedError, ConfigError, AgentError."""
        dialect, pod = self._connection.dialect, self._pod
        self._start_pod = translate.start_pod(
            dialect,
            hostname,
            root_fs,
            network or GuestNetwork(),
            writable_dir=pod.writable_dir is not None,
            roots_dir=pod.roots_dir is not None,
        )
        await self._send_start_pod(self._start_pod, timeout)
        await self._trace(timeout)

    async def _send_start_pod(self, request: StartPod, timeout: float) -> None:
        await self._connection.call(request, timeout)
        self._pod_ended = False

    async def set_sysctls(self, sysctls: Mapping[str, str], timeout: float) -> None:
        """Send SYSCTLS. Raises NotSupportedError, AgentError."""
        await self._connection.call(Sysctls(sysctls), timeout)

    async def set_clock(self, timeout: float) -> None:
        """Send CLOCK. Raises NotSupportedError, AgentError."""
        await self._connection.call(Clock(time.time_ns()), timeout)

    async def stop_pod(self, timeout: float) -> None:
        """Send DESTROYPOD, and return when the guest has answered or closed the channels.

        An original waits for all processes, so one that ignores SIGTERM makes this raise AgentTimeoutError. Raises
        AgentError.
        """
        self._connection.check()
        self._connection.streams.hurry()  # it waits for the release of each process
        with contextlib.suppress(AgentConnectError):  # it may power off before its answer has left
            await self._connection.call(DestroyPod(), timeout)

    # Containers.

    async def start_container(self, container: GuestContainer, io: ProcessIO, timeout: float) -> GuestProcessId:
        """Send NEWCONTAINER.

        Raises NotSupportedError, ConfigError, CommandError if its program cannot be executed, else AgentError.
        """
        dialect, writable_dir = self._connection.dialect, self._pod.writable_dir is not None

        def request(spec: ProcessSpec) -> NewContainer:
            return translate.new_container(dialect, container, spec, writable_dir=writable_dir)

        async def start() -> None:
            self._processes.first[container.id] = await self._processes.start(
                container.id, container.cmd, io, timeout, container.terminal, request, init=True
            )

        if self._pod_ended:
            await self._start_pod_again(timeout)
        try:
            await start()
        except AgentError:
            if not self._pod_ended:
                raise
            # The pod ended with its last container before the guest read the command.
            await self._start_pod_again(timeout)
            await start()
        await self._trace(timeout)
        return GuestProcessId(container.id, str(self._processes.first[container.id].names.stdio))

    async def _start_pod_again(self, timeout: float) -> None:
        assert self._start_pod is not None, "a pod that ended was started"
        await self._send_start_pod(self._start_pod, timeout)

    async def remove_container(self, container_id: str, timeout: float) -> None:
        """Send REMOVECONTAINER. Raises AgentError, if the container runs among others.

        That the guest has no such container is no error: a host that was killed may have removed it.
        """
        try:
            await self._connection.call(RemoveContainer(container_id), timeout)
        except RefusedError as error:
            if self._connection.dialect.ours and f"there is no container {container_id!r}" not in str(error):
                raise
            # An original removes a container itself when it, or the pod's last one, has ended.
        self._processes.forget_container(container_id)

    async def pause_container(self, container_id: str, timeout: float) -> None:
        """Send FREEZE. Raises NotSupportedError, AgentError."""
        await self._connection.call(Freeze(container_id, True), timeout, f"container {container_id!r}")

    async def resume_container(self, container_id: str, timeout: float) -> None:
        """Send FREEZE. Raises NotSupportedError, AgentError."""
        await self._connection.call(Freeze(container_id, False), timeout, f"container {container_id!r}")

    async def update_container(
        self, container_id: str, memory: int | None, pids: int | None, cpus: float | None, timeout: float
    ) -> None:
        """Send UPDATE. Raises NotSupportedError, AgentError."""
        request = Update(container_id, memory, pids, None if cpus is None else translate.thousandths(cpus))
        await self._connection.call(request, timeout, f"container {container_id!r}")

    async def stats(self, container_id: str, timeout: float) -> ContainerUsage:
        """Send STATS. Raises NotSupportedError, AgentError."""
        payload = await self._connection.call(Stats(container_id), timeout, f"container {container_id!r}")
        reply = decode("reply to STATS", payload, StatsReply)
        return ContainerUsage(
            cpu_seconds=None if reply.cpu is None else reply.cpu / 1e9,
            memory=None if reply.memory is None else max(0, reply.memory - (reply.memory_inactive or 0)),
            memory_limit=reply.memory_limit,
            pids=reply.pids,
            read=reply.read,
            written=reply.written,
            memory_total=reply.memory,
            memory_cache=reply.memory_cache,
            oom_kills=reply.oom_kills,
        )

    # ProcessTable.

    async def exec(
        self, container_id: str, cmd: Cmd, io: ProcessIO, timeout: float, terminal: TerminalSize | None = None
    ) -> GuestProcessId:
        """Send EXECCMD.

        Raises NotSupportedError, ConfigError, CommandError if the program cannot be executed, else AgentError.
        """
        dialect, guest_id = self._connection.dialect, container_id
        if not container_id and not dialect.ours:
            if not dialect.by_id:
                raise NotSupportedError("the guest's hyperstart is of 2016 and runs commands only in containers")
            guest_id = _ORIGINAL_POD
        process = await self._processes.start(
            guest_id, cmd, io, timeout, terminal, lambda spec: ExecCommand(guest_id, spec), init=False
        )
        return GuestProcessId(container_id, str(process.names.stdio))

    async def copy(self, container_id: str, copy: GuestCopy, io: ProcessIO, timeout: float) -> GuestProcessId:
        """Send EXECCMD with the key ``archive``. Raises NotSupportedError, ConfigError, AgentError."""
        archive, args = translate.archive(copy)

        def request(spec: ProcessSpec) -> ExecCommand:
            return ExecCommand(container_id, msgspec.structs.replace(spec, archive=archive))

        process = await self._processes.start(container_id, Cmd(args=args), io, timeout, None, request, init=False)
        return GuestProcessId(container_id, str(process.names.stdio))

    async def wait(self, process: GuestProcessId) -> int:
        """Return a process' exit code once it has ended and its output was written. Raises AgentError."""
        return await self._processes.wait(process)

    async def signal_container(self, container_id: str, signal: int, timeout: float) -> None:
        """Send KILLCONTAINER. Raises AgentError."""
        await self._processes.signal_container(container_id, signal, timeout)

    async def signal(self, process: GuestProcessId, signal: int, timeout: float) -> None:
        """Send a signal to one process. Raises NotSupportedError if the guest cannot, AgentError."""
        await self._processes.signal(process, signal, timeout)

    async def close_output(self, process: GuestProcessId, errors: bool, timeout: float) -> None:
        """Send a CLOSE for the output or error output of a process. Raises NotSupportedError, AgentError."""
        self._processes.close_output(process, errors=errors)

    async def resize(self, process: GuestProcessId, rows: int, columns: int, timeout: float) -> None:
        """Send WINSIZE. Raises AgentError."""
        await self._processes.resize(process, rows, columns, timeout)

    async def adopt(self, process: GuestProcessId, io: ProcessIO) -> None:
        """Attach streams to a container's process that a former host started. Raises AgentError."""
        self._takeover.adopt(process, io)
