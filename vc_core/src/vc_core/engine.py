"""One pod at work: owns its Hypervisor and Agent objects, its containers' streams, and is the only writer of its state.

Lives in the pod's supervisor; for a pod whose VM is no process, in the client for the time of one operation. Whoever
makes an engine holds the pod's lock.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec

from vc_core import boot, process, share
from vc_core.agent import Agent, GuestContainer, Process, ProcessIO
from vc_core.config import Cmd, ContainerConfig, EnvVar, resolve_root_fs
from vc_core.context import Boot, PodContext
from vc_core.defaults import DEFAULT_PATH
from vc_core.devices import Channel, Device, SharedDirectory
from vc_core.errors import (
    AgentConnectError,
    AgentError,
    AgentProtocolError,
    CommandError,
    ContainerNotFoundError,
    HypervisorError,
    NotSupportedError,
    StateError,
    StorageError,
    VCError,
    VMStartError,
)
from vc_core.guest import Progress
from vc_core.hypervisor import Hypervisor, VMExit
from vc_core.records import ContainerRecord, PodRecord
from vc_core.states import State, move, require_state
from vc_core.status import UNWATCHED, container_log, ended, vm_identity
from vc_core.store import Store
from vc_core.streams import ContainerLog, LoggedIO

if TYPE_CHECKING:
    from vc_core.plugins import Plugins

#: Seconds. A guest under emulation boots in 2-6 s; the rest is for slow hosts.
READY_DEADLINE = 60.0
#: Seconds for the VM's process to come up, and for one exchange with it.
VM_DEADLINE = 10.0
#: Seconds for one exchange with the agent, and for taking over its channels.
AGENT_DEADLINE = 10.0
#: Seconds for a pod to stop before it is killed.
STOP_DEADLINE = 10.0

#: Namespace of the UUIDs that hypervisors get, derived from pod ids (RFC 4122, name-based).
_UUID_NAMESPACE = uuid.UUID("6b5f2f4e-3c0f-5d0e-9f57-0b6c1d0c7a11")

#: Lines of the guest's console in an error.
_CONSOLE_LINES = 4

#: Exit codes of a shell for a command that is not executable or not found: no error of ours, but how the command ended.
_AS_IN_A_SHELL = (126, 127)

#: Errors of an agent that can be the first sign of a VM's end.
_CHANNEL_ERRORS = (AgentConnectError, AgentProtocolError)

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class ClosableIO(Protocol):
    """A ProcessIO that owns descriptors."""

    def close(self) -> None:
        """Release them."""


@dataclass(slots=True)
class _Running:
    """A container's main process: its name at the agent, its streams, and the task that waits for its end."""

    process: Process
    io: ClosableIO
    watch: asyncio.Task[int]


class Engine:
    """One pod at work. Made by :meth:`open`, released by :meth:`aclose`; the VM outlives it."""

    def __init__(self, store: Store, pod_id: str, plugins: Plugins) -> None:
        self._store, self._plugins = store, plugins
        self.record: PodRecord = store.read(pod_id)
        self._config = store.read_config(pod_id)
        self._hypervisor: Hypervisor | None = None
        self._agent: Agent | None = None
        self._vm_ended: asyncio.Future[VMExit] | None = None
        self._containers: dict[str, _Running] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._operation = asyncio.Lock()
        self._stopping = False
        self._run_dir = store.make_run_dir(pod_id)
        self._share_dir = self._run_dir / "share"
        self._at_rest = asyncio.Event()
        self._at_rest.set()

    @classmethod
    async def open(cls, store: Store, pod_id: str, plugins: Plugins) -> Engine:
        """Return the engine of a pod, in charge of its VM if it has one. Called with the pod's lock held.

        What a predecessor left half done is undone; a VM that runs is taken over. Raises StorageError, DriverError.
        """
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
        """Release drivers, streams and tasks; VM and containers run on."""
        if self._hypervisor is not None and not self.record.supervised:
            self._commit(**self._saved())
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._release_drivers()
        for running in self._containers.values():
            running.io.close()

    # -- operations ------------------------------------------------------------------------------------------------

    async def start(self, progress: Progress, attached: Mapping[str, Any], ready_deadline: float | None) -> None:
        """Start the VM and all containers. ``attached`` holds the streams of containers that run in a foreground.

        On any failure, and when cancelled, everything is undone and the pod is what it was, with the error raised.
        """
        async with self._operation:
            allowed = frozenset({State.READY, State.STOPPED, State.FAILED})
            require_state(f"pod {self.record.id!r}", self.record.state, allowed, "starting it")
            before = self.record.state, self.record.reason
            await self._kill_leftovers()
            self._commit(intent="start")
            try:
                await self._bring_up(progress, attached, ready_deadline or READY_DEADLINE)
            except BaseException as error:
                await asyncio.shield(self._undo_start(before, error))
                raise

    async def stop(self, deadline: float | None, force: bool) -> None:
        """Stop all containers and the VM. With ``force`` the guest is not asked.

        Raises HypervisorError when the VM cannot be ended; the pod is then ``failed``.
        """
        async with self._operation:
            allowed = frozenset({State.RUNNING, State.PAUSED, State.FAILED})
            require_state(f"pod {self.record.id!r}", self.record.state, allowed, "stopping it")
            self._commit(intent="stop")
            self._stopping = True
            try:
                await self._take_down(STOP_DEADLINE if deadline is None else deadline, ask_guest=not force)
            except VCError as error:
                self._commit(state=State.FAILED, reason=f"it could not be stopped: {error}", intent="")
                raise
            finally:
                self._stopping = False
            self._commit_ended("")

    async def exec(
        self, container_id: str, cmd: Cmd, io: ProcessIO, control: Callable[[Process], None] | None = None
    ) -> int:
        """Run a command in a running container and return its exit code; cancelling kills it.

        ``control`` is told the process' name once it runs, for :meth:`signal`. A command that is not found ends with
        127, one that is not executable with 126, and its error output says so. Raises StateError, CommandError,
        AgentError, HypervisorError when the VM ends meanwhile.
        """
        agent = self._running_agent(f"entering container {container_id!r}")
        container = self.container(container_id)
        require_state(
            f"container {container_id!r} of pod {self.record.id!r}",
            container.state,
            frozenset({State.RUNNING}),
            "entering it",
        )
        try:
            running = await self._while_vm_lives(agent.exec(container_id, _with_path(cmd), io, AGENT_DEADLINE))
        except CommandError as error:
            if error.exit_code not in _AS_IN_A_SHELL:
                raise
            await io.write_stderr(f"{error}\n".encode())
            return error.exit_code
        try:
            if control is not None:
                control(running)
            return await self._while_vm_lives(agent.wait(running))
        except asyncio.CancelledError:
            with suppress(VCError):
                await asyncio.shield(agent.signal(running, 9, AGENT_DEADLINE))
            raise

    async def signal(self, target: Process, signum: int) -> None:
        """Send a signal to a process that :meth:`exec` named."""
        await self._while_vm_lives(self._running_agent("sending a signal").signal(target, signum, AGENT_DEADLINE))

    async def signal_container(self, container_id: str, signum: int) -> None:
        """Send a signal to a container's main process."""
        self.container(container_id)
        agent = self._running_agent("sending a signal")
        await self._while_vm_lives(agent.signal_container(container_id, signum, AGENT_DEADLINE))

    async def wait_container(self, container_id: str) -> int | None:
        """Return a container's exit code once it ended; None if it ended without one (with its VM)."""
        running = self._containers.get(container_id)
        if running is not None:
            await asyncio.wait({running.watch})
        return self.container(container_id).exit_code

    def container_log(self, container_id: str) -> ContainerLog:
        """Return a container's log, opened; the caller closes it. Raises ContainerNotFoundError."""
        self.container(container_id)
        return ContainerLog(container_log(self._store.roots, self.record.id, container_id))

    def container(self, container_id: str) -> ContainerRecord:
        """Return a container's record. Raises ContainerNotFoundError."""
        try:
            return self.record.containers[container_id]
        except KeyError:
            raise ContainerNotFoundError(
                f"pod {self.record.id!r} has no container {container_id!r}; it has "
                f"{', '.join(map(repr, self.record.containers)) or 'none'}"
            ) from None

    # -- start -----------------------------------------------------------------------------------------------------

    async def _bring_up(self, progress: Progress, attached: Mapping[str, Any], ready_deadline: float) -> None:
        supervised = self.record.supervised
        what = (
            await boot.resolve(self._plugins, self._config, self._store.roots.cache, progress) if supervised else None
        )
        if supervised:
            share.prepare(self._share_dir)
        self._make_drivers(what, saved=False)
        hypervisor, agent = self._drivers()
        for device in (*agent.devices(), *self._extra_devices()):
            hypervisor.add_device(device)
        progress("starting the VM", None)
        await hypervisor.prepare(VM_DEADLINE)
        identity = hypervisor.identity()
        self._commit(
            vm=identity.to_mapping() if identity else None,
            acceleration=hypervisor.acceleration,
            isolation=hypervisor.isolation,
            **self._saved(),
        )
        await hypervisor.start(VM_DEADLINE)
        self._watch_vm()
        progress("waiting for the guest", None)
        await self._while_vm_lives(self._connect(agent, hypervisor, ready_deadline))
        await self._while_vm_lives(agent.start_pod(self.record.id, "", AGENT_DEADLINE))
        for container in self._config.containers:
            await self._while_vm_lives(self._start_container(container, attached.get(container.id)))
        self._commit(state=move(f"pod {self.record.id!r}", self.record.state, State.RUNNING), reason="", intent="",
                     **self._saved())  # fmt: skip
        self._spawn(self._watch_agent(agent))

    async def _connect(self, agent: Agent, hypervisor: Hypervisor, deadline: float) -> None:
        try:
            await agent.connect(hypervisor.open_channel, deadline)
        except AgentError as error:
            said = _console(hypervisor) or "; the guest's console is empty"
            raise type(error)(f"the guest of pod {self.record.id!r} did not get ready: {error}{said}") from error

    async def _start_container(self, config: ContainerConfig, attached: Any) -> None:
        agent = self._agent
        assert agent is not None
        io = attached or LoggedIO(self.container_log(config.id))
        try:
            place = config.root_fs
            if self.record.supervised:
                place = share.add_root_fs(self._share_dir, config.id, resolve_root_fs(config))
            guest = GuestContainer(id=config.id, root_fs=place, cmd=_with_path(config.cmd))
            running = await agent.start_container(guest, io, AGENT_DEADLINE)
        except BaseException:
            io.close()
            raise
        self._adopt(config.id, running, io)
        self._commit_container(
            config.id, state=State.RUNNING, reason="", exit_code=None, started_at=time.time(), ended_at=None,
            process=running.process_id,
        )  # fmt: skip

    def _adopt(self, container_id: str, running: Process, io: ClosableIO) -> None:
        watch = self._spawn(self._watch_container(container_id, running))
        self._containers[container_id] = _Running(running, io, watch)

    async def _undo_start(self, before: tuple[State, str], error: BaseException) -> None:
        """Leave nothing of a start that failed; the pod is what it was, or ``failed`` if even that does not work."""
        self._stopping = True
        try:
            if self._hypervisor is not None:
                await self._take_down(STOP_DEADLINE, ask_guest=False)
        except VCError as problem:
            _log.error("undoing the start of pod %s: %s", self.record.id, problem)
            self._commit(state=State.FAILED, reason=f"its start failed ({error}) and could not be undone: {problem}")
        else:
            state, reason = before
            containers = {
                name: msgspec.structs.replace(
                    one, state=State.STOPPED, reason="the start of its pod failed", process=""
                )
                if one.state is State.RUNNING
                else one
                for name, one in self.record.containers.items()
            }
            self._commit(
                state=state, reason=reason, intent="", vm=None, saved_hypervisor=None, saved_agent=None,
                containers=containers,
            )  # fmt: skip
        finally:
            self._stopping = False

    def _extra_devices(self) -> list[Device]:
        volumes = [
            SharedDirectory(volume.mount_tag, Path(volume.host_path), volume.read_only)
            for volume in self._config.volumes
        ]
        sockets = [Channel(socket.id, socket.name, Path(socket.host_path)) for socket in self._config.sockets]
        return [*volumes, *sockets]

    # -- end -------------------------------------------------------------------------------------------------------

    async def _take_down(self, deadline: float, ask_guest: bool) -> None:
        """End guest and VM and release everything; what ends with the guest ends here. Raises HypervisorError."""
        hypervisor, agent = self._hypervisor, self._agent
        began = time.monotonic()
        if agent is not None and ask_guest:
            try:
                # Half of the time is the guest's; the other half is for whoever must be killed.
                await self._while_vm_lives(agent.stop_pod(deadline / 2))
            except VCError as error:
                if self._vm_ended is None or not self._vm_ended.done():
                    _log.warning("pod %s: the guest did not stop by itself: %s", self.record.id, error)
        if hypervisor is not None:
            await hypervisor.stop(max(1.0, deadline - (time.monotonic() - began)))
        await self._release_drivers()
        await self._finish_containers()
        if self.record.supervised:
            share.dismantle(self._share_dir)

    async def _finish_containers(self) -> None:
        watches = [running.watch for running in self._containers.values()]
        if watches:
            _, pending = await asyncio.wait(watches, timeout=1)
            for watch in pending:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
        for running in self._containers.values():
            running.io.close()
        self._containers.clear()

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
        assert self._hypervisor is not None
        vm_ended: asyncio.Future[VMExit] = asyncio.get_running_loop().create_future()
        self._vm_ended = vm_ended
        hypervisor = self._hypervisor

        async def watch() -> None:
            vm_exit = await hypervisor.wait()
            vm_ended.set_result(vm_exit)
            async with self._operation:
                if self._vm_ended is vm_ended:  # an operation under way has not dealt with it
                    await self._vm_is_gone(vm_exit.reason)

        self._spawn(watch())

    async def _vm_is_gone(self, reason: str) -> None:
        """Record that the VM ended by itself, and release everything."""
        self._stopping = True
        try:
            await self._take_down(VM_DEADLINE, ask_guest=False)
        except VCError as error:
            _log.error("cleaning up after the VM of pod %s: %s", self.record.id, error)
        finally:
            self._stopping = False
        self._commit_ended(reason)

    async def _watch_agent(self, agent: Agent) -> None:
        reason = await agent.wait_lost()
        if not self._stopping and not await self._soon_ended() and self.record.state is State.RUNNING:
            self._commit(state=State.FAILED, reason=f"the agent in the guest is lost: {reason}")

    async def _watch_container(self, container_id: str, running: Process) -> int:
        agent = self._agent
        assert agent is not None
        try:
            code = await agent.wait(running)
        except VCError as error:
            reason = "the pod was stopped" if self._stopping else str(error)
            self._commit_container(container_id, state=State.STOPPED, reason=reason, ended_at=time.time(), process="")
            return 255
        self._commit_container(container_id, state=State.STOPPED, exit_code=code, ended_at=time.time(), process="")
        if mine := self._containers.get(container_id):
            mine.io.close()
        return code

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
        vm_exit = self._vm_ended.result()
        starting = self.record.intent == "start"
        said = _console(self._hypervisor) if starting and self._hypervisor else ""
        kind = VMStartError if starting else HypervisorError
        raise kind(f"the VM of pod {self.record.id!r} ended: {vm_exit.reason}{said}")

    async def _soon_ended(self) -> bool:
        """Tell whether the VM is ending: its channels break a moment before its process is gone."""
        if self._vm_ended is None:
            return False
        done, _ = await asyncio.wait({self._vm_ended}, timeout=0.5)
        return bool(done)

    # -- taking over -----------------------------------------------------------------------------------------------

    async def _recover(self) -> None:
        """Bring record and reality together after a predecessor's death, before any operation."""
        record = self.record
        identity = vm_identity(record)
        if record.intent == "start":
            await self._kill_leftovers()
            self._commit(intent="", vm=None, saved_hypervisor=None, saved_agent=None)
        elif record.supervised and record.state in (State.RUNNING, State.PAUSED, State.FAILED):
            if identity is not None and identity.alive():
                await self._take_over()
            elif record.state is not State.FAILED:
                self._commit_ended(UNWATCHED)
        elif not record.supervised and record.state in (State.RUNNING, State.PAUSED):
            await self._take_over()

    async def _take_over(self) -> None:
        self._make_drivers(None, saved=True)
        hypervisor, agent = self._drivers()
        if self.record.supervised:
            self._watch_vm()
        if self.record.state is State.FAILED:
            return
        try:
            await self._while_vm_lives(agent.connect(hypervisor.open_channel, AGENT_DEADLINE))
        except VCError as error:
            self._commit(state=State.FAILED, reason=f"its agent cannot be reached: {error}", intent="")
            return
        for name, container in self.record.containers.items():
            if container.state is State.RUNNING:
                await self._take_over_container(agent, name, container)
        self._commit(intent="", **self._saved())
        self._spawn(self._watch_agent(agent))

    async def _take_over_container(self, agent: Agent, name: str, container: ContainerRecord) -> None:
        running = Process(name, container.process)
        io = LoggedIO(self.container_log(name))
        try:
            await agent.adopt(running, io)
        except (AgentError, NotSupportedError) as error:
            io.close()
            reason = f"it was lost with the former supervisor: {error}"
            self._commit_container(name, state=State.STOPPED, reason=reason, process="")
        else:
            self._adopt(name, running, io)

    async def _kill_leftovers(self) -> None:
        """Kill the VM of a start that nobody finished, recorded or not; a VM that runs unrecorded must not go on."""
        if not self.record.supervised:
            return
        recorded = vm_identity(self.record)
        for identity in {*process.find_in_directory(self._run_dir, self.record.id), *([recorded] if recorded else [])}:
            _log.warning("pod %s: killing process %d of a start that was not finished", self.record.id, identity.pid)
            if not await asyncio.to_thread(identity.kill, VM_DEADLINE):
                raise StateError(f"process {identity.pid} of pod {self.record.id!r} cannot be killed; try again later")
        share.dismantle(self._share_dir)

    # -- helpers ---------------------------------------------------------------------------------------------------

    def _make_drivers(self, what: Boot | None, saved: bool) -> None:
        config, record = self._config, self.record
        context = PodContext(
            id=record.id,
            uuid=str(uuid.uuid5(_UUID_NAMESPACE, record.id)),
            run_dir=self._run_dir,
            share_dir=self._share_dir,
            resources=config.vm_config,
            hypervisor_config=config.hypervisor_config,
            boot=what,
        )
        hypervisor = self._plugins.hypervisor(config.hypervisor_type)
        agent = self._plugins.agent(config.agent_type)
        self._hypervisor = hypervisor.create(
            context, hypervisor.config(config.hypervisor_config.options), record.saved_hypervisor if saved else None
        )
        self._at_rest.clear()
        self._agent = agent.create(
            context, agent.config(config.agent_config), None, record.saved_agent if saved else None
        )

    def _drivers(self) -> tuple[Hypervisor, Agent]:
        assert self._hypervisor is not None
        assert self._agent is not None
        return self._hypervisor, self._agent

    def _running_agent(self, doing: str) -> Agent:
        require_state(f"pod {self.record.id!r}", self.record.state, frozenset({State.RUNNING}), doing)
        if self._agent is None:
            raise StorageError(f"pod {self.record.id!r} is running but has no agent; stop it")
        return self._agent

    def _saved(self) -> dict[str, Any]:
        hypervisor, agent = self._drivers()
        return {"saved_hypervisor": dict(hypervisor.save()), "saved_agent": dict(agent.save())}

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("pod %s: a watching task failed", self.record.id, exc_info=task.exception())

    def _commit(self, **changes: Any) -> None:
        """Put a new record on disk, then tell extensions what changed."""
        old, self.record = self.record, msgspec.structs.replace(self.record, **changes)
        self._store.write(self.record)
        for name, container in self.record.containers.items():
            was = old.containers.get(name)
            if was is not None and was.state is not container.state:
                self._plugins.notify_container_transition(self.record.id, name, str(was.state), str(container.state))
        if old.state is not self.record.state:
            self._plugins.notify_pod_transition(self.record.id, str(old.state), str(self.record.state))

    def _commit_container(self, container_id: str, **changes: Any) -> None:
        container = msgspec.structs.replace(self.record.containers[container_id], **changes)
        self._commit(containers={**self.record.containers, container_id: container})

    def _commit_ended(self, reason: str) -> None:
        now = ended(self.record, reason, time.time())
        self._commit(**{name: getattr(now, name) for name in now.__struct_fields__})


def _with_path(cmd: Cmd) -> Cmd:
    """Return a command that has a PATH, whatever the agent's own default would be."""
    if any(env.var == "PATH" for env in cmd.envs):
        return cmd
    return replace(cmd, envs=(EnvVar("PATH", DEFAULT_PATH), *cmd.envs))


def _console(hypervisor: Hypervisor) -> str:
    """Return the last lines of the guest's console as the end of a sentence, or "" if it said nothing."""
    lines = [line.strip() for line in hypervisor.console_tail().splitlines() if line.strip()]
    return f"; the guest's console ends with: {' | '.join(lines[-_CONSOLE_LINES:])}" if lines else ""


async def _cancel(task: asyncio.Future[Any]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError, VCError):
        await task
