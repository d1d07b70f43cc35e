"""The host's side of a guest that is reached through its SSH daemon."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import json
import secrets
import signal as signals
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from vc_agent_sshd import shell
from vc_agent_sshd.config import SshdConfig
from vc_agent_sshd.connection import Connection
from vc_agent_sshd.keys import ManagedKeys, given_keys
from vc_agent_sshd.session import Session
from vc_core.agent import (
    Agent,
    AgentCapability,
    Confinement,
    GuestContainer,
    OpenChannel,
    Process,
    ProcessIO,
    TerminalSize,
)
from vc_core.config import Cmd, EnvVar
from vc_core.context import PodContext
from vc_core.devices import Device, GuestPort, SharedDirectory
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
from vc_core.limits import RLimit
from vc_core.network import GuestNetwork
from vc_core.spawner import Spawner, SpawnTarget

#: The name of the guest's SSH port as a channel, and the port.
PORT_NAME, PORT = "ssh", 22

#: Mount tags: the root file systems, the same once more with nothing of it cached, what containers may write to, keys.
SHARE_TAG, LIVE_TAG, WRITABLE_TAG, KEYS_TAG = "vcShare", "vcLive", "vcWritable", "vcKeys"

#: How each is mounted. Below the root of a container that runs the host changes nothing.
_SHARES = {SHARE_TAG: "ro,cache=loose", LIVE_TAG: "ro,cache=none", WRITABLE_TAG: "rw,cache=none"}

#: Where everything of a pod lies in the guest, for root and, below the home directory, for others.
_HOME, _USERS_HOME = "/run/vc-sshd", ".vc-sshd"

#: The number of the daemon in a guest of our own, which powers off when it ends.
_DAEMON = "/run/ssh/pid"

#: Seconds to get a lost connection back before the guest counts as lost.
_RECONNECT_DEADLINE = 5.0

#: Seconds for a command that nobody set a deadline for.
_DEADLINE = 10.0

#: Seconds for the last output of the containers when the connection is closed.
_DETACH_DEADLINE = 2.0

#: More than any number of a process (PID_MAX_LIMIT of linux/threads.h).
_PID_MAX = 4 * 1024 * 1024

#: Commands that ended whose exit codes are kept.
_ENDED_MAX = 256

#: Process id of a container's first process.
_FIRST = "first"


@dataclass(frozen=True, slots=True)
class _Spec:
    """What further processes of a container take over from it; the guest keeps it for who connects anew."""

    confinement: Confinement
    envs: tuple[EnvVar, ...]


@dataclass(slots=True)
class _Container:
    """A container that runs or ran: its first process in the guest, its streams, and the wait for its end."""

    pid: int
    spec: _Spec
    io: ProcessIO
    session: Session
    watch: asyncio.Task[None]
    end: asyncio.Future[int]


@dataclass(slots=True)
class _Command:
    """A further process: the number of the shell above it in the guest, and the wait for its end."""

    pid: int
    session: Session
    end: asyncio.Task[int]


class SshdAgent(Agent):
    """Reaches into one pod's guest over one SSH connection with a session for each process."""

    def __init__(
        self, pod: PodContext, config: SshdConfig, spawner: Spawner | None, saved: Mapping[str, object] | None
    ) -> None:
        self._pod, self._config, self._spawner = pod, config, spawner
        self._user = config.username or (getpass.getuser() if config.server else "root")
        self._home = f"{_HOME if self._user == 'root' else _USERS_HOME}/{pod.id}"
        self._hostname = str((saved or {}).get("hostname", pod.id))
        self._managed = ManagedKeys(pod.run_dir)
        self._connection: Connection | None = None
        self._containers: dict[str, _Container] = {}
        self._commands: dict[str, _Command] = {}
        self._shared: set[str] = set()  #: tags of shares that are mounted in the guest
        self._tasks: set[asyncio.Task[Any]] = set()
        self._lost: asyncio.Future[str] | None = None
        self._broken = False  #: the connection was lost and the containers' streams are not taken again yet
        self._closing = False

    @property
    def capabilities(self) -> frozenset[AgentCapability]:
        """What this agent can do; only a guest of its own has a network to configure."""
        can = {
            AgentCapability.EXEC,
            AgentCapability.STREAMS,
            AgentCapability.SIGNAL,
            AgentCapability.TERMINAL,
            AgentCapability.POD,
            AgentCapability.MOUNTS,
            AgentCapability.ADD_CONTAINER,
            AgentCapability.LIMITS,
            AgentCapability.REATTACH,
        }
        return frozenset(can if self._config.server else can | {AgentCapability.NETWORK})

    def devices(self) -> Sequence[Device]:
        """Return the directories shared with the guest and, for a guest of its own, its SSH port and keys."""
        pod = self._pod
        shares = [SharedDirectory(tag, pod.share_dir) for tag in (SHARE_TAG, LIVE_TAG)]
        if pod.writable_dir is not None:
            shares.append(SharedDirectory(WRITABLE_TAG, pod.writable_dir, read_only=False))
        if self._config.server:
            return shares
        return [GuestPort(PORT_NAME, PORT), SharedDirectory(KEYS_TAG, self._managed.guest_dir), *shares]

    async def prepare(self) -> None:
        """Make the keys of a guest of its own."""
        if not self._config.server:
            await asyncio.to_thread(self._managed.make)

    # Connecting.

    async def connect(self, open_channel: OpenChannel, deadline: float) -> None:
        """Log in to the guest, trying until it lets us."""
        config = self._config
        self._lost = asyncio.get_running_loop().create_future()
        if config.server:
            families = {"tcp": socket.AF_UNSPEC, "tcp4": socket.AF_INET, "tcp6": socket.AF_INET6}
            where = {"host": config.server, "port": config.port, "family": families[config.protocol]}

            async def dial() -> dict[str, Any]:
                return where

            what = f"server {config.server!r} port {config.port}"
            self._connection = Connection(what, self._user, dial, lambda: given_keys(config), keepalive=True)
        else:

            async def dial() -> dict[str, Any]:
                return {"sock": await open_channel(PORT_NAME), "host": self._pod.id}

            what = f"the guest of pod {self._pod.id!r}"
            self._connection = Connection(what, self._user, dial, self._managed.read, keepalive=False)
        self._connection.on_lost = self._on_lost
        await self._connection.open(deadline)

    async def aclose(self) -> None:
        """Close the connection; containers run on, commands lose their streams."""
        self._closing = True
        if self._connection is not None:
            if not self._broken:
                with contextlib.suppress(VCError):
                    await self._detach()
            await self._connection.aclose()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._fail_containers(AgentConnectError(f"the agent of pod {self._pod.id!r} was closed"))

    async def _detach(self) -> None:
        """Let the containers' output wait in the guest, and take what has left it."""
        running = {name: one for name, one in self._containers.items() if not one.end.done()}
        for name in running:
            await self._call(_DETACH_DEADLINE, "detach", name)
        if running:
            await asyncio.wait({one.watch for one in running.values()}, timeout=_DETACH_DEADLINE)

    async def wait_lost(self) -> str:
        """Return why the connection could not be made again, once that happens."""
        assert self._lost is not None, "the core connects first"
        return await asyncio.shield(self._lost)

    def _on_lost(self) -> None:
        """Get the connection back at once: containers run on, and their output waits."""
        if not self._broken:
            self._broken = True
            self._spawn(self._recover())

    async def _recover(self) -> None:
        assert self._lost is not None
        try:
            connection = self._connected()
            while not connection.alive:
                await connection.open(_RECONNECT_DEADLINE)
                with contextlib.suppress(AgentConnectError):  # it was lost again
                    for name, container in list(self._containers.items()):
                        if not container.end.done():
                            await self._attach(name, container.io, container.end)
            self._broken = False
        except VCError as error:
            if not self._lost.done():
                self._lost.set_result(str(error))
            self._fail_containers(AgentConnectError(f"the connection to the guest was lost: {error}"))

    def _fail_containers(self, error: AgentError) -> None:
        for container in self._containers.values():
            if not container.end.done():
                container.end.set_exception(error)
                container.end.exception()  # nobody need wait for it

    def _connected(self) -> Connection:
        if self._connection is None:
            raise AgentConnectError(f"the agent of pod {self._pod.id!r} is not connected")
        return self._connection

    async def _call(self, deadline: float, *words: str, lines: str = "") -> str:
        """Run containers.sh, or ``lines`` of a shell, and return what it prints. Raises AgentError with its words."""
        what = words[0] if words else "setup"
        line = lines or shell.line(["sh", f"{self._home}/containers.sh", *words])
        session: Session | None = None
        began = time.monotonic()
        ssh = await self._connected().open(deadline)
        try:
            async with asyncio.timeout(deadline - (time.monotonic() - began)):
                session = await Session.start(ssh, what, line)
                output, said = await asyncio.gather(session.output(), session.error_output())
                code = await session.wait()
        except TimeoutError as error:
            if isinstance(error, VCError):
                raise
            raise AgentTimeoutError(f"the guest did not do {what} within {deadline:g} s") from error
        finally:
            if session is not None:
                session.close()
        if code:
            raise AgentError(f"the guest cannot do {what}: {_failure(said)[1] or f'exit code {code}'}")
        return output.decode(errors="replace")

    # The pod.

    async def start_pod(
        self, hostname: str, root_fs: str, deadline: float, network: GuestNetwork | None = None
    ) -> None:
        """Put the scripts into the guest, and configure its host name and network."""
        if root_fs:
            raise NotSupportedError("agent sshd gives a pod no root file system of its own; leave root_fs empty")
        self._hostname = hostname
        await self._call(deadline, lines=shell.setup(self._home, "" if self._config.server else hostname))
        if network is not None:
            await self._call(deadline, lines=shell.network(network, self._home))

    async def stop_pod(self, deadline: float) -> None:
        """End all containers, and power a guest of its own off."""
        with contextlib.suppress(AgentConnectError):  # it may power off before its answer has left
            await self._call(deadline, "remove_all")
            if not self._config.server:
                await self._call(deadline, lines=f"kill $(cat {_DAEMON})")

    # Containers.

    async def start_container(self, container: GuestContainer, io: ProcessIO, deadline: float) -> Process:
        """Start a container in namespaces of its own; its session is its streams."""
        if container.disk is not None:
            raise NotSupportedError(f"agent sshd cannot use a disk as the root of container {container.id!r}")
        root = await self._source(SHARE_TAG, container.root_fs, deadline)
        mounts: list[str] = []
        for mount in container.mounts:
            source = await self._source(LIVE_TAG if mount.read_only else WRITABLE_TAG, mount.source, deadline)
            mounts += [source, mount.target, "read-only" if mount.read_only else "writable"]
        spec = _Spec(container.confinement, tuple(container.cmd.envs))
        has_input = io.has_input and container.terminal is None
        line = shell.run_container(
            self._home, self._hostname, container, root, mounts, _spec_line(spec), has_input=has_input
        )
        what = f"container {container.id!r}"
        undo = partial(self._call, _DEADLINE, "remove", container.id)
        session, first = await self._begin(what, line, deadline, lambda _: undo(), container.terminal)
        words = first.split(" ")
        if words[0] != "ok":
            code, said = _failure(first)
            session.close()
            if code is None:
                raise AgentError(f"cannot start {what}: {said or 'the guest does not say why'}")
            raise CommandError(f"cannot run {container.cmd.args[0][:200]!r} in {what}: {said}", exit_code=code)
        end: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._watch(container.id, io, session, words, spec, end, has_input)
        return Process(container.id, _FIRST)

    async def _source(self, tag: str, place: str, deadline: float) -> str:
        """Return where the guest finds what lies at ``place`` below a share; an absolute path is the guest's own."""
        if place.startswith("/"):
            return place
        if not place or ".." in place.split("/"):
            raise ConfigError(f"{place!r} is not below the pod's shared directory")
        if tag not in self._shared:
            await self._call(deadline, "share", tag, _SHARES[tag])
            self._shared.add(tag)
        return f"{self._home}/shares/{tag}/{place}"

    def _watch(
        self,
        container_id: str,
        io: ProcessIO,
        session: Session,
        words: Sequence[str],
        spec: _Spec,
        end: asyncio.Future[int],
        keeps_input: bool,
    ) -> None:
        """Note a container that runs, and move its streams until it ends.

        ``words``: what the guest said of it. ``keeps_input``: the guest keeps its input open, whatever connections come
        and go, until it is told to end it.
        """
        try:
            pid = _pid(words)
        except AgentProtocolError:
            session.close()
            raise

        async def end_input() -> None:
            await self._call(_DEADLINE, "end_input", container_id)

        async def watch() -> None:
            try:
                code = await session.carry(io, end_input if keeps_input else None)
            except AgentConnectError:
                return  # the container runs on, and the connection is on its way back
            if not (end.done() or self._closing):
                end.set_result(code)

        self._containers[container_id] = _Container(pid, spec, io, session, self._spawn(watch()), end)

    async def _attach(self, container_id: str, io: ProcessIO, end: asyncio.Future[int]) -> None:
        """Take the streams of a container that was started over a connection that is no more."""
        line = shell.line(["sh", f"{self._home}/containers.sh", "attach", container_id])
        session, first = await self._begin(f"container {container_id!r}", line, _DEADLINE, None)
        words = first.split(" ", 3)
        if words[0] != "ok" or len(words) != 4:
            session.close()
            raise AgentError(f"the guest does not know container {container_id!r}")
        self._watch(container_id, io, session, words, _spec_of(words[3]), end, keeps_input=True)

    async def adopt(self, process: Process, io: ProcessIO) -> None:
        """Take the streams of a container that a former host started."""
        await self._attach(process.container_id, io, asyncio.get_running_loop().create_future())

    async def signal_container(self, container_id: str, signal: int, deadline: float) -> None:
        """Send a signal to a container's program."""
        container = self._containers.get(container_id)
        if container is None or not container.end.done() or container.end.exception():
            await self._call(deadline, "signal_container", container_id, str(int(signal)))

    async def remove_container(self, container_id: str, deadline: float) -> None:
        """Remove what the guest keeps of a container."""
        await self._call(deadline, "remove", container_id)
        self._containers.pop(container_id, None)

    # Commands.

    async def exec(
        self, container_id: str, cmd: Cmd, io: ProcessIO, deadline: float, terminal: TerminalSize | None = None
    ) -> Process:
        """Run a command: in a container through the spawner; without one, or in the pod, in the guest itself."""
        line = self._command(container_id, cmd)
        what = f"{cmd.args[0][:200]!r}"

        async def undo(pid: str) -> None:
            if pid.isdecimal():
                await self._call(_DEADLINE, "signal_command", pid, str(int(signals.SIGKILL)))

        session, first = await self._begin(what, line, deadline, undo, terminal)
        if not first.isdecimal():
            session.close()
            raise AgentError(f"cannot run {what} in the guest: {first or await session.error_output()}")
        process = Process(container_id, secrets.token_hex(8))
        end = self._spawn(session.carry(io))
        end.add_done_callback(lambda task: task.cancelled() or task.exception())  # nobody need wait for it
        self._forget_commands()
        self._commands[process.process_id] = _Command(int(first), session, end)
        return process

    def _forget_commands(self) -> None:
        """Keep no more than some of the commands that have ended, for who waits late."""
        ended = [name for name, one in self._commands.items() if one.end.done()]
        for name in ended[:-_ENDED_MAX]:
            del self._commands[name]

    def _command(self, container_id: str, cmd: Cmd) -> str:
        if not container_id or self._spawner is None:
            return shell.in_guest(cmd, f"{self._home}/tools")
        container = self._containers.get(container_id)
        if container is None or container.end.done():
            raise AgentError(f"container {container_id!r} does not run")
        confinement = container.spec.confinement
        limited = confinement.memory or confinement.pids
        names = {variable.var for variable in cmd.envs}
        inherited = tuple(variable for variable in container.spec.envs if variable.var not in names)
        return shell.in_container(
            self._spawner,
            SpawnTarget(container_id, container.pid),
            replace(cmd, envs=(*inherited, *cmd.envs)),
            confinement,
            f"/sys/fs/cgroup/vc-{self._pod.id}-{container_id}" if limited else "",
        )

    async def _begin(
        self,
        what: str,
        line: str,
        deadline: float,
        undo: Callable[[str], Awaitable[object]] | None,
        terminal: TerminalSize | None = None,
    ) -> tuple[Session, str]:
        """Start a session and return it with the line that it says first.

        ``undo`` is called with that line when whoever started it has stopped waiting. Raises AgentError.
        """
        starting = self._spawn(self._start_session(what, line, deadline, terminal))
        try:
            async with asyncio.timeout(deadline):
                return await asyncio.shield(starting)
        except BaseException as error:
            self._spawn(self._abandon(starting, undo))
            if isinstance(error, TimeoutError) and not isinstance(error, VCError):
                raise AgentTimeoutError(f"the guest did not start {what} within {deadline:g} s") from error
            raise

    async def _start_session(
        self, what: str, line: str, deadline: float, terminal: TerminalSize | None
    ) -> tuple[Session, str]:
        ssh = await self._connected().open(deadline)
        session = await Session.start(ssh, what, line, terminal)
        return session, await session.first_line()

    async def _abandon(
        self, starting: asyncio.Task[tuple[Session, str]], undo: Callable[[str], Awaitable[object]] | None
    ) -> None:
        with contextlib.suppress(VCError, TimeoutError):
            async with asyncio.timeout(_DEADLINE):
                session, first = await starting
                session.close()
                if undo is not None:
                    await undo(first)

    async def wait(self, process: Process) -> int:
        """Return a process' exit code once it ended and its output was handed over."""
        if process.process_id == _FIRST:
            container = self._containers.get(process.container_id)
            if container is None:
                raise _unknown(process)
            return await asyncio.shield(container.end)
        command = self._commands.get(process.process_id)
        if command is None:
            raise _unknown(process)
        try:
            return await asyncio.shield(command.end)
        except asyncio.CancelledError:
            if command.end.cancelled():
                raise AgentConnectError(f"the agent of pod {self._pod.id!r} was closed") from None
            raise

    async def signal(self, process: Process, signal: int, deadline: float) -> None:
        """Send a signal to a process."""
        if process.process_id == _FIRST:
            await self.signal_container(process.container_id, signal, deadline)
            return
        command = self._commands.get(process.process_id)
        if command is None:
            raise _unknown(process)
        if not command.end.done():
            await self._call(deadline, "signal_command", str(command.pid), str(int(signal)))

    async def resize(self, process: Process, rows: int, columns: int, deadline: float) -> None:
        """Tell a process' terminal its size."""
        if process.process_id == _FIRST:
            running: _Container | _Command | None = self._containers.get(process.container_id)
        else:
            running = self._commands.get(process.process_id)
        if running is None:
            raise _unknown(process)
        if not running.end.done():
            running.session.resize(TerminalSize(rows, columns))

    def save(self) -> Mapping[str, object]:
        """Return the host name; all else is in the guest, or below the pod's run directory."""
        return {"hostname": self._hostname}

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _spec_line(spec: _Spec) -> str:
    """Return a specification as one line of ASCII."""
    return json.dumps({"confinement": asdict(spec.confinement), "envs": [str(one) for one in spec.envs]})


def _spec_of(line: str) -> _Spec:
    """Return the specification that the guest kept. Raises AgentProtocolError."""
    try:
        told = json.loads(line)
        limits = told["confinement"]
        limits["rlimits"] = tuple(RLimit(**one) for one in limits["rlimits"])
        limits["capabilities"] = tuple(limits["capabilities"])
        return _Spec(Confinement(**limits), tuple(EnvVar.parse(one) for one in told["envs"]))
    except (ValueError, KeyError, TypeError) as error:
        raise AgentProtocolError(f"what the guest says of a container cannot be read: {error}") from error


def _pid(words: Sequence[str]) -> int:
    """Return the process that a line of the guest's, "ok PID ...", names. Raises AgentProtocolError."""
    if len(words) < 2 or not words[1].isdecimal() or not 1 < int(words[1]) < _PID_MAX:
        raise AgentProtocolError(f"the guest names {' '.join(words)[:80]!r} as a container's process")
    return int(words[1])


def _failure(said: str) -> tuple[int | None, str]:
    """Return the exit code and the words of what the guest says of a failure, "error CODE words" or any text."""
    word, _, rest = said.partition(" ")
    code, _, words = rest.partition(" ")
    if word == "error" and code in ("125", "126", "127"):
        return int(code), words
    return None, said


def _unknown(process: Process) -> AgentError:
    return AgentError(f"the guest has no process {process.process_id!r} of container {process.container_id!r}")
