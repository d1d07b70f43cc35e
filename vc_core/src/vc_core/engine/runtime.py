"""What runs of one pod: brings its machine and containers up and down, takes them over, and watches for their ends."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Coroutine, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vc_core import failpoints, trace
from vc_core.driver.context import PodContext
from vc_core.driver.devices import Device
from vc_core.driver.guest import Progress
from vc_core.driver.hypervisor import HypervisorCapability
from vc_core.engine import assembly, guest_image, leftovers, templates
from vc_core.engine.containers import Attachment, Containers, SharedDirectories
from vc_core.engine.ledger import Ledger
from vc_core.engine.machine import AGENT_TIMEOUT, VM_TIMEOUT, Machine, NotConfinedError
from vc_core.errors import (
    AgentError,
    ConfigError,
    HypervisorError,
    StateError,
    StorageError,
    VCError,
    sentence,
)
from vc_core.host import processes, share, sources
from vc_core.host.paths import Rules
from vc_core.host.sources import PodSources, Source
from vc_core.states import LIVE_STATES, STOPPABLE_STATES, State, move
from vc_core.store.status import unwatched_end, vm_identity
from vc_core.store.store import Store
from vc_core.store.templates import Templates

if TYPE_CHECKING:
    from vc_core.plugins.registry import Plugins

#: Where the pod's own root file system lies below its shared directory; no container can have this id.
_POD_ROOT = ".pod"

#: The directory below the run directory in which volumes are bound.
_VOLUMES = "volumes"

#: Seconds between two attempts to write what the disk has refused.
_WRITE_INTERVAL = 1.0

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Runtime:
    """The machine and the containers of one pod, and the tasks that watch them.

    The engine calls all methods with ``operation``, the lock of its operations, held, or where no operation can run;
    a task that finds the VM ended takes it.
    """

    def __init__(self, store: Store, ledger: Ledger, plugins: Plugins, operation: asyncio.Lock) -> None:
        self._ledger, self._plugins, self._operation = ledger, plugins, operation
        self._roots, self._templates = store.roots, Templates(store.roots.cache)
        self._run_dir = store.make_run_dir(ledger.record.id)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._next_write: asyncio.TimerHandle | None = None
        #: The pod's VM with its agent; None while there is none.
        self.machine: Machine | None = None
        #: Set while there is no machine.
        self.idle = asyncio.Event()
        self.idle.set()
        #: Cleared while the VM of a former owner is paused, whose guest cannot answer this one.
        self.guest_reached = asyncio.Event()
        self.guest_reached.set()
        self.containers = self._no_containers()

    def _no_containers(self, writable_dir: Path | None = None, roots_dir: Path | None = None) -> Containers:
        shared = SharedDirectories(self._share_dir, writable_dir, roots_dir)
        return Containers(self._ledger, self._roots, shared, self._spawn)

    @property
    def _share_dir(self) -> Path | None:
        """The directory shared with the guest; None where no process could share it."""
        return self._run_dir / "share" if self._ledger.record.supervised else None

    @property
    def _roots_dir(self) -> Path:
        """The directory of root file systems that containers write to, which there may be."""
        return self._run_dir / "roots"

    @property
    def _mount_namespace(self) -> Path | None:
        """The mount namespace of this process, which is the pod's if this is its supervisor; else None."""
        return Path(f"/proc/{os.getpid()}/ns/mnt") if self._ledger.record.supervised else None

    # -- start -----------------------------------------------------------------------------------------------------

    async def start(self, progress: Progress, attached: Mapping[str, Attachment], ready_timeout: float) -> None:
        """Start the VM and all containers; ``ready_timeout``: seconds that the guest has to get ready.

        Whatever it raises, the engine then calls :meth:`take_down`.
        """
        with ExitStack() as stack:
            await self._start(progress, attached, ready_timeout, stack)

    async def _start(
        self, progress: Progress, attached: Mapping[str, Attachment], ready_timeout: float, stack: ExitStack
    ) -> None:
        """Start the VM and all containers. Sources are open until ``stack`` closes."""
        config = self._ledger.config
        with trace.span("open the sources"):
            opened = await self._open_sources(stack)
        machine = await self._new_machine(progress, opened, stack)
        with trace.span("find the template"):
            kind = await self._kind_of_template(machine)
            is_clone = bool(kind) and await self._use_template(machine, kind)
        if is_clone:
            try:
                pod_root = await self._bring_up(machine, progress, opened, min(ready_timeout, AGENT_TIMEOUT))
            except NotConfinedError:  # the template is as good as before, and a boot would be refused too
                raise
            except (HypervisorError, AgentError) as error:
                _log.warning(
                    "pod %s: its guest boots, because no clone can be started: %s", self._ledger.record.id, error
                )
                with suppress(VCError):
                    await asyncio.to_thread(self._templates.remove, kind)
                await self.take_down(VM_TIMEOUT, ask_guest=False)
                machine = await self._new_machine(progress, opened, stack)
        if not machine.template:
            pod_root = await self._bring_up(machine, progress, opened, ready_timeout)
        await machine.start_pod(pod_root)
        failpoints.reach("engine.start.pod_started")
        every = opened.containers if opened else [None] * len(config.containers)
        for container, its in zip(config.containers, every, strict=True):
            with trace.span(f"start container {container.id}"):
                await machine.while_alive(self.containers.start(machine, container, attached.get(container.id), its))
        failpoints.reach("engine.start.containers_run")
        running = move(self._ledger.name, self._ledger.record.state, State.RUNNING)
        warnings = [sentence(warning) for warning in machine.agent.warnings]
        self._ledger.commit(state=running, reason="", intent="", warnings=warnings, **machine.saved())
        failpoints.reach("engine.start.running")
        self._spawn(self._watch_agent(machine))
        if kind and not machine.template and self._roots.make_templates:
            self._spawn(self._make_template(kind))

    async def _new_machine(self, progress: Progress, opened: PodSources | None, stack: ExitStack) -> Machine:
        """Return a machine with its devices, whose VM is not made yet. Sources are open until ``stack`` closes."""
        config = self._ledger.config
        pod = await self._make_context(progress, opened)
        self.containers = self._no_containers(pod.writable_dir, pod.roots_dir)
        machine = self._make_machine(pod)
        devices = await self._bind_volumes(assembly.devices_of(config, machine.agent, pod), stack)
        discards = HypervisorCapability.DISCARD in machine.hypervisor.capabilities
        if discards != self._ledger.record.discards:
            self._ledger.commit(discards=discards)  # for what ends this start if this process dies
        machine.add_devices([*devices, *(assembly.disks_of(config, opened) if opened else [])])
        return machine

    async def _bring_up(
        self, machine: Machine, progress: Progress, opened: PodSources | None, ready_timeout: float
    ) -> str:
        """Start the VM and wait for the agent; return where the pod's own root is below the shared directory."""
        progress("starting the VM", None)
        await machine.prepare()
        failpoints.reach("engine.start.prepared")
        if self._ledger.record.strict:
            machine.require_full_jail()
        self._ledger.commit(**machine.facts())  # record before resource: a VM that runs is always on record
        failpoints.reach("engine.start.recorded")
        pod_root = self._share_pod_root(machine, opened.root if opened else None)
        await machine.start()
        failpoints.reach("engine.start.vm_runs")
        self._spawn(self._watch_vm(machine))
        if self._ledger.config.network.forwards:
            self._ledger.commit(forwards=list(await machine.while_alive(machine.hypervisor.forwards())))
        progress("waiting for the guest", None)
        await machine.connect(ready_timeout)
        failpoints.reach("engine.start.connected")
        return pod_root

    async def _kind_of_template(self, machine: Machine) -> str:
        """Return the kind of template that the pod can be started from; "" if it cannot be or its caller wants none.

        Raises ConfigError for a value of the variable that is neither on nor off.
        """
        wanted = self._ledger.record.supervised and self._ledger.config.hypervisor_config.template
        if not wanted or not self._roots.use_templates:
            return ""
        with suppress(ConfigError, HypervisorError):  # which the start of the VM raises again
            return await machine.kind()
        return ""

    async def _use_template(self, machine: Machine, kind: str) -> bool:
        """Let the VM be a clone if there is a template of its kind; return whether there is one."""
        try:
            directory = await asyncio.to_thread(self._templates.find, kind)
        except StorageError as error:
            _log.warning("pod %s: no template is used: %s", self._ledger.record.id, error)
            return False
        if directory is not None:
            machine.use_template(kind, directory)
        return directory is not None

    async def _make_template(self, kind: str) -> None:
        """Let a process of its own make the template that was missing."""
        if await asyncio.to_thread(self._templates.may_be_made, kind):
            config = self._ledger.config
            if self.containers.writes_roots:  # which no other process can see in the configuration alone
                config = replace(config, writable_roots=True)
            await asyncio.to_thread(templates.make_behind, config, kind, self._roots)

    async def _open_sources(self, stack: ExitStack) -> PodSources | None:
        """Return the sources of the pod, None where no process could share them. Raises ConfigError."""
        if self._share_dir is None:
            return None
        config, roots = self._ledger.config, self._roots
        opened = await asyncio.to_thread(lambda: sources.open_pod(config, Rules(roots)))  # file servers may be slow
        stack.callback(opened.close)
        return opened

    async def _bind_volumes(self, devices: list[Device], stack: ExitStack) -> list[Device]:
        """Return the devices; those that share other directories of the host share them from the pod's run directory.

        Raises ConfigError, StorageError.
        """
        if self._share_dir is None:
            return devices
        run_dir, roots = self._run_dir, self._roots
        volumes = await asyncio.to_thread(lambda: sources.open_volumes(devices, run_dir, Rules(roots)))
        bound: dict[int, Device] = {}
        for number, (device, source) in enumerate(volumes):
            stack.enter_context(source)
            place = run_dir / _VOLUMES / str(number)
            share.bind_volume(place, source, device.read_only)
            failpoints.reach("engine.start.volume_bound")
            bound[id(device)] = replace(device, host_path=place)
        return [bound.get(id(device), device) for device in devices]

    async def _make_context(self, progress: Progress, opened: PodSources | None) -> PodContext:
        """Return what the drivers get, with all directories made."""
        config = self._ledger.config
        if self._share_dir is None or opened is None:
            return PodContext.of(config, self._run_dir)
        with trace.span("find the guest"):
            boot = await guest_image.resolve(self._plugins, config, self._roots.cache, progress)
        writes_roots = assembly.writes_roots(config, opened)
        pod = PodContext.of(config, self._run_dir, boot, self._mount_namespace, opened.shared, writes_roots)
        for directory in filter(None, (self._share_dir, pod.writable_dir, pod.roots_dir)):
            share.make_shared_dir(directory)
            failpoints.reach("engine.start.shared")
        return pod

    def _share_pod_root(self, machine: Machine, root: Source | None) -> str:
        """Return where the pod's own root now is below the shared directory, "" if it has none. Raises StorageError."""
        if root is None or self._share_dir is None:
            return ""
        users = machine.hypervisor.user_namespace()
        place = share.bind_root(self._share_dir, _POD_ROOT, root, users)
        failpoints.reach("engine.start.root_bound")
        return place

    def _make_machine(self, pod: PodContext, *saved: Mapping[str, Any] | None) -> Machine:
        drivers = assembly.make_drivers(self._plugins, self._ledger.config, pod, *saved)
        self.machine = Machine(self._ledger, *drivers)
        self.idle.clear()
        return self.machine

    # -- pause -----------------------------------------------------------------------------------------------------

    async def pause(self, machine: Machine) -> None:
        """Pause the running VM. Raises NotSupportedError, HypervisorError, StorageError; the VM then runs."""
        # Recorded before: of a pod that is recorded as paused, nobody expects that its guest answers.
        self._ledger.commit(state=move(self._ledger.name, self._ledger.record.state, State.PAUSED))
        failpoints.reach("engine.pause.recorded")
        try:
            await machine.pause()
        except BaseException:
            self._ledger.commit(state=State.RUNNING)
            raise
        failpoints.reach("engine.pause.paused")

    async def resume(self, machine: Machine) -> None:
        """Let the paused VM go on.

        Raises HypervisorError, StorageError, and AgentError for a guest that does not answer this process, which is not
        the one that paused it; the pod is then ``failed``.
        """
        await machine.resume()
        failpoints.reach("engine.resume.resumed")
        if not self.guest_reached.is_set():
            await self._reach_guest(machine)
        await machine.set_clock()
        self._ledger.commit(state=move(self._ledger.name, self._ledger.record.state, State.RUNNING))

    async def wake_guest(self) -> bool:
        """Let the VM go on if it is paused, because it is to be stopped; return whether the guest can be asked."""
        if self.machine is None or self._ledger.record.state is not State.PAUSED:
            return True
        try:
            await self.resume(self.machine)
        except VCError as error:
            _log.warning("pod %s: it is paused, and cannot be resumed to stop: %s", self._ledger.record.id, error)
            return False
        return True

    # -- end -------------------------------------------------------------------------------------------------------

    async def take_down(self, timeout: float, ask_guest: bool, ended: bool = False) -> None:
        """End guest and VM, if there are any, and release all that ends with them.

        ``timeout``: seconds, about. ``ended``: the VM has ended by itself. Raises HypervisorError, StorageError; this
        may then be called again.
        """
        self.containers.stopping = not ended
        try:
            if self.machine is not None:
                began = time.monotonic()
                if ask_guest:
                    with suppress(VCError):  # of a VM that ends meanwhile
                        await self.machine.while_alive(self.containers.ask_to_end(self.machine, timeout / 2))
                await self.machine.take_down(max(0.0, timeout - (time.monotonic() - began)), ask_guest)
                failpoints.reach("engine.take_down.vm_ended")
            await self._release_machine()
            await self.containers.finish()
            failpoints.reach("engine.take_down.released")
        finally:
            self.containers.stopping = False
        if self._ledger.record.supervised:
            share.unmount_all(self._run_dir)
        failpoints.reach("engine.take_down.unmounted")

    async def _release_machine(self) -> None:
        machine, self.machine = self.machine, None
        self.idle.set()
        self.guest_reached.set()
        if machine is not None:
            await machine.release()

    async def aclose(self) -> None:
        """End the tasks and release machine and streams; VM and containers run on."""
        if self._next_write is not None:
            self._next_write.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._release_machine()
        self.containers.close()

    # -- watching --------------------------------------------------------------------------------------------------

    async def _watch_vm(self, machine: Machine) -> None:
        """Record it when the VM ends by itself, and release everything."""
        vm_exit = await machine.wait()
        failpoints.reach("engine.watch.vm_ended")
        async with self._operation:
            if self.machine is not machine:
                return  # an operation took it down
            try:
                await self.take_down(VM_TIMEOUT, ask_guest=False, ended=True)
            except VCError as error:
                _log.error("cleaning up after the VM of pod %s: %s", self._ledger.record.id, error)
            with self._ledger.tolerating("that its VM ended"):
                self._ledger.commit_ended(vm_exit.reason)
            failpoints.reach("engine.watch.recorded")

    async def _watch_agent(self, machine: Machine) -> None:
        """Record it when the agent is lost while the VM lives."""
        reason = await machine.agent.wait_lost()
        if self.machine is machine and not await machine.is_ending() and self._ledger.record.state is State.RUNNING:
            self._ledger.commit(state=State.FAILED, reason=sentence(f"the agent in the guest is lost: {reason}"))

    def _write_refused(self) -> None:
        """Write facts that the disk has refused, such as the end of a container; try again later, as no event comes."""
        with suppress(StorageError):
            self._ledger.flush()
        self._next_write = asyncio.get_running_loop().call_later(_WRITE_INTERVAL, self._write_refused)

    def _spawn(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("pod %s: a watching task failed", self._ledger.record.id, exc_info=task.exception())

    # -- after a former owner --------------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Make record and reality agree after the former owner ended, before any operation.

        What it left half done is undone, a VM that runs is taken over. Raises StorageError, StateError, DriverError.
        """
        self._write_refused()
        record = self._ledger.record
        if record.intent == "start":
            await self.kill_leftovers()
            await self._discard_remains()
            reason = "its start was interrupted"
            self._ledger.commit(intent="", vm=None, saved_hypervisor=None, saved_agent=None, reason=reason)
        elif record.supervised and record.state in STOPPABLE_STATES:
            identity = vm_identity(record)
            if identity is not None and identity.alive():
                await self._take_over()
            elif record.state is not State.FAILED:
                await self._discard_remains()
                self._ledger.commit_ended(unwatched_end(identity))
        elif not record.supervised and record.state in LIVE_STATES:
            await self._take_over()

    async def _take_over(self) -> None:
        record = self._ledger.record
        made = [path if share.is_shared_dir(path) else None for path in (self._run_dir / "writable", self._roots_dir)]
        self.containers = self._no_containers(*made)
        pod = PodContext.of(
            self._ledger.config, self._run_dir, mount_namespace=self._mount_namespace, writes_roots=made[1] is not None
        )
        machine = self._make_machine(pod, record.saved_hypervisor, record.saved_agent)
        if record.supervised:
            self._spawn(self._watch_vm(machine))
        if record.state is State.FAILED:
            return
        try:
            if record.strict:
                machine.require_full_jail()
        except VCError as error:
            self._ledger.commit(state=State.FAILED, reason=f"it is not taken over: {error}", intent="")
            return
        if record.supervised and record.state is State.PAUSED:
            self.guest_reached.clear()
            self._ledger.commit(intent="")
            return
        with suppress(AgentError, HypervisorError):  # recorded
            await self._reach_guest(machine)

    async def _reach_guest(self, machine: Machine) -> None:
        """Connect to the guest of a former owner, and take over its containers.

        Raises AgentError, HypervisorError; the pod is then ``failed``.
        """
        try:
            await machine.reconnect(AGENT_TIMEOUT)
        except VCError as error:
            self._ledger.commit(state=State.FAILED, reason=f"its agent cannot be reached: {error}", intent="")
            raise
        failpoints.reach("engine.recover.connected")
        for name, container in self._ledger.record.containers.items():
            if container.state in LIVE_STATES:
                await self.containers.take_over(machine, name)
        self._ledger.commit(intent="", **machine.saved())
        self._spawn(self._watch_agent(machine))
        self.guest_reached.set()

    async def _discard_remains(self) -> None:
        """Let the driver remove what a VM left beside its processes, which have ended. What it cannot remove stays."""
        record = self._ledger.record
        unrecorded = record.supervised and record.intent == "start" and not record.discards
        if not record.saved_hypervisor and not unrecorded:
            return
        pod = PodContext.of(self._ledger.config, self._run_dir, mount_namespace=self._mount_namespace)
        try:
            await leftovers.remove_remains(self._plugins, self._ledger.config, pod, record.saved_hypervisor)
        except VCError as error:
            _log.warning("pod %s: what its VM left is not removed: %s", record.id, error)
        failpoints.reach("engine.recover.remains_removed")

    async def kill_leftovers(self) -> None:
        """Kill the VM of a start that was interrupted, recorded or not. Called before a start, too.

        Only a start that was interrupted leaves a VM unrecorded, so only then it is discarded by its driver or looked
        for among all processes. Raises StateError for a process that cannot be killed, StorageError, and what keeps the
        driver from discarding the VM: ConfigError, DriverError, HypervisorError.
        """
        record = self._ledger.record
        if not record.supervised:
            return
        doomed = {recorded} if (recorded := vm_identity(record)) else set()
        if record.intent == "start":
            pod = PodContext.of(self._ledger.config, self._run_dir, mount_namespace=self._mount_namespace)
            if record.discards:
                await leftovers.discard(self._plugins, self._ledger.config, pod)
                failpoints.reach("engine.recover.discarded")
            else:
                doomed.update(await asyncio.to_thread(processes.find_vms, pod.run_dir, pod.uuid))
        for identity in doomed:
            _log.warning("pod %s: killing process %d of a start that was not finished", record.id, identity.pid)
            if not await asyncio.to_thread(identity.kill, VM_TIMEOUT):
                raise StateError(f"process {identity.pid} of {self._ledger.name} cannot be killed; try again later")
            failpoints.reach("engine.recover.killed")
        share.unmount_all(self._run_dir)
        failpoints.reach("engine.recover.unmounted")
