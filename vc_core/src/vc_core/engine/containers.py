"""The running containers of one pod: main processes, streams, and the tasks that record how they end."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from vc_core import failpoints
from vc_core.config import signals
from vc_core.config.container import ContainerConfig
from vc_core.config.ids import pod_uuid
from vc_core.driver.agent import (
    Agent,
    AgentCapability,
    GuestContainer,
    GuestDisk,
    GuestMount,
    GuestProcessId,
)
from vc_core.driver.hypervisor import HypervisorCapability
from vc_core.driver.terminal import TerminalSize
from vc_core.engine.assembly import disk_id, root_disk
from vc_core.engine.commands import completed
from vc_core.engine.demands import check_command, check_container, check_freeze, check_writable_root, confinement
from vc_core.engine.ledger import Ledger
from vc_core.engine.machine import AGENT_TIMEOUT, SIGKILL, SIGTERM, START_TIMEOUT, Machine, finish, started
from vc_core.engine.streams import AttachedIO, ClosableIO, ConsoleIO, LoggedIO, SharedInput
from vc_core.errors import AgentError, NotSupportedError, StorageError, VCError
from vc_core.frozen import frozen
from vc_core.host import quota, share, sources
from vc_core.host.paths import Rules
from vc_core.host.sources import ContainerSources, Source
from vc_core.states import State
from vc_core.store.events import OUT_OF_MEMORY
from vc_core.store.roots import Roots

#: Seconds for the guest to be asked to kill a container whose pod is being stopped; the VM is stopped next.
_KILL_TIMEOUT = 1.0

#: Turns of the event loop from an agent's report of an end to its record, or to the next request to the guest, and some
#: more.
_TURNS = 30

_log = logging.getLogger(__name__)


@frozen
class _Running:
    """A container's main process: its name at the agent, its streams, and the task that waits for its end.

    ``ended`` is set when the process has ended, before that is on record.
    """

    process: GuestProcessId
    io: ClosableIO
    watch: asyncio.Task[None]
    ended: asyncio.Event


@frozen
class SharedDirectories:
    """The directories that a pod shares with its guest; None for those that it does not have."""

    read_only: Path | None = None
    writable: Path | None = None  #: for mounts
    roots: Path | None = None  #: for root file systems that containers write to

    @property
    def all(self) -> list[Path]:
        """Those that there are."""
        return list(filter(None, (self.read_only, self.writable, self.roots)))


@frozen
class Attachment:
    """The streams of a container that starts in a client's foreground.

    ``terminal``: the size of the terminal that it runs on, None for no terminal.
    """

    io: AttachedIO
    terminal: TerminalSize | None = None


class Containers:
    """The running containers of one pod.

    Made with the engine, and anew at each start and takeover. ``shared`` are the pod's shared directories. No guest
    sees ``roots``. ``spawn`` runs a task until the engine closes.
    """

    def __init__(
        self,
        ledger: Ledger,
        roots: Roots,
        shared: SharedDirectories,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._ledger, self._shared, self._spawn = ledger, shared, spawn
        self._roots = roots
        self._running: dict[str, _Running] = {}
        #: True while the pod is taken down: containers that end meanwhile did not end by themselves.
        self.stopping = False

    @property
    def writes_roots(self) -> bool:
        """Whether containers can write to the directories that are their roots."""
        return self._shared.roots is not None

    async def start(
        self,
        machine: Machine,
        config: ContainerConfig,
        attachment: Attachment | None,
        opened: ContainerSources | None = None,
    ) -> None:
        """Start a container, for the first time or again. Takes over the streams of ``attachment``.

        ``opened``: its sources, if they are open already; the caller closes them.
        Raises ConfigError, NotSupportedError, StorageError, HypervisorError, CommandError and other AgentErrors;
        nothing of the start is left then but the size limits of mounts, which stay until the container is deleted.
        """
        agent = machine.agent
        confined = confinement(agent, config)
        check_container(agent, config, self._ledger.config.shm_size)
        check_command(agent, f"the command of container {config.id!r}", config.cmd)
        io, terminal = self._streams(config, attachment)
        process: GuestProcessId | None = None

        async def note(late: GuestProcessId) -> None:
            nonlocal process
            process = late

        try:
            if self._ledger.container(config.id).process:
                await self.remove(machine, config.id)
            with ExitStack() as stack:
                if opened is None:
                    opened = await self._open_sources(machine, config, stack)
                await self._limit_mounts(machine, config, opened)
                root_fs, disk = await self._attach_root(machine, config, opened)
                mounts = self._share_mounts(machine, config, opened)
                failpoints.reach("engine.container.shared")
            guest = GuestContainer(
                id=config.id,
                root_fs=root_fs,
                cmd=completed(config.cmd),
                terminal=terminal,
                mounts=mounts,
                disk=disk,
                writable_root_fs=config.writable_root_fs,
                confinement=confined,
                seccomp=config.seccomp,
                devices=tuple(config.devices),
                shm_size=self._ledger.config.shm_size,
            )
            process = await started(agent.start_container(guest, io, START_TIMEOUT), note)
            failpoints.reach("engine.container.started")
            self._ledger.commit_container(
                config.id,
                machine.saved(),
                state=State.RUNNING,
                reason="",
                exit_code=None,
                started_at=time.time(),
                ended_at=None,
                process=process.process_id,
                terminal=terminal is not None,
                open_input=io.has_input,
            )
        except BaseException:
            io.close()
            await finish(self._undo_start(machine, config.id, process))
            raise
        self._watch(machine, config.id, process, io)

    async def _undo_start(self, machine: Machine, container_id: str, process: GuestProcessId | None) -> None:
        """Leave nothing of a start that failed. What cannot be undone stays until the pod ends: the failure counts."""
        agent = machine.agent
        if process is not None:  # it runs, but could not be recorded
            with suppress(VCError, TimeoutError):
                await agent.signal_container(container_id, SIGKILL, AGENT_TIMEOUT)
                async with asyncio.timeout(AGENT_TIMEOUT):
                    await agent.wait(process)
                await agent.remove_container(container_id, AGENT_TIMEOUT)
        with suppress(VCError):
            await self.detach_root(machine, container_id)
        with suppress(VCError):
            self.unshare(container_id)
        failpoints.reach("engine.container.undone")

    async def take_over(self, machine: Machine, container_id: str) -> None:
        """Log and wait for a container that a former owner started. One that the agent has lost is recorded as ended.

        Raises StorageError.
        """
        record = self._ledger.container(container_id)
        process = GuestProcessId(container_id, record.process)
        io = LoggedIO(self._ledger.open_log(container_id, resumed=True), keep_stdin_open=record.open_input)
        try:
            await machine.agent.adopt(process, io)
            failpoints.reach("engine.container.adopted")
        except (AgentError, NotSupportedError) as error:
            io.close()
            reason = f"it was lost with the former supervisor: {error}"
            self._ledger.note_end(container_id, state=State.STOPPED, reason=reason)
        except BaseException:
            io.close()
            raise
        else:
            self._watch(machine, container_id, process, io)

    async def stop(self, machine: Machine, container_id: str, patience: float) -> None:
        """End a running container: its stop signal, and SIGKILL after ``patience`` seconds, or at once if that is 0.

        Raises AgentError if it does not end even then.
        """
        watch = self._running[container_id].watch
        if self._ledger.container(container_id).state is State.PAUSED:
            await self.resume(machine, container_id)  # or its stop signal would not reach it
        for signum, seconds in ((self._stop_signal(container_id), patience), (SIGKILL, AGENT_TIMEOUT)):
            if seconds:
                await machine.agent.signal_container(container_id, signum, AGENT_TIMEOUT)
                failpoints.reach("engine.container.signalled")
                done, _ = await asyncio.wait({watch}, timeout=seconds)
                if done:
                    return
        raise AgentError(f"container {container_id!r} does not end even when killed")

    async def pause(self, machine: Machine, container_id: str) -> None:
        """Suspend a running container. Raises NotSupportedError, AgentError, StorageError; then it runs on."""
        check_freeze(machine.agent, container_id)
        await machine.agent.pause_container(container_id, AGENT_TIMEOUT)
        try:
            if container_id in self._running:  # it may have ended meanwhile
                self._ledger.commit_container(container_id, {}, state=State.PAUSED)
        except BaseException:
            await asyncio.shield(machine.agent.resume_container(container_id, AGENT_TIMEOUT))
            raise

    async def resume(self, machine: Machine, container_id: str) -> None:
        """Let a paused container go on. Raises AgentError, StorageError."""
        await machine.agent.resume_container(container_id, AGENT_TIMEOUT)
        if container_id in self._running:
            self._ledger.commit_container(container_id, {}, state=State.RUNNING)

    def _stop_signal(self, container_id: str) -> int:
        return signals.number(self._ledger.container_config(container_id).stop_signal or SIGTERM)

    async def ask_to_end(self, machine: Machine, patience: float) -> None:
        """Send all commands SIGTERM and all containers their stop signals, and SIGKILL to those that do not end.

        Called before the guest is asked to stop, which ends what is left at once or soon, whatever it is doing. Returns
        about ``patience`` seconds later at most. The ends of the containers may not be on record yet.
        """
        running, asked = dict(self._running), False
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await machine.end_commands()
                for name in running:
                    with suppress(VCError):
                        if self._ledger.container(name).state is State.PAUSED:
                            await self.resume(machine, name)
                        await machine.agent.signal_container(name, self._stop_signal(name), AGENT_TIMEOUT)
                asked = True
                for one in running.values():
                    await one.ended.wait()
        for name in [name for name, one in running.items() if asked and not one.ended.is_set()]:
            with suppress(VCError):
                await machine.agent.signal_container(name, SIGKILL, _KILL_TIMEOUT)

    async def wait(self, container_id: str) -> None:
        """Return when a container does not run (any more)."""
        running = self._running.get(container_id)
        if running is not None:
            await asyncio.wait({running.watch})

    def process(self, container_id: str) -> GuestProcessId:
        """Return the main process of a running container. Raises KeyError for one that does not run."""
        return self._running[container_id].process

    def shared_input(self, container_id: str) -> SharedInput | None:
        """Return where clients that attach to a running container give input; None if it takes none from them."""
        running = self._running.get(container_id)
        return None if running is None else running.io.shared_input

    async def finish(self) -> None:
        """Record the ends of all containers and release their streams. Called after the VM ended."""
        watches = [running.watch for running in self._running.values()]
        if watches:
            _, pending = await asyncio.wait(watches, timeout=1)
            for watch in pending:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
        self.close()

    async def settle(self) -> None:
        """Record the ends of containers that the agent reports at once, as of one that was just killed.

        Called before an engine ends after which no supervisor stays, which would record them later.
        """
        await _let_others_work()

    def close(self) -> None:
        """Release the streams."""
        for running in self._running.values():
            running.io.close()
        self._running.clear()

    async def remove(self, machine: Machine, container_id: str) -> None:
        """Remove a container that does not run from the guest, and take back what it was given.

        Called before it is started again or deleted. If a part fails, this may be called again.
        Raises AgentError, HypervisorError, StorageError.
        """
        if self._ledger.container(container_id).process:
            await machine.agent.remove_container(container_id, AGENT_TIMEOUT)
            failpoints.reach("engine.container.forgotten")
            with suppress(StorageError):  # the guest has forgotten it; the next change that the disk takes has this too
                self._ledger.note_end(container_id, process="")
        await self.detach_root(machine, container_id)
        self.unshare(container_id)
        failpoints.reach("engine.container.unshared")

    def unshare(self, container_id: str) -> None:
        """Unbind what a container was given of the host's files. Raises StorageError."""
        for directory in self._shared.all:
            share.unbind(directory, container_id)

    def _streams(
        self, config: ContainerConfig, attachment: Attachment | None
    ) -> tuple[ClosableIO, TerminalSize | None]:
        if attachment is not None:
            return attachment.io, attachment.terminal
        if config.console:
            return ConsoleIO(config.console, self._ledger.open_log(config.id)), TerminalSize()
        return LoggedIO(self._ledger.open_log(config.id), keep_stdin_open=config.interactive), None

    async def _open_sources(
        self, machine: Machine, config: ContainerConfig, stack: ExitStack
    ) -> ContainerSources | None:
        """Return the sources of a container, open until ``stack`` closes; None where nothing is shared."""
        if self._shared.read_only is None:
            return None
        plugged = HypervisorCapability.HOTPLUG not in machine.hypervisor.capabilities
        # On a thread, because their file servers may be slow.
        opened = await asyncio.to_thread(lambda: sources.open_container(config, Rules(self._roots), plugged))
        stack.callback(opened.close)
        return opened

    async def _attach_root(
        self, machine: Machine, config: ContainerConfig, opened: ContainerSources | None
    ) -> tuple[str, GuestDisk | None]:
        """Share a container's root with the guest; return its place below the shared directory, or else its disk."""
        if self._shared.read_only is None or opened is None:
            return config.root_fs, None
        root = opened.root
        disk = root_disk(config, root)
        if disk is None:
            users, directory = machine.hypervisor.user_namespace(), self._shared.read_only
            if config.writable_root_fs:
                check_writable_root(machine.agent, config.id)
                if self._shared.roots is None:
                    raise NotSupportedError(
                        f"container {config.id!r} wants to write to {root.given!r}, its root, but its pod was started "
                        "without writable roots; stop and start the pod, or make it with writable_roots"
                    )
                directory = self._shared.roots
            return share.bind_root(directory, config.id, root, users, not config.writable_root_fs), None
        if AgentCapability.DISKS not in machine.agent.capabilities:
            raise NotSupportedError(
                f"rootfs of container {config.id!r} is the disk {config.root_fs!r}, and the agent of its pod can use "
                "directories only; unpack it"
            )
        if HypervisorCapability.HOTPLUG in machine.hypervisor.capabilities:
            await machine.hypervisor.attach(disk, AGENT_TIMEOUT)
        return "", GuestDisk(machine.hypervisor.disk_location(disk.id), root.fstype)

    async def detach_root(self, machine: Machine, container_id: str) -> None:
        """Detach a container's root from the VM, if it is a disk and the VM can. Raises HypervisorError."""
        if HypervisorCapability.HOTPLUG in machine.hypervisor.capabilities:
            await machine.hypervisor.detach(disk_id(container_id), AGENT_TIMEOUT)

    async def _limit_mounts(self, machine: Machine, config: ContainerConfig, opened: ContainerSources | None) -> None:
        """Set the size limits of a container's mounts. Raises ConfigError."""
        for number, (mount, source) in enumerate(zip(config.mounts, opened.mounts if opened else (), strict=False)):
            if mount.quota and source is not None:
                owner = quota.owner(self._uuid, config.id, number)
                confined = machine.hypervisor.user_namespace() is not None
                if why := await self._limit(source, owner, mount.quota, confined):
                    raise source.refused(why)

    async def _limit(self, source: Source, owner: str, size: int, confined: bool) -> str:
        """Limit a source on a thread, because that visits all of its files; return why it cannot be limited."""
        stop = threading.Event()
        work = asyncio.ensure_future(asyncio.to_thread(quota.limit, source.fd, owner, size, confined, stop))
        try:
            return await asyncio.shield(work)
        except OSError as error:
            return f"cannot be limited to {size} MiB: {error.strerror}"
        except asyncio.CancelledError:
            stop.set()
            await finish(asyncio.wait({work}))  # it uses the source, which is closed next
            raise

    async def lift_limits(self, container_id: str) -> None:
        """Take the size limits from a container's mounts. Called when it is deleted. Raises StorageError."""
        config = self._ledger.container_config(container_id)
        if any(mount.quota for mount in config.mounts):
            await asyncio.to_thread(quota.lift, config, self._uuid)

    @property
    def _uuid(self) -> str:
        return pod_uuid(self._roots.pod_run_dir(self._ledger.record.id))

    def _share_mounts(
        self, machine: Machine, config: ContainerConfig, opened: ContainerSources | None
    ) -> tuple[GuestMount, ...]:
        shared = []
        every: Sequence[Source | None] = opened.mounts if opened else [None] * len(config.mounts)
        for number, (mount, source) in enumerate(zip(config.mounts, every, strict=True)):
            if mount.type == "tmpfs":
                size = mount.size or (config.memory and max(1, config.memory // 4))
                shared.append(GuestMount("", mount.target, False, "tmpfs", size, mount.mode, tuple(mount.options)))
                continue
            directory = self._shared.read_only if mount.read_only else self._shared.writable
            if directory is None or source is None:
                raise NotSupportedError(
                    f"container {config.id!r} wants to write to {mount.source!r}, but its pod was started without "
                    "writable mounts; stop and start the pod, or make it with writable_mounts"
                )
            users = machine.hypervisor.user_namespace()
            place = share.bind_mount(directory, config.id, number, source, mount.read_only, users)
            shared.append(GuestMount(place, mount.target, mount.read_only, options=tuple(mount.options)))
        return tuple(shared)

    def _watch(self, machine: Machine, container_id: str, process: GuestProcessId, io: ClosableIO) -> None:
        ended = asyncio.Event()
        watch = self._spawn(self._wait_end(machine, container_id, process, io, ended))
        self._running[container_id] = _Running(process, io, watch, ended)

    async def _wait_end(
        self, machine: Machine, container_id: str, process: GuestProcessId, io: ClosableIO, ended: asyncio.Event
    ) -> None:
        code: int | None = None
        try:
            code = await machine.while_alive(machine.agent.wait(process))
            failpoints.reach("engine.container.ended")
            reason = await self._why_killed(machine.agent, container_id) if code == 128 + SIGKILL else ""
        except VCError as error:
            reason = "the pod was stopped" if self.stopping else str(error)
        finally:
            ended.set()
        try:
            ended_at = time.time()
            if self.stopping:
                await _let_others_work()  # the guest is asked to stop, and does so while this is written
            self._ledger.note_end(container_id, state=State.STOPPED, reason=reason, exit_code=code, ended_at=ended_at)
        except StorageError as error:
            _log.error("the end of container %r is not recorded yet: %s", container_id, error)
        finally:
            io.close()
            self._running.pop(container_id, None)

    async def _why_killed(self, agent: Agent, container_id: str) -> str:
        """Return the reason of a container that SIGKILL has ended, if that is its memory; else ""."""
        if self.stopping or AgentCapability.STATS not in agent.capabilities:
            return ""
        with suppress(VCError):
            killed = (await agent.stats(container_id, AGENT_TIMEOUT)).oom_kills
            if killed:
                return f"{OUT_OF_MEMORY}: the guest's kernel killed {killed} of its processes"
        return ""


async def _let_others_work() -> None:
    """Let all tasks go on as far as they can without an event from outside."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)
