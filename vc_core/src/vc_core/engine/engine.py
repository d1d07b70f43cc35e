"""The operations on one pod: validates the states that they require, orders them, and undoes what fails.

An engine is the only writer of its pod's state. It lives in the pod's supervisor; for a pod whose VM is no process, in
the client for the time of one operation. Its owner holds the pod's lock.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vc_core import failpoints, trace
from vc_core.config.container import Cmd, ContainerConfig
from vc_core.driver.agent import AgentCapability, GuestProcessId, ProcessIO
from vc_core.driver.copies import GuestCopy
from vc_core.driver.guest import Progress
from vc_core.driver.terminal import TerminalSize
from vc_core.engine.containers import Attachment
from vc_core.engine.demands import check_update
from vc_core.engine.ledger import Ledger
from vc_core.engine.logs import ContainerLog
from vc_core.engine.machine import AGENT_TIMEOUT, READY_TIMEOUT, SIGPIPE, VM_TIMEOUT, Machine, finish
from vc_core.engine.runtime import Runtime
from vc_core.engine.streams import SharedInput
from vc_core.errors import (
    AgentError,
    CommandError,
    NotSupportedError,
    StateError,
    StorageError,
    VCError,
    sentence,
)
from vc_core.host import sources
from vc_core.host.usage import usage_of
from vc_core.results import ContainerUsage, PodUsage
from vc_core.states import LIVE_STATES, STOPPED_STATES, Action, State
from vc_core.store.records import PodRecord
from vc_core.store.settings import read_settings
from vc_core.store.status import at_rest, ended, exit_code, require
from vc_core.store.store import Store

if TYPE_CHECKING:
    from vc_core.plugins.registry import Plugins

#: Seconds for a pod or a container to stop before it is killed.
STOP_TIMEOUT = 10.0
#: Seconds for a pod to stop whose guest is not asked, before its VM is killed.
FORCED_STOP_TIMEOUT = 4.0
#: Seconds for the VM of a start that failed to end; it has nothing to lose.
UNDO_TIMEOUT = 4.0

#: Exit codes of a shell for a command that is not executable or not found (POSIX, "Exit Status for Commands"): entering
#: with such a command is no error, but ends with this code.
SHELL_EXIT_CODES = (126, 127)

_log = logging.getLogger(__name__)


class Engine:
    """One pod at work. Made by :meth:`open`, released by :meth:`aclose`; the VM outlives it."""

    def __init__(self, store: Store, pod_id: str, plugins: Plugins) -> None:
        self._store = store
        self._ledger = Ledger(store, pod_id, plugins)
        self._operation = asyncio.Lock()
        #: The task that starts the pod, while :meth:`stop` may abort it.
        self._starting: asyncio.Task[object] | None = None
        self._aborted = False
        #: Whether the pod is deleted when this engine is closed, if it does not run then.
        self.discarded = False
        self._runtime = Runtime(store, self._ledger, plugins, self._operation)

    @property
    def record(self) -> PodRecord:
        """The pod's record as it is on disk."""
        return self._ledger.record

    @property
    def loses_streams(self) -> str:
        """The name of the agent if it passes neither input nor output of processes; else empty, as without a VM."""
        machine = self._runtime.machine
        if machine is None or AgentCapability.STREAMS in machine.agent.capabilities:
            return ""
        return self.record.agent

    @classmethod
    async def open(cls, store: Store, pod_id: str, plugins: Plugins) -> Engine:
        """Return the engine of a pod, in charge of its VM if it has one. Called with the pod's lock held.

        What a predecessor left half done is undone; a VM that runs is taken over. The maker of ``plugins`` drains them
        after :meth:`aclose`. Raises PodNotFoundError, StorageError, StateError, DriverError.
        """
        with trace.span("load extensions"):
            await asyncio.to_thread(plugins.load_extensions)
        engine = cls(store, pod_id, plugins)
        await engine._runtime.recover()
        return engine

    async def wait_idle(self) -> None:
        """Return when there is no VM and no operation under way."""
        while True:
            await self._runtime.idle.wait()
            async with self._operation:
                if self._runtime.idle.is_set():
                    return

    async def aclose(self) -> None:
        """Release drivers, streams and tasks; VM and containers run on. Raises StorageError when all is released.

        A pod that was discarded and does not run is deleted. If the disk refuses to record that the VM of a supervisor
        has ended, a process is left that does it later.
        """
        machine = self._runtime.machine
        try:
            if machine is not None and not self.record.supervised:
                await self._runtime.containers.settle()
                self._ledger.commit(**machine.saved())
            self._ledger.flush()
        except StorageError:
            if machine is None and self.record.supervised:
                from vc_core.engine import unwritten  # seldom needed

                unwritten.write_later(self._store, self._ledger.on_disk, self.record)
            raise
        finally:
            await self._runtime.aclose()
        if self.discarded and at_rest(self.record):
            await asyncio.to_thread(self._ledger.remove)

    # -- operations on the pod -------------------------------------------------------------------------------------

    async def start(
        self,
        progress: Progress,
        attached: Mapping[str, Attachment],
        ready_timeout: float | None,
        strict: bool = False,
    ) -> None:
        """Start the VM and all containers. ``attached`` holds the streams of containers that run in a foreground.

        ``ready_timeout``: seconds that the guest has to get ready (default 60). ``strict``: from now on the pod may run
        in a full jail only; it may anyway if its configuration, or without a choice there the host's configuration
        file, requires that. On any failure, and when cancelled, everything is undone and the pod is what it was, with
        the error raised; StateError after :meth:`stop`.
        """
        async with self._operation:
            require(self.record, Action.START_POD)
            before = {name: getattr(self.record, name) for name in ("state", "reason", "strict")}
            strict = strict or self.record.strict or await asyncio.to_thread(self._strict_by_default)
            if self._runtime.machine is not None:  # the pod failed, but its VM still runs
                await self._runtime.take_down(STOP_TIMEOUT, ask_guest=False)
            await self._runtime.kill_leftovers()
            former = ended(self.record, "its pod was started again")
            self._ledger.commit(intent="start", vm=None, containers=former.containers, strict=strict)
            failpoints.reach("engine.start.intended")
            self._starting, self._aborted, self.discarded = asyncio.current_task(), False, False
            try:
                with trace.span("start the pod"):
                    await self._runtime.start(progress, attached, ready_timeout or READY_TIMEOUT)
            except BaseException as error:
                await finish(self._undo_start(before, error))
                if self._aborted:
                    message = f"the start of {self._ledger.name} was aborted: the pod was stopped meanwhile"
                    raise StateError(message, state=str(self.record.state), wanted=[]) from error
                raise
            finally:
                self._starting = None

    def _strict_by_default(self) -> bool:
        """Return whether the pod is strict because its caller did not choose. Raises ConfigError."""
        return self._ledger.config.strict is None and read_settings(self._store.roots.environment).pod.strict

    async def _undo_start(self, before: Mapping[str, object], error: BaseException) -> None:
        """Leave nothing of a start that failed; the pod is what it was, or ``failed`` if even that does not work.

        What the disk refuses to record is done by the next start or supervisor, which finds the intent to start.
        """
        try:
            try:
                await self._runtime.take_down(UNDO_TIMEOUT, ask_guest=False)
            except VCError as problem:
                _log.error("undoing the start of pod %s: %s", self.record.id, problem)
                reason = f"its start failed ({error}) and could not be undone: {problem}"
                self._ledger.commit(state=State.FAILED, reason=reason)
            else:
                failpoints.reach("engine.undo.taken_down")
                failed = {"reason": f"its start failed: {error}"} if isinstance(error, VCError) else {}
                self._ledger.commit_undone(**{**before, **failed})
        except StorageError as problem:
            _log.error("the failed start of pod %s is not recorded: %s", self.record.id, problem)

    async def stop(self, timeout: float | None, force: bool) -> None:
        """Stop all containers and the VM, within ``timeout`` seconds; with ``force`` without the guest.

        The default is 10 s, with ``force`` 4 s.
        A start that is under way is aborted, and this returns when it is undone. A disk that refuses the record does
        not keep the VM from ending.
        Raises StateError, and HypervisorError when the VM cannot be ended; the pod is then ``failed``.
        """
        aborts = self._starting is not None
        if self._starting is not None:
            self._aborted = True
            self._starting.cancel()
        async with self._operation:
            if aborts and self.record.state in STOPPED_STATES - {State.FAILED}:
                return
            require(self.record, Action.STOP_POD)
            await self._stop(timeout, force)

    async def discard(self) -> None:
        """Stop a pod that is to be deleted, without its guest, unless a container runs. Raises HypervisorError."""
        async with self._operation:
            runs = any(one.state in LIVE_STATES for one in self.record.containers.values())
            if runs or self._runtime.machine is None:
                return
            self.discarded = True
            await self._stop(None, force=True)

    async def _stop(self, timeout: float | None, force: bool) -> None:
        # No intent is recorded: with or without one, a VM that runs is taken over, and one that ended is stopped.
        failpoints.reach("engine.stop.begun")
        try:
            usual = FORCED_STOP_TIMEOUT if force else STOP_TIMEOUT
            ask_guest = not force and await self._runtime.wake_guest()
            await self._runtime.take_down(usual if timeout is None else timeout, ask_guest)
        except (VCError, OSError) as error:
            with suppress(StorageError):
                reason = sentence(f"it could not be stopped: {error}")
                self._ledger.commit(state=State.FAILED, reason=reason, intent="")
            raise
        failpoints.reach("engine.stop.taken_down")
        with self._ledger.tolerating("that it was stopped"):
            self._ledger.commit_ended("")
        failpoints.reach("engine.stop.recorded")

    async def pause(self) -> None:
        """Stop the VM's CPUs, and with them all that runs in the pod.

        Raises StateError, NotSupportedError, HypervisorError, StorageError; the pod then runs on.
        """
        async with self._operation:
            await self._runtime.pause(self._require_machine(Action.PAUSE_POD))

    async def resume(self) -> None:
        """Let the paused pod go on. Raises StateError, HypervisorError, AgentError, StorageError."""
        async with self._operation:
            await self._runtime.resume(self._require_machine(Action.RESUME_POD))

    async def stats(self) -> PodUsage:
        """Return what the running pod uses. Raises StateError, AgentError."""
        machine = self._require_machine(Action.STATS_POD)
        names = [name for name, one in self.record.containers.items() if one.state in LIVE_STATES]
        vm = machine.hypervisor.identity()
        of_vm = None if vm is None else await asyncio.to_thread(usage_of, (vm.pid, os.getpid()))
        if AgentCapability.STATS in machine.agent.capabilities:
            found = await machine.while_alive(asyncio.gather(*(self._usage(machine, name) for name in names)))
        else:
            found = [ContainerUsage()] * len(names)
        containers = {name: one for name, one in zip(names, found, strict=True) if one is not None}
        return PodUsage(pod_id=self.record.id, time=time.time(), vm=of_vm, containers=containers)

    async def _usage(self, machine: Machine, container_id: str) -> ContainerUsage | None:
        """Return what a container uses, None for one that has ended meanwhile. Raises AgentError."""
        try:
            return await machine.agent.stats(container_id, AGENT_TIMEOUT)
        except AgentError:
            if self.record.containers[container_id].state in LIVE_STATES:
                raise
            return None

    async def exec(
        self,
        container_id: str,
        cmd: Cmd,
        io: ProcessIO,
        terminal: TerminalSize | None = None,
        on_started: Callable[[GuestProcessId], None] | None = None,
    ) -> int:
        """Run a command in a running container, or for an empty id in the pod, and return its exit code.

        In a container it is completed by the container's own command. ``on_started`` is called with the process once it
        has started, for :meth:`signal` and :meth:`resize`. Cancelling kills the process. A command that is not found
        ends with 127, one that is not executable with 126, and the reason is on its error output. Raises StateError,
        ContainerNotFoundError, CommandError, AgentError, HypervisorError when the VM ends meanwhile.
        """
        machine = self._require_machine(Action.ENTER_CONTAINER if container_id else Action.ENTER_POD, container_id)
        if container_id:
            from vc_core.images.defaults import inherit

            cmd = inherit(cmd, self._ledger.container_config(container_id).cmd)
        try:
            return await machine.exec(container_id, cmd, io, terminal, on_started)
        except CommandError as error:
            if error.exit_code not in SHELL_EXIT_CODES:
                raise
            await io.write_stderr(f"{error}\n".encode())
            return error.exit_code

    async def copy(
        self,
        container_id: str,
        copy: GuestCopy,
        io: ProcessIO,
        on_started: Callable[[GuestProcessId], None] | None = None,
    ) -> int:
        """Copy files of a running container, or for an empty id of the pod; return 0, or a code for a failure.

        ``on_started`` as for :meth:`exec`. Raises StateError, ContainerNotFoundError, NotSupportedError, AgentError,
        HypervisorError when the VM ends meanwhile.
        """
        machine = self._require_machine(Action.COPY_CONTAINER if container_id else Action.COPY_POD, container_id)
        return await machine.copy(container_id, copy, io, on_started)

    async def signal(self, target: GuestProcessId, signum: int) -> None:
        """Send a signal to a process that :meth:`exec` named. Raises StateError, NotSupportedError, AgentError."""
        machine = self._require_machine(Action.SIGNAL_PROCESS)
        await machine.while_alive(machine.agent.signal(target, signum, AGENT_TIMEOUT))

    async def close_output(self, target: GuestProcessId, errors: bool) -> None:
        """Let a process find that its output, or with ``errors`` its error output, has no reader any more.

        Its writes fail then, as in a pipeline; where the agent cannot do that, the process gets SIGPIPE. Raises
        StateError, NotSupportedError, AgentError.
        """
        machine = self._require_machine(Action.SIGNAL_PROCESS)
        if AgentCapability.CLOSE_OUTPUT in machine.agent.capabilities:
            try:
                await machine.while_alive(machine.agent.close_output(target, errors, AGENT_TIMEOUT))
            except NotSupportedError:  # it has a terminal
                pass
            else:
                return
        await self.signal(target, SIGPIPE)

    async def resize(self, target: GuestProcessId, size: TerminalSize) -> None:
        """Change the size of a process' terminal. Raises StateError, NotSupportedError, AgentError."""
        machine = self._require_machine(Action.RESIZE_PROCESS)
        await machine.while_alive(machine.agent.resize(target, size.rows, size.columns, AGENT_TIMEOUT))

    async def write_console(self, io: ProcessIO) -> None:
        """Write what ``io`` reads to the guest's console, until its end.

        Raises StateError, HypervisorError, NotSupportedError.
        """
        machine = self._require_machine(Action.WRITE_CONSOLE)
        while data := await io.read_stdin():
            await machine.while_alive(machine.hypervisor.write_console(data, VM_TIMEOUT))

    # -- operations on containers ----------------------------------------------------------------------------------

    async def create_container(self, config: ContainerConfig) -> None:
        """Add a container to the pod, whether that runs or not.

        Raises ContainerExistsError, ConfigError, ImageError, StorageError.
        """
        async with self._operation:
            with ExitStack() as lease:
                if config.image:
                    from vc_core.config.image import ImageReference
                    from vc_core.store.images import Images

                    lease.enter_context(Images(self._store.roots).lease(ImageReference.parse(config.image)))
                self._ledger.add_container(config)

    async def start_container(
        self, container_id: str, attachment: Attachment | None, mounts: Sequence[int] = ()
    ) -> None:
        """Start a container of the running pod, for the first time or again.

        ``mounts``: descriptors of the mounts of its sources, which this closes, as for ``sources.of_mounts``; none for
        sources that are opened by their names.
        Raises StateError, ContainerNotFoundError, ConfigError, StorageError, CommandError and other AgentErrors.
        """
        async with AsyncExitStack() as stack:
            for fd in mounts:
                stack.callback(os.close, fd)
            await stack.enter_async_context(self._operation)
            machine = self._require_machine(Action.START_CONTAINER, container_id)
            config = self._ledger.container_config(container_id)
            opened = sources.of_mounts(config, mounts) if mounts else None
            await machine.while_alive(self._runtime.containers.start(machine, config, attachment, opened))

    async def stop_container(self, container_id: str, timeout: float | None, force: bool) -> None:
        """Stop a running container: SIGTERM, and SIGKILL after ``timeout`` seconds (default 10) or with ``force``.

        Raises StateError, ContainerNotFoundError, AgentError.
        """
        machine = self._require_machine(Action.STOP_CONTAINER, container_id)
        patience = 0.0 if force else STOP_TIMEOUT if timeout is None else timeout
        await machine.while_alive(self._runtime.containers.stop(machine, container_id, patience))

    async def pause_container(self, container_id: str) -> None:
        """Suspend all processes of a running container.

        Raises StateError, ContainerNotFoundError, NotSupportedError, AgentError, StorageError.
        """
        async with self._operation:
            machine = self._require_machine(Action.PAUSE_CONTAINER, container_id)
            await machine.while_alive(self._runtime.containers.pause(machine, container_id))

    async def resume_container(self, container_id: str) -> None:
        """Let the processes of a paused container go on.

        Raises StateError, ContainerNotFoundError, AgentError, StorageError.
        """
        async with self._operation:
            machine = self._require_machine(Action.RESUME_CONTAINER, container_id)
            await machine.while_alive(self._runtime.containers.resume(machine, container_id))

    async def update_container(
        self, container_id: str, memory: int | None, pids: int | None, cpus: float | None
    ) -> None:
        """Change the limits of a container, also those of its next start. None: as it is.

        Raises ContainerNotFoundError, NotSupportedError, AgentError, ConfigError, StorageError.
        """
        async with self._operation:
            require(self.record, Action.UPDATE_CONTAINER, container_id)
            wanted = {"memory": memory, "pids": pids, "cpus": cpus}
            given: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
            config = replace(self._ledger.container_config(container_id), **given)
            machine = self._runtime.machine
            if machine is not None and self._ledger.container(container_id).state in LIVE_STATES:
                check_update(machine.agent, container_id)
                agent = machine.agent
                await machine.while_alive(agent.update_container(container_id, memory, pids, cpus, AGENT_TIMEOUT))
            self._ledger.replace_container(config)

    async def delete_container(self, container_id: str, force: bool) -> None:
        """Delete a container that does not run; with ``force`` kill it first.

        Raises StateError, ContainerNotFoundError, AgentError, HypervisorError, StorageError.
        """
        if force and self._ledger.container(container_id).state in LIVE_STATES:
            await self.stop_container(container_id, None, force=True)
        async with self._operation:
            require(self.record, Action.DELETE_CONTAINER, container_id)
            machine = self._runtime.machine
            if machine is not None:
                await machine.while_alive(self._runtime.containers.remove(machine, container_id))
            await self._runtime.containers.lift_limits(container_id)
            self._ledger.remove_container(container_id)

    async def stats_container(self, container_id: str) -> ContainerUsage:
        """Return what a running container uses. Raises StateError, NotSupportedError, AgentError."""
        machine = self._require_machine(Action.STATS_CONTAINER, container_id)
        return await machine.while_alive(machine.agent.stats(container_id, AGENT_TIMEOUT))

    async def wait_container(self, container_id: str) -> int:
        """Return a container's exit code once it ended.

        Raises StateError if it never ran, or ended without an exit code (with its VM).
        """
        require(self.record, Action.WAIT_CONTAINER, container_id)
        await self._runtime.guest_reached.wait()
        await self._runtime.containers.wait(container_id)
        return exit_code(self.record, container_id)

    async def signal_container(self, container_id: str, signum: int) -> None:
        """Send a signal to a container's main process. Raises StateError, ContainerNotFoundError, AgentError."""
        machine = self._require_machine(Action.KILL_CONTAINER, container_id)
        await machine.while_alive(machine.agent.signal_container(container_id, signum, AGENT_TIMEOUT))

    def attach(self, container_id: str) -> SharedInput | None:
        """Return where a client that attaches to a running container gives input, None if it takes none.

        Raises StateError, ContainerNotFoundError.
        """
        require(self.record, Action.ATTACH_CONTAINER, container_id)
        return self._runtime.containers.shared_input(container_id)

    async def resize_container(self, container_id: str, size: TerminalSize) -> None:
        """Change the size of the terminal of a container's main process. Raises StateError, AgentError."""
        require(self.record, Action.RESIZE_CONTAINER, container_id)
        await self.resize(self._runtime.containers.process(container_id), size)

    async def close_container_output(self, container_id: str, errors: bool) -> None:
        """Do what :meth:`close_output` does for a container's main process. Raises StateError, AgentError."""
        require(self.record, Action.KILL_CONTAINER, container_id)
        await self.close_output(self._runtime.containers.process(container_id), errors)

    def open_log(self, container_id: str) -> ContainerLog:
        """Return a container's log, opened for a process that starts; the caller closes it.

        Raises ContainerNotFoundError, StorageError.
        """
        return self._ledger.open_log(container_id)

    def _require_machine(self, action: Action, container_id: str = "") -> Machine:
        """Return the machine, for an operation that requires a running pod.

        Raises StateError, ContainerNotFoundError, StorageError.
        """
        require(self.record, action, container_id)
        if self._runtime.machine is None:
            raise StorageError(f"{self._ledger.name} is running but has no agent; stop it")
        return self._runtime.machine
