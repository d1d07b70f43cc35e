"""The containers of a pod that run: their processes in the guest, their streams, and who waits for their ends."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

from vc_core.config.container import Cmd, ContainerConfig, EnvVar
from vc_core.config.defaults import DEFAULT_PATH
from vc_core.driver.agent import (
    Agent,
    AgentCapability,
    Confinement,
    GuestContainer,
    GuestDisk,
    GuestMount,
    Process,
    ProcessIO,
    TerminalSize,
)
from vc_core.driver.hypervisor import Hypervisor, HypervisorCapability
from vc_core.engine.assembly import disk_id, root_disk
from vc_core.engine.ledger import Ledger
from vc_core.engine.streams import ConsoleIO, LoggedIO
from vc_core.errors import AgentError, NotSupportedError, StorageError, VCError
from vc_core.host import rootfs, share
from vc_core.states import State

#: Signals (signal(7)) that end a container: politely, and for good.
_SIGTERM, _SIGKILL = 15, 9

_log = logging.getLogger(__name__)


class ClosableIO(Protocol):
    """A process' streams that own descriptors."""

    def close(self) -> None:
        """Release them."""


@dataclass(slots=True)
class _Running:
    """A container's main process: its name at the agent, its streams, and the task that waits for its end."""

    process: Process
    io: ClosableIO
    watch: asyncio.Task[None]


@dataclass(frozen=True, slots=True)
class Attachment:
    """The streams of a container that starts in somebody's foreground; ``terminal`` its size if it is on a terminal."""

    io: Any
    terminal: TerminalSize | None = None


class Containers:
    """The running containers of one pod. Made with its engine; ``share_dir`` is None where nothing is shared."""

    def __init__(
        self,
        ledger: Ledger,
        share_dir: Path | None,
        writable_dir: Path | None,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._ledger, self._share_dir, self._writable_dir, self._spawn = ledger, share_dir, writable_dir, spawn
        self._running: dict[str, _Running] = {}
        #: While the pod is taken down: what ends now did not end by itself.
        self.stopping = False

    async def start(
        self,
        hypervisor: Hypervisor,
        agent: Agent,
        config: ContainerConfig,
        attachment: Attachment | None,
        timeout: float,
    ) -> None:
        """Start a container, for the first time or again.

        Raises ConfigError, StorageError, CommandError and other AgentErrors; nothing is left then.
        """
        confinement = _confinement(agent, config)
        io, terminal = self._streams(config, attachment)
        process: Process | None = None
        try:
            if self._ledger.container(config.id).process:
                await agent.remove_container(config.id, timeout)
                with suppress(StorageError):  # the guest may not have let go of all yet, and then what is there serves
                    self.unshare(config.id)
            root_fs, disk = await self._give_root(hypervisor, agent, config, timeout)
            guest = GuestContainer(
                id=config.id,
                root_fs=root_fs,
                cmd=with_path(config.cmd),
                terminal=terminal,
                mounts=self._share_mounts(config),
                disk=disk,
                writable_root_fs=config.writable_root_fs,
                confinement=confinement,
            )
            process = await agent.start_container(guest, io, timeout)
            self._ledger.commit_container(
                config.id, saved(hypervisor, agent),
                state=State.RUNNING, reason="", exit_code=None, started_at=time.time(), ended_at=None,
                process=process.process_id,
            )  # fmt: skip
        except BaseException:
            io.close()
            await asyncio.shield(self._undo_start(hypervisor, agent, config, process, timeout))
            raise
        self._watch(agent, config.id, process, io)

    async def _undo_start(
        self, hypervisor: Hypervisor, agent: Agent, config: ContainerConfig, process: Process | None, timeout: float
    ) -> None:
        """Leave nothing of a start that failed. What cannot be undone is left for the pod's end: the failure counts."""
        if process is not None:  # it runs, and the disk does not take that
            with suppress(VCError, TimeoutError):
                await agent.signal_container(config.id, _SIGKILL, timeout)
                async with asyncio.timeout(timeout):
                    await agent.wait(process)
                await agent.remove_container(config.id, timeout)
        with suppress(VCError):
            await self.take_root(hypervisor, config, timeout)
        with suppress(VCError):
            self.unshare(config.id)

    async def take_over(self, agent: Agent, container_id: str) -> None:
        """Look after a container that an earlier owner started."""
        process = Process(container_id, self._ledger.container(container_id).process)
        io = LoggedIO(self._ledger.open_log(container_id, resumed=True))
        try:
            await agent.adopt(process, io)
        except (AgentError, NotSupportedError) as error:
            io.close()
            reason = f"it was lost with the former supervisor: {error}"
            self._ledger.note_end(container_id, state=State.STOPPED, reason=reason)
        except BaseException:
            io.close()
            raise
        else:
            self._watch(agent, container_id, process, io)

    async def stop(self, agent: Agent, container_id: str, seconds: float, timeout: float) -> None:
        """End a running container: SIGTERM, and SIGKILL after some ``seconds``. Each exchange may take ``timeout``."""
        watch = self._running[container_id].watch
        for signum, patience in ((_SIGTERM, seconds), (_SIGKILL, timeout)):
            if patience:
                await agent.signal_container(container_id, signum, timeout)
                done, _ = await asyncio.wait({watch}, timeout=patience)
                if done:
                    return
        raise AgentError(f"container {container_id!r} does not end even when killed")

    async def wait(self, container_id: str) -> None:
        """Return when a container does not run (any more)."""
        running = self._running.get(container_id)
        if running is not None:
            await asyncio.wait({running.watch})

    def process(self, container_id: str) -> Process:
        """Return the main process of a running container."""
        return self._running[container_id].process

    async def finish(self) -> None:
        """Release everything after the guest ended."""
        watches = [running.watch for running in self._running.values()]
        if watches:
            _, pending = await asyncio.wait(watches, timeout=1)
            for watch in pending:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
        self.close()

    def close(self) -> None:
        """Release the streams."""
        for running in self._running.values():
            running.io.close()
        self._running.clear()

    def unshare(self, container_id: str) -> None:
        """Take back what a container was given of the host's files."""
        for directory in (self._share_dir, self._writable_dir):
            if directory is not None:
                share.unbind(directory, container_id)

    def _streams(self, config: ContainerConfig, attachment: Attachment | None) -> tuple[Any, TerminalSize | None]:
        if attachment is not None:
            return attachment.io, attachment.terminal
        if config.console:
            return ConsoleIO(config.console), TerminalSize()
        return LoggedIO(self._ledger.open_log(config.id), keep_stdin_open=config.interactive), None

    async def _give_root(
        self, hypervisor: Hypervisor, agent: Agent, config: ContainerConfig, timeout: float
    ) -> tuple[str, GuestDisk | None]:
        """Give the guest a container's root: its place below the shared directory, or else the disk that it is."""
        if self._share_dir is None:
            return config.root_fs, None
        root = await asyncio.to_thread(rootfs.resolve, config)  # its file server may be slow
        disk = root_disk(config, root)
        if disk is None:
            return share.bind_into(self._share_dir, f"{config.id}/rootfs", root.path), None
        if AgentCapability.DISKS not in agent.capabilities:
            raise NotSupportedError(
                f"rootfs of container {config.id!r} is the disk {config.root_fs!r}, and the agent of its pod can use "
                "directories only; unpack it"
            )
        if HypervisorCapability.HOTPLUG in hypervisor.capabilities:
            await hypervisor.attach(disk, timeout)
        return "", GuestDisk(hypervisor.disk_location(disk.id), root.fstype)

    async def take_root(self, hypervisor: Hypervisor, config: ContainerConfig, timeout: float) -> None:
        """Take the disk that is a container's root from the VM again, if that is possible while it runs."""
        if HypervisorCapability.HOTPLUG in hypervisor.capabilities:
            await hypervisor.detach(disk_id(config.id), timeout)

    def _share_mounts(self, config: ContainerConfig) -> tuple[GuestMount, ...]:
        shared = []
        for number, mount in enumerate(config.mounts):
            directory = self._share_dir if mount.read_only else self._writable_dir
            if directory is None:
                raise NotSupportedError(
                    f"container {config.id!r} wants to write to {mount.source!r}, but its pod was started without "
                    "writable mounts; stop and start the pod"
                )
            place = share.bind_into(directory, f"{config.id}/mounts/{number}", Path(mount.source), mount.read_only)
            shared.append(GuestMount(place, mount.target, mount.read_only))
        return tuple(shared)

    def _watch(self, agent: Agent, container_id: str, process: Process, io: ClosableIO) -> None:
        watch = self._spawn(self._wait_end(agent, container_id, process, io))
        self._running[container_id] = _Running(process, io, watch)

    async def _wait_end(self, agent: Agent, container_id: str, process: Process, io: ClosableIO) -> None:
        code: int | None = None
        try:
            code = await agent.wait(process)
            reason = ""
        except VCError as error:
            reason = "the pod was stopped" if self.stopping else str(error)
        try:
            self._ledger.note_end(
                container_id, state=State.STOPPED, reason=reason, exit_code=code, ended_at=time.time()
            )
        except StorageError as error:
            _log.error("the end of container %r is not recorded yet: %s", container_id, error)
        finally:
            io.close()
            self._running.pop(container_id, None)


async def run(
    agent: Agent,
    container_id: str,
    cmd: Cmd,
    io: ProcessIO,
    terminal: TerminalSize | None,
    guarded: Callable[[Awaitable[Any]], Awaitable[Any]],
    control: Callable[[Process], None] | None,
    timeout: float,
) -> int:
    """Run a further command in a container (or, for an empty id, in the pod) and return its exit code.

    ``guarded`` awaits with an eye on the VM. ``control`` is told the process once it runs. Cancelling kills it.
    """
    process: Process = await guarded(agent.exec(container_id, with_path(cmd), io, timeout, terminal))
    try:
        if control is not None:
            control(process)
        code: int = await guarded(agent.wait(process))
    except asyncio.CancelledError:
        with suppress(VCError):
            await asyncio.shield(agent.signal(process, _SIGKILL, timeout))
        raise
    return code


def _confinement(agent: Agent, config: ContainerConfig) -> Confinement:
    """Return what a container's processes may do. Raises NotSupportedError for limits that the agent cannot set."""
    wanted = {one.name: getattr(config, one.name) for one in fields(Confinement)}
    if AgentCapability.LIMITS not in agent.capabilities:
        usual = Confinement()
        if asked := [name for name, value in wanted.items() if value != getattr(usual, name)]:
            raise NotSupportedError(
                f"container {config.id!r} has {', '.join(asked)}, which the agent of its pod cannot set; leave it out"
            )
    return Confinement(**wanted)


def saved(hypervisor: Hypervisor, agent: Agent) -> dict[str, Any]:
    """Return what a pod's record keeps of its drivers, for whoever takes the pod over."""
    return {"saved_hypervisor": dict(hypervisor.save()), "saved_agent": dict(agent.save())}


def with_path(cmd: Cmd) -> Cmd:
    """Return a command that has a PATH, whatever the agent's own default would be."""
    if any(env.var == "PATH" for env in cmd.envs):
        return cmd
    return replace(cmd, envs=(EnvVar("PATH", DEFAULT_PATH), *cmd.envs))
