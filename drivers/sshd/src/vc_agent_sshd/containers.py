"""The containers of one pod: starting, attaching to their streams, signalling, waiting for and removing them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from vc_agent_sshd import shell
from vc_agent_sshd.calls import UNATTENDED_TIMEOUT, Calls, SessionRefusedError, failure
from vc_core.driver import Confinement, EnvVar, GuestContainer, GuestProcessId, ProcessIO, RLimit, TerminalSize
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

if TYPE_CHECKING:
    from vc_agent_sshd.session import Session

#: Process id of a container's first process.
FIRST = "first"

#: Mount tags: of the root file systems, of the same directory uncached, of what containers may write to, and of the
#: root file systems that they may write to.
SHARE_TAG, LIVE_TAG, WRITABLE_TAG, ROOTS_TAG = "vcShare", "vcLive", "vcWritable", "vcRoots"

#: Mount options of each. Below the root of a container that runs the host changes nothing, so it may be cached.
_MOUNT_OPTIONS: Mapping[str, str] = MappingProxyType(
    {
        SHARE_TAG: "ro,cache=loose",
        LIVE_TAG: "ro,cache=none",
        WRITABLE_TAG: "rw,cache=none",
        ROOTS_TAG: "rw,nodev,cache=mmap",  # programs map files of theirs shared
    }
)

#: Seconds for the last output of the containers when the connection is closed.
_DETACH_TIMEOUT = 5.0

#: More than any number of a process (PID_MAX_LIMIT of linux/threads.h).
_PID_MAX = 4 * 1024 * 1024


class _LostError(AgentError):
    """The guest does not have a container, or not in a state in which the agent could attach to it."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What further processes of a container inherit from it. The guest stores it and returns it at ``attach``."""

    confinement: Confinement
    envs: tuple[EnvVar, ...]

    def to_line(self) -> str:
        """Return the specification as one line of ASCII."""
        return json.dumps({"confinement": asdict(self.confinement), "envs": [str(one) for one in self.envs]})

    @classmethod
    def from_line(cls, line: str) -> Spec:
        """Return the specification that the guest stored. Raises AgentProtocolError."""
        try:
            stored = json.loads(line)
            limits = stored["confinement"]
            limits["rlimits"] = tuple(RLimit(**one) for one in limits["rlimits"])
            limits["capabilities"] = tuple(limits["capabilities"])
            return cls(Confinement(**limits), tuple(EnvVar.parse(one) for one in stored["envs"]))
        except (ValueError, KeyError, TypeError) as error:
            raise AgentProtocolError(f"the guest's specification of a container is not valid: {error}") from error


@dataclass(slots=True)
class Container:
    """A container that was started: its first process in the guest, its streams, and its end.

    ``watch`` moves the streams over the present connection; ``end`` outlives the connection.
    """

    pid: int
    spec: Spec
    io: ProcessIO
    session: Session
    watch: asyncio.Task[None]
    end: asyncio.Future[int]


class Containers:
    """The containers of one pod. Calls of the agent end here; ``timeout`` is in seconds."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._containers: dict[str, Container] = {}
        self._mounted: set[str] = set()  #: tags of shares that are mounted in the guest
        self._closing = False

    async def start(self, container: GuestContainer, io: ProcessIO, hostname: str, timeout: float) -> GuestProcessId:
        """Start a container in namespaces of its own; its streams are those of the session that starts it.

        Raises NotSupportedError, ConfigError, CommandError if its program cannot be executed, else AgentError.
        """
        if container.disk is not None:
            raise NotSupportedError(f"agent sshd cannot use a disk as the root of container {container.id!r}")
        root = await self._source(ROOTS_TAG if container.writable_root_fs else SHARE_TAG, container.root_fs, timeout)
        mounts: list[str] = []
        for mount in container.mounts:
            source = await self._source(LIVE_TAG if mount.read_only else WRITABLE_TAG, mount.source, timeout)
            mounts += [source, mount.target, "read-only" if mount.read_only else "writable"]
        spec = Spec(container.confinement, tuple(container.cmd.envs))
        has_input = io.has_input and container.terminal is None
        line = shell.run_container(
            self._calls.home, hostname, container, root, mounts, spec.to_line(), has_input=has_input
        )
        what = f"container {container.id!r}"

        async def undo(first: str) -> None:
            if first.startswith("ok "):  # else the id may be that of another container
                await self._calls.run_script(UNATTENDED_TIMEOUT, "remove", container.id)

        session, first = await self._calls.begin(what, line, timeout, undo, container.terminal)
        words = first.split(" ")
        try:
            if words[0] != "ok":
                code, reason = failure(first or await session.error_output())
                await session.wait()  # it removes what it has made, which would be in the way of the next attempt
                if code is None:
                    raise AgentError(f"cannot start {what}: {reason or 'the guest gives no reason'}")
                raise CommandError(f"cannot run {container.cmd.args[0][:200]!r} in {what}: {reason}", exit_code=code)
            end: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            self._watch(container.id, io, session, words, spec, end, has_input)
        except BaseException:
            session.close()
            raise
        return GuestProcessId(container.id, FIRST)

    async def _source(self, tag: str, path: str, timeout: float) -> str:
        """Mount a share and return where ``path`` of it is in the guest; an absolute path is one of the guest itself.

        Raises ConfigError for a path that leads out of the share, AgentError if it cannot be mounted.
        """
        if path.startswith("/"):
            return path
        if not path or ".." in path.split("/"):
            raise ConfigError(f"{path!r} is not below the pod's shared directory")
        if tag not in self._mounted:
            await self._calls.run_script(timeout, "share", tag, _MOUNT_OPTIONS[tag])
            self._mounted.add(tag)
        return f"{self._calls.home}/shares/{tag}/{path}"

    def _watch(
        self,
        container_id: str,
        io: ProcessIO,
        session: Session,
        words: Sequence[str],
        spec: Spec,
        end: asyncio.Future[int],
        keeps_input: bool,
    ) -> None:
        """Add a container that runs, and move its streams until it ends.

        ``words`` are the guest's report, "ok PID ...". ``keeps_input``: the guest keeps the container's input open
        over all connections, until a call ends it. Raises AgentProtocolError for a pid that cannot be one.
        """
        pid = _pid(words)
        before = self._containers.get(container_id)

        async def end_input() -> None:
            await self._calls.run_script(UNATTENDED_TIMEOUT, "end_input", container_id)

        async def watch() -> None:
            if before is not None:  # a write that waits for its reader must not be overtaken
                await asyncio.wait({before.watch})
            try:
                code = await session.carry(io, end_input if keeps_input else None)
            except AgentConnectError:
                return  # the container runs on, and the agent connects again
            if not (end.done() or self._closing):
                end.set_result(code)

        self._containers[container_id] = Container(pid, spec, io, session, self._calls.spawn(watch()), end)

    async def attach(self, container_id: str, io: ProcessIO, end: asyncio.Future[int] | None = None) -> None:
        """Attach to the streams of a container that was started over another connection.

        ``end`` is the future of its exit code if there is one already. Raises AgentError for a container that the
        guest does not have, SessionRefusedError.
        """
        line = self._calls.script_line("attach", container_id)
        session, first = await self._calls.begin(f"container {container_id!r}", line, UNATTENDED_TIMEOUT, None)
        words = first.split(" ", 3)
        try:
            if words[0] != "ok" or len(words) != 4:
                raise await self._not_attached(container_id, session)
            end = end or asyncio.get_running_loop().create_future()
            try:
                self._watch(container_id, io, session, words, Spec.from_line(words[3]), end, keeps_input=True)
            except AgentProtocolError as error:
                raise _LostError(str(error)) from error
        except AgentError:
            session.close()
            raise

    async def _not_attached(self, container_id: str, session: Session) -> AgentError:
        """Return why the guest has not attached a session to a container.

        Raises AgentConnectError, AgentTimeoutError.
        """
        try:
            async with asyncio.timeout(UNATTENDED_TIMEOUT):
                code, reason = failure(await session.error_output())
                await session.wait()  # raises AgentConnectError if the connection was lost before an answer
        except TimeoutError as error:
            raise AgentTimeoutError(f"the guest did not attach to container {container_id!r}") from error
        if code is not None:
            return _LostError(f"the guest has no container {container_id!r}")
        return AgentError(f"cannot attach to container {container_id!r}: {reason or 'the guest gives no reason'}")

    async def attach_all(self) -> None:
        """Attach to all containers that run, over a new connection.

        Ends the wait for one that the guest does not have any more, or for which its daemon opens no session, with an
        error. Raises AgentError when the guest is of no use for any.
        """
        for container_id, container in list(self._containers.items()):
            if not container.end.done():
                try:
                    await self.attach(container_id, container.io, container.end)
                except (_LostError, SessionRefusedError) as error:
                    _fail(container, error)

    async def detach_all(self) -> None:
        """Leave the containers' further output in the guest, and write what has left it already."""
        running = {name: one for name, one in self._containers.items() if not one.end.done()}
        with contextlib.suppress(VCError):
            for name in running:
                await self._calls.run_script(_DETACH_TIMEOUT, "detach", name)
            if running:
                await asyncio.wait({one.watch for one in running.values()}, timeout=_DETACH_TIMEOUT)

    def close(self) -> None:
        """Record no more ends: from now on a session ends because the agent leaves the guest."""
        self._closing = True

    def fail_all(self, error: AgentError) -> None:
        """End the wait for all containers with an error."""
        for container in self._containers.values():
            _fail(container, error)

    def running(self, container_id: str) -> Container:
        """Return a container whose first process runs. Raises AgentError."""
        container = self._containers.get(container_id)
        if container is None or container.end.done():
            raise AgentError(f"container {container_id!r} does not run")
        return container

    async def wait(self, process: GuestProcessId) -> int:
        """Return a container's exit code once it has ended and its output was written.

        Raises AgentError for a container that there is not, AgentConnectError when the guest is lost.
        """
        return await asyncio.shield(self._find(process).end)

    async def signal(self, container_id: str, signal: int, timeout: float) -> None:
        """Send a signal to a container's first process, unless it has ended. Raises AgentError."""
        container = self._containers.get(container_id)
        if container is None or not container.end.done() or container.end.exception():
            await self._calls.run_script(timeout, "signal_container", container_id, str(int(signal)))

    def resize(self, process: GuestProcessId, size: TerminalSize) -> None:
        """Set the size of a container's terminal, unless it has ended. Raises AgentError."""
        container = self._find(process)
        if not container.end.done():
            container.session.resize(size)

    async def remove(self, container_id: str, timeout: float) -> None:
        """Remove all that the guest has of a container. Raises AgentError."""
        await self._calls.run_script(timeout, "remove", container_id)
        self._containers.pop(container_id, None)

    def _find(self, process: GuestProcessId) -> Container:
        container = self._containers.get(process.container_id)
        if container is None:
            raise no_process(process)
        return container


def _fail(container: Container, error: AgentError) -> None:
    """End the wait for a container with an error, unless it has ended."""
    if not container.end.done():
        container.end.set_exception(error)
        container.end.exception()  # marks it as retrieved: there need not be a waiter


def no_process(process: GuestProcessId) -> AgentError:
    """Return the error for a process that the guest does not have."""
    return AgentError(f"the guest has no process {process.process_id!r} of container {process.container_id!r}")


def _pid(words: Sequence[str]) -> int:
    """Return the process that the guest's report, "ok PID ...", names. Raises AgentProtocolError."""
    if len(words) < 2 or not words[1].isdecimal() or not 1 < int(words[1]) < _PID_MAX:
        raise AgentProtocolError(f"the guest names {' '.join(words)[:80]!r} as a container's process")
    return int(words[1])
