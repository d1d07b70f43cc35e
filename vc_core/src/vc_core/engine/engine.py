"""One pod at work: owns its Hypervisor and Agent objects and its containers, and is the only writer of its state.

Lives in the pod's supervisor; for a pod whose VM is no process, in the client for the time of one operation. Whoever
makes an engine holds the pod's lock.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vc_core.config.container import Cmd, ContainerConfig
from vc_core.config.ids import pod_uuid
from vc_core.driver.agent import Agent, AgentCapability, Process, ProcessIO, TerminalSize
from vc_core.driver.context import PodContext
from vc_core.driver.guest import Progress
from vc_core.driver.hypervisor import Hypervisor, VMExit
from vc_core.engine import assembly, containers, guest_image
from vc_core.engine.containers import Attachment, Containers
from vc_core.engine.guest_network import guest_network
from vc_core.engine.ledger import Ledger
from vc_core.engine.logs import ContainerLog
from vc_core.errors import (
    AgentConnectError,
    AgentError,
    AgentProtocolError,
    CommandError,
    HypervisorError,
    NotSupportedError,
    StateError,
    StorageError,
    VCError,
    VMStartError,
)
from vc_core.host import paths, processes, rootfs, share
from vc_core.results import ContainerUsage
from vc_core.states import LIVE_STATES, STOPPABLE_STATES, Action, State, move
from vc_core.store.records import PodRecord
from vc_core.store.status import UNWATCHED, ended, require, vm_identity
from vc_core.store.store import Store

if TYPE_CHECKING:
    from vc_core.plugins.registry import Plugins

#: Seconds. A guest under emulation boots in 2-6 s; the rest is for slow hosts.
READY_TIMEOUT = 60.0
#: Seconds for the VM's process to come up, and for one exchange with it.
VM_TIMEOUT = 10.0
#: Seconds for one exchange with the agent, and for taking over its channels.
AGENT_TIMEOUT = 10.0
#: Seconds for a pod or a container to stop before it is killed.
STOP_TIMEOUT = 10.0

#: Where the pod's own root file system lies below its shared directory; no container can have this id.
_POD_ROOT = ".pod"

#: Lines of the guest's console in an error.
_CONSOLE_LINES = 4

#: Exit codes of a shell for a command that is not executable or not found: no error of ours, but how the command ended.
_AS_IN_A_SHELL = (126, 127)

#: Errors of an agent that can be the first sign of a VM's end.
_CHANNEL_ERRORS = (AgentConnectError, AgentProtocolError)

#: Seconds between the first sign of a VM's end and the end of its process, at most.
_ENDING = 0.5

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Engine:
    """One pod at work. Made by :meth:`open`, released by :meth:`aclose`; the VM outlives it."""

    def __init__(self, store: Store, pod_id: str, plugins: Plugins) -> None:
        self._store, self._plugins = store, plugins
        self._ledger = Ledger(store, pod_id, plugins)
        self._run_dir = store.make_run_dir(pod_id)
        self._hypervisor: Hypervisor | None = None
        self._agent: Agent | None = None
        self._vm_ended: asyncio.Future[VMExit] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._operation = asyncio.Lock()
        self._at_rest = asyncio.Event()
        self._at_rest.set()
        self._containers = Containers(self._ledger, self._share_dir, None, self._spawn)

    @property
    def record(self) -> PodRecord:
        """The pod's record as it is on disk."""
        return self._ledger.record

    @property
    def _share_dir(self) -> Path | None:
        """The directory shared with the guest; None where no process could share it."""
        return self._run_dir / "share" if self.record.supervised else None

    @classmethod
    async def open(cls, store: Store, pod_id: str, plugins: Plugins) -> Engine:
        """Return the engine of a pod, in charge of its VM if it has one. Called with the pod's lock held.

        What a predecessor left half done is undone; a VM that runs is taken over. Whoever made ``plugins`` drains them
        after :meth:`aclose`. Raises StorageError, DriverError.
        """
        await asyncio.to_thread(plugins.load_extensions)
        engine = cls(store, pod_id, plugins)
        await engine._recover()
        return engine

    async def wait_at_rest(self) -> None:
        """Return when there is no VM to look after and no operation under way."""
        while True:
            await self._at_rest.wait()
            async with self._operation:
                if self._at_rest.is_set():
                    return

    async def aclose(self) -> None:
        """Release drivers, streams and tasks; VM and containers run on. Raises StorageError when all is released."""
        try:
            if self._hypervisor is not None and not self.record.supervised:
                self._ledger.commit(**self._saved())
            self._ledger.flush()
        finally:
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._release_drivers()
            self._containers.close()

    # -- operations on the pod -------------------------------------------------------------------------------------

    async def start(self, progress: Progress, attached: Mapping[str, Attachment], ready_timeout: float | None) -> None:
        """Start the VM and all containers. ``attached`` holds the streams of containers that run in a foreground.

        On any failure, and when cancelled, everything is undone and the pod is what it was, with the error raised.
        """
        async with self._operation:
            require(self.record, Action.START_POD)
            before = self.record.state, self.record.reason
            if self._hypervisor is not None:  # the pod failed, but its VM still runs
                await self._take_down(STOP_TIMEOUT, ask_guest=False)
            await self._kill_leftovers()
            former = ended(self.record, "its pod was started again")
            self._ledger.commit(intent="start", vm=None, containers=former.containers)
            try:
                await self._bring_up(progress, attached, ready_timeout or READY_TIMEOUT)
            except BaseException as error:
                await asyncio.shield(self._undo_start(before, error))
                raise

    async def stop(self, timeout: float | None, force: bool) -> None:
        """Stop all containers and the VM. With ``force`` the guest is not asked.

        Raises HypervisorError when the VM cannot be ended; the pod is then ``failed``.
        """
        async with self._operation:
            require(self.record, Action.STOP_POD)
            self._ledger.commit(intent="stop")
            try:
                await self._take_down(STOP_TIMEOUT if timeout is None else timeout, ask_guest=not force)
            except VCError as error:
                with suppress(StorageError):
                    self._ledger.commit(state=State.FAILED, reason=f"it could not be stopped: {error}", intent="")
                raise
            self._ledger.commit_ended("")

    async def exec(
        self,
        container_id: str,
        cmd: Cmd,
        io: ProcessIO,
        terminal: TerminalSize | None = None,
        control: Callable[[Process], None] | None = None,
    ) -> int:
        """Run a command in a running container, or for an empty id in the pod, and return its exit code.

        ``control`` is told the process' name once it runs, for :meth:`signal` and :meth:`resize`. Cancelling kills it.
        A command that is not found ends with 127, one that is not executable with 126, and its error output says so.
        Raises StateError, CommandError, AgentError, HypervisorError when the VM ends meanwhile.
        """
        agent = self._running_agent(Action.ENTER_CONTAINER if container_id else Action.ENTER_POD, container_id)
        try:
            return await containers.run(
                agent, container_id, cmd, io, terminal, self._while_vm_lives, control, AGENT_TIMEOUT
            )
        except CommandError as error:
            if error.exit_code not in _AS_IN_A_SHELL:
                raise
            await io.write_stderr(f"{error}\n".encode())
            return error.exit_code

    async def signal(self, target: Process, signum: int) -> None:
        """Send a signal to a process that :meth:`exec` named."""
        await self._while_vm_lives(self._running_agent(Action.SIGNAL_PROCESS).signal(target, signum, AGENT_TIMEOUT))

    async def resize(self, target: Process, size: TerminalSize) -> None:
        """Change the size of a process' terminal."""
        agent = self._running_agent(Action.RESIZE_PROCESS)
        await self._while_vm_lives(agent.resize(target, size.rows, size.columns, AGENT_TIMEOUT))

    # -- operations on containers ----------------------------------------------------------------------------------

    async def create_container(self, config: ContainerConfig) -> None:
        """Add a container to the pod, whether it runs or not. Raises ContainerExistsError, ConfigError."""
        async with self._operation:
            if self.record.supervised:
                await asyncio.to_thread(paths.check_container, config, self._store.roots)
            self._ledger.add_container(config)

    async def start_container(self, container_id: str, attachment: Attachment | None) -> None:
        """Start a container of the running pod, for the first time or again. Raises StateError, CommandError."""
        async with self._operation:
            agent = self._running_agent(Action.START_CONTAINER, container_id)
            config = self._ledger.container_config(container_id)
            hypervisor, _ = self._drivers()
            await self._while_vm_lives(self._containers.start(hypervisor, agent, config, attachment, AGENT_TIMEOUT))

    async def stop_container(self, container_id: str, timeout: float | None, force: bool) -> None:
        """Stop a running container: SIGTERM, and SIGKILL after ``timeout`` seconds (default 10) or with ``force``."""
        agent = self._running_agent(Action.STOP_CONTAINER, container_id)
        seconds = 0.0 if force else STOP_TIMEOUT if timeout is None else timeout
        await self._while_vm_lives(self._containers.stop(agent, container_id, seconds, AGENT_TIMEOUT))

    async def delete_container(self, container_id: str, force: bool) -> None:
        """Delete a container that does not run; with ``force`` kill it first."""
        if force and self._ledger.container(container_id).state is State.RUNNING:
            await self.stop_container(container_id, None, force=True)
        async with self._operation:
            require(self.record, Action.DELETE_CONTAINER, container_id)
            if self._agent is not None:
                if self._ledger.container(container_id).process:
                    await self._while_vm_lives(self._agent.remove_container(container_id, AGENT_TIMEOUT))
                await self._take_root(container_id)
            self._containers.unshare(container_id)
            self._ledger.remove_container(container_id)

    async def _take_root(self, container_id: str) -> None:
        hypervisor, _ = self._drivers()
        config = self._ledger.container_config(container_id)
        await self._while_vm_lives(self._containers.take_root(hypervisor, config, AGENT_TIMEOUT))

    async def stats_container(self, container_id: str) -> ContainerUsage:
        """Return what a running container uses. Raises StateError, NotSupportedError, AgentError."""
        agent = self._running_agent(Action.STATS_CONTAINER, container_id)
        return await self._while_vm_lives(agent.stats(container_id, AGENT_TIMEOUT))

    async def wait_container(self, container_id: str) -> int | None:
        """Return a container's exit code once it ended; None if it ended without one (with its VM)."""
        require(self.record, Action.WAIT_CONTAINER, container_id)
        await self._containers.wait(container_id)
        return self._ledger.container(container_id).exit_code

    async def signal_container(self, container_id: str, signum: int) -> None:
        """Send a signal to a container's main process."""
        agent = self._running_agent(Action.KILL_CONTAINER, container_id)
        await self._while_vm_lives(agent.signal_container(container_id, signum, AGENT_TIMEOUT))

    async def resize_container(self, container_id: str, size: TerminalSize) -> None:
        """Change the size of the terminal of a container's main process."""
        require(self.record, Action.RESIZE_CONTAINER, container_id)
        await self.resize(self._containers.process(container_id), size)

    def open_log(self, container_id: str) -> ContainerLog:
        """Return a container's log, opened for a process that starts; the caller closes it.

        Raises ContainerNotFoundError, StorageError.
        """
        return self._ledger.open_log(container_id)

    # -- start -----------------------------------------------------------------------------------------------------

    async def _bring_up(self, progress: Progress, attached: Mapping[str, Attachment], ready_timeout: float) -> None:
        config, what, pod_root = self._ledger.config, None, ""
        if self._share_dir is not None:
            what = await guest_image.resolve(self._plugins, config, self._store.roots.cache, progress)
        pod = PodContext.of(config, self._run_dir, what)
        if self._share_dir is not None:
            for directory in filter(None, (self._share_dir, pod.writable_dir)):
                share.make_shared_dir(directory)
            if config.root_fs:
                root_fs = await asyncio.to_thread(rootfs.resolve_directory, "rootfs of the pod", config.root_fs)
                pod_root = share.bind_into(self._share_dir, f"{_POD_ROOT}/rootfs", root_fs)
        self._containers = Containers(self._ledger, self._share_dir, pod.writable_dir, self._spawn)
        self._make_drivers(pod)
        hypervisor, agent = self._drivers()
        disks = await asyncio.to_thread(assembly.disks_of, config) if self._share_dir else []
        for device in (*assembly.devices_of(config, agent), *disks):
            hypervisor.add_device(device)
        progress("starting the VM", None)
        await agent.prepare()
        await hypervisor.prepare(VM_TIMEOUT)
        identity = hypervisor.identity()
        self._ledger.commit(
            vm=identity.to_mapping() if identity else None,
            acceleration=hypervisor.acceleration,
            isolation=hypervisor.isolation,
            **self._saved(),
        )
        await hypervisor.start(VM_TIMEOUT)
        self._watch_vm()
        if config.network.forwards:
            self._ledger.commit(forwards=list(await self._while_vm_lives(hypervisor.forwards())))
        progress("waiting for the guest", None)
        await self._while_vm_lives(self._connect(agent, hypervisor, ready_timeout))
        await self._while_vm_lives(self._start_pod(agent, pod_root))
        for container in config.containers:
            await self._while_vm_lives(
                self._containers.start(hypervisor, agent, container, attached.get(container.id), AGENT_TIMEOUT)
            )
        running = move(self._ledger.name, self.record.state, State.RUNNING)
        self._ledger.commit(state=running, reason="", intent="", warnings=list(agent.warnings), **self._saved())
        self._spawn(self._watch_agent(agent))

    async def _connect(self, agent: Agent, hypervisor: Hypervisor, timeout: float) -> None:
        try:
            await agent.connect(hypervisor.open_channel, timeout)
        except AgentError as error:
            said = _console(hypervisor) or "; the guest's console is empty"
            raise type(error)(f"the guest of {self._ledger.name} did not get ready: {error}{said}") from error

    async def _start_pod(self, agent: Agent, pod_root: str) -> None:
        network = guest_network(self._ledger.config.network)
        if network is not None and AgentCapability.NETWORK not in agent.capabilities:
            raise NotSupportedError(
                f"{self._ledger.name} has a network, which its agent {self.record.agent!r} cannot configure in the "
                "guest; leave it out"
            )
        await agent.start_pod(self.record.id, pod_root, AGENT_TIMEOUT, network)

    async def _undo_start(self, before: tuple[State, str], error: BaseException) -> None:
        """Leave nothing of a start that failed; the pod is what it was, or ``failed`` if even that does not work.

        What the disk does not take of it is done by the next start or supervisor, who find the intent to start.
        """
        try:
            await self._take_down(STOP_TIMEOUT, ask_guest=False)
        except VCError as problem:
            _log.error("undoing the start of pod %s: %s", self.record.id, problem)
            reason = f"its start failed ({error}) and could not be undone: {problem}"
            changes: dict[str, Any] = {"state": State.FAILED, "reason": reason}
        else:
            state, reason = before
            record = ended(self.record, "the start of its pod failed", time.time())
            changes = {
                "state": state, "reason": reason, "intent": "", "vm": None, "saved_hypervisor": None,
                "saved_agent": None, "containers": record.containers, "forwards": [], "warnings": [],
            }  # fmt: skip
        try:
            self._ledger.commit(**changes)
        except StorageError as problem:
            _log.error("the failed start of pod %s is not recorded: %s", self.record.id, problem)

    # -- end -------------------------------------------------------------------------------------------------------

    async def _take_down(self, timeout: float, ask_guest: bool) -> None:
        """End guest and VM and release everything; what ends with the guest ends here. Raises HypervisorError."""
        hypervisor, agent = self._hypervisor, self._agent
        began = time.monotonic()
        self._containers.stopping = True
        try:
            # A guest whose VM is no process here does not end with it: it is asked in any case.
            if agent is not None and (ask_guest or not self.record.supervised):
                try:
                    # Half of the time is the guest's; the other half is for whoever must be killed.
                    await self._while_vm_lives(agent.stop_pod(timeout / 2))
                except VCError as error:
                    if self._vm_ended is None or not self._vm_ended.done():
                        _log.warning("pod %s: the guest did not stop by itself: %s", self.record.id, error)
            if hypervisor is not None:
                await hypervisor.stop(max(1.0, timeout - (time.monotonic() - began)))
            await self._release_drivers()
            await self._containers.finish()
        finally:
            self._containers.stopping = False
        if self.record.supervised:
            share.unmount_all(self._run_dir)

    async def _release_drivers(self) -> None:
        agent, hypervisor = self._agent, self._hypervisor
        self._agent = self._hypervisor = self._vm_ended = None
        self._at_rest.set()
        for driver in (agent, hypervisor):
            if driver is not None:
                try:
                    await driver.aclose()
                except VCError as error:
                    _log.warning("pod %s: %s", self.record.id, error)

    # -- watching --------------------------------------------------------------------------------------------------

    def _watch_vm(self) -> None:
        hypervisor, _ = self._drivers()
        vm_ended: asyncio.Future[VMExit] = asyncio.get_running_loop().create_future()
        self._vm_ended = vm_ended

        async def watch() -> None:
            vm_exit = await hypervisor.wait()
            vm_ended.set_result(vm_exit)
            async with self._operation:
                if self._vm_ended is vm_ended:  # an operation under way has not dealt with it
                    await self._vm_is_gone(vm_exit.reason)

        self._spawn(watch())

    async def _vm_is_gone(self, reason: str) -> None:
        """Record that the VM ended by itself, and release everything."""
        try:
            await self._take_down(VM_TIMEOUT, ask_guest=False)
        except VCError as error:
            _log.error("cleaning up after the VM of pod %s: %s", self.record.id, error)
        self._ledger.commit_ended(reason)

    async def _watch_agent(self, agent: Agent) -> None:
        reason = await agent.wait_lost()
        if self._agent is agent and not await self._soon_ended() and self.record.state is State.RUNNING:
            self._ledger.commit(state=State.FAILED, reason=f"the agent in the guest is lost: {reason}")

    async def _while_vm_lives(self, work: Awaitable[_T]) -> _T:
        """Await ``work``, but no longer than the VM lives. Raises HypervisorError when it ends first."""
        if self._vm_ended is None:
            return await work
        task = asyncio.ensure_future(work)
        either: set[asyncio.Future[Any]] = {task, self._vm_ended}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await _cancel(task)
            raise
        if task.done() and not (isinstance(task.exception(), _CHANNEL_ERRORS) and await self._soon_ended()):
            return task.result()
        await _cancel(task)
        starting, vm_ended = self.record.intent == "start", self._vm_ended
        reason = vm_ended.result().reason if vm_ended is not None else self.record.reason
        said = _console(self._hypervisor) if starting and self._hypervisor else ""
        kind = VMStartError if starting else HypervisorError
        raise kind(f"the VM of {self._ledger.name} ended: {reason}{said}")

    async def _soon_ended(self) -> bool:
        """Tell whether the VM is ending: its channels break a moment before its process is gone."""
        if self._vm_ended is None:
            return False
        done, _ = await asyncio.wait({self._vm_ended}, timeout=_ENDING)
        return bool(done)

    # -- taking over -----------------------------------------------------------------------------------------------

    async def _recover(self) -> None:
        """Bring record and reality together after a predecessor's death, before any operation."""
        record = self.record
        identity = vm_identity(record)
        if record.intent == "start":
            await self._kill_leftovers()
            self._ledger.commit(intent="", vm=None, saved_hypervisor=None, saved_agent=None)
        elif record.supervised and record.state in STOPPABLE_STATES:
            if identity is not None and identity.alive():
                await self._take_over()
            elif record.state is not State.FAILED:
                self._ledger.commit_ended(UNWATCHED)
        elif not record.supervised and record.state in LIVE_STATES:
            await self._take_over()

    async def _take_over(self) -> None:
        writable = self._run_dir / "writable"
        self._containers = Containers(
            self._ledger, self._share_dir, writable if writable.exists() else None, self._spawn
        )
        pod = PodContext.of(self._ledger.config, self._run_dir)
        self._make_drivers(pod, self.record.saved_hypervisor, self.record.saved_agent)
        hypervisor, agent = self._drivers()
        if self.record.supervised:
            self._watch_vm()
        if self.record.state is State.FAILED:
            return
        try:
            await self._while_vm_lives(agent.connect(hypervisor.open_channel, AGENT_TIMEOUT))
        except VCError as error:
            self._ledger.commit(state=State.FAILED, reason=f"its agent cannot be reached: {error}", intent="")
            return
        for name, container in self.record.containers.items():
            if container.state is State.RUNNING:
                await self._containers.take_over(agent, name)
        self._ledger.commit(intent="", **self._saved())
        self._spawn(self._watch_agent(agent))

    async def _kill_leftovers(self) -> None:
        """Kill the VM of a start that was interrupted, recorded or not; a VM that runs unrecorded must not go on.

        Only a start that was interrupted leaves a VM unrecorded, so only then all processes are examined.
        """
        if not self.record.supervised:
            return
        leftovers = {recorded} if (recorded := vm_identity(self.record)) else set()
        if self.record.intent == "start":
            found = await asyncio.to_thread(processes.find_vms, self._run_dir, pod_uuid(self.record.id))
            leftovers.update(found)
        for identity in leftovers:
            _log.warning("pod %s: killing process %d of a start that was not finished", self.record.id, identity.pid)
            if not await asyncio.to_thread(identity.kill, VM_TIMEOUT):
                raise StateError(f"process {identity.pid} of {self._ledger.name} cannot be killed; try again later")
        share.unmount_all(self._run_dir)

    # -- helpers ---------------------------------------------------------------------------------------------------

    def _make_drivers(self, pod: PodContext, *saved: Mapping[str, Any] | None) -> None:
        self._hypervisor, self._agent = assembly.make_drivers(self._plugins, self._ledger.config, pod, *saved)
        self._at_rest.clear()

    def _drivers(self) -> tuple[Hypervisor, Agent]:
        assert self._hypervisor is not None
        assert self._agent is not None
        return self._hypervisor, self._agent

    def _running_agent(self, action: Action, container_id: str = "") -> Agent:
        require(self.record, action, container_id)
        if self._agent is None:
            raise StorageError(f"{self._ledger.name} is running but has no agent; stop it")
        return self._agent

    def _saved(self) -> dict[str, Any]:
        return containers.saved(*self._drivers())

    def _spawn(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("pod %s: a watching task failed", self.record.id, exc_info=task.exception())


def _console(hypervisor: Hypervisor) -> str:
    """Return the last lines of the guest's console as the end of a sentence, or "" if it said nothing."""
    lines = [line.strip() for line in hypervisor.console_tail().splitlines() if line.strip()]
    return f"; the guest's console ends with: {' | '.join(lines[-_CONSOLE_LINES:])}" if lines else ""


async def _cancel(task: asyncio.Future[Any]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError, VCError):
        await task
