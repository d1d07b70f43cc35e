"""Controls one pod's VM and the agent in its guest, through the objects that the drivers made."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from vc_core import failpoints
from vc_core.config.container import Cmd
from vc_core.driver.agent import Agent, AgentCapability, GuestProcessId, ProcessIO
from vc_core.driver.copies import GuestCopy
from vc_core.driver.devices import Device, NetworkInterface
from vc_core.driver.hypervisor import Hypervisor, HypervisorCapability, VMExit
from vc_core.driver.terminal import TerminalSize
from vc_core.engine.commands import completed
from vc_core.engine.demands import check_command, check_sysctls
from vc_core.engine.guest_network import guest_network
from vc_core.engine.ledger import Ledger
from vc_core.errors import (
    AgentConnectError,
    AgentError,
    AgentProtocolError,
    HypervisorError,
    NotSupportedError,
    VCError,
    VMStartError,
)

#: Seconds for the VM's process to come up, and for one exchange with it.
VM_TIMEOUT = 10.0
#: Seconds. A guest under emulation boots in 2-6 s; the rest is for slow hosts.
READY_TIMEOUT = 60.0
#: Seconds for one exchange with the agent, and for taking over its channels.
AGENT_TIMEOUT = 10.0
#: Seconds for the guest to prepare for containers, and to start one. It takes many steps for that, in 1-2 s under
#: emulation; the rest is for slow hosts.
START_TIMEOUT = 30.0

#: Seconds that the VM's process may take to end after its channels broke.
_VM_EXIT_GRACE = 0.5

#: Seconds for the guest to answer a start whose caller was cancelled, before the agent is cancelled as well.
_START_GRACE = 2.0

#: Least time in seconds for the hypervisor to end the VM, when the guest has used up the time.
_VM_STOP_MIN = 1.0

#: How :attr:`Hypervisor.jail` is for a pod that may run in a full jail only.
FULL_JAIL = "full"

#: Errors of an agent that can be the first sign of a VM's end.
_CHANNEL_ERRORS = (AgentConnectError, AgentProtocolError)

#: Lines of the guest's console in an error.
_CONSOLE_LINES = 4

#: Numbers of signals in the guest (signal(7)).
SIGTERM, SIGKILL, SIGPIPE = 15, 9, 13

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class NotConfinedError(VMStartError):
    """The VM of a strict pod has less than a full jail; no other way to start it has more."""


class Machine:
    """A VM and the agent in its guest, from the making of the drivers' objects to their release.

    To start a VM, the owner calls :meth:`add_devices` and :meth:`prepare`, commits :meth:`facts`, then calls
    :meth:`start`, :meth:`connect` and :meth:`start_pod`; to take over a VM that runs, :meth:`reconnect` alone. One task
    of the owner awaits :meth:`wait` from the start on, or from the takeover on if the VM is a process.
    """

    def __init__(self, ledger: Ledger, hypervisor: Hypervisor, agent: Agent) -> None:
        self._ledger, self.hypervisor, self.agent = ledger, hypervisor, agent
        self._interfaces: list[NetworkInterface] = []
        #: The kind of the template of which the VM is a clone, "" for a VM that booted.
        self.template = ""
        #: Held while a command starts. The others wait, so that each has all of its time, however many start at once.
        self._start_turn = asyncio.Lock()
        self._commands: set[GuestProcessId] = set()
        self._vm_exit: asyncio.Future[VMExit] = asyncio.get_running_loop().create_future()

    def add_devices(self, devices: Sequence[Device]) -> None:
        """Give the VM that is to be made its devices, those of its agent among them. Raises ConfigError."""
        for device in devices:
            self.hypervisor.add_device(device)
        self._interfaces = [device for device in devices if isinstance(device, NetworkInterface)]

    async def kind(self) -> str:
        """Return what the VM has in common with those that can be clones of the same template; "" if it cannot be one.

        Raises ConfigError, HypervisorError.
        """
        able = HypervisorCapability.TEMPLATES in self.hypervisor.capabilities
        if not able or AgentCapability.CLONES not in self.agent.capabilities:
            return ""
        return await self.hypervisor.kind(VM_TIMEOUT)

    def use_template(self, kind: str, directory: Path) -> None:
        """Let :meth:`prepare` make a clone of the template of a kind, which is in ``directory``."""
        self.hypervisor.use_template(directory, new=False)
        self.template = kind

    async def prepare(self) -> None:
        """Make the VM; nothing runs in it yet.

        Raises ConfigError, HypervisorError, AgentError, StorageError; the owner then calls :meth:`take_down`.
        """
        # The agent first: a directory that it shares with the guest must exist when the VM's process opens it.
        await self.agent.prepare()
        failpoints.reach("engine.start.agent_prepared")
        await self.hypervisor.prepare(VM_TIMEOUT)

    def require_full_jail(self) -> None:
        """Refuse a VM whose process is not confined as fully as can be. Called between prepare and start, if at all.

        Raises NotConfinedError with what is missing.
        """
        jail, missing = self.hypervisor.jail, self.hypervisor.jail_missing
        if jail != FULL_JAIL:
            why = (
                "; ".join(missing)
                or f"hypervisor {self._ledger.record.hypervisor!r} was not asked for a full one, or has none"
            )
            raise NotConfinedError(
                f"{self._ledger.name} is strict, but the jail of its VM is {str(jail)!r} and not {FULL_JAIL!r}: {why}; "
                "virtc check shows how to mend that"
            )

    def facts(self) -> dict[str, Any]:
        """Return what the pod's record holds of a prepared VM. The owner commits it before :meth:`start`."""
        identity = self.hypervisor.identity()
        return {
            "vm": identity.to_mapping() if identity else None,
            "acceleration": self.hypervisor.acceleration,
            "isolation": self.hypervisor.isolation,
            "jail": self.hypervisor.jail,
            "jail_missing": list(self.hypervisor.jail_missing),
            "template": self.template,
            **self.saved(),
        }

    def saved(self) -> dict[str, Any]:
        """Return what the pod's record holds for a later process that takes this machine over."""
        return {"saved_hypervisor": dict(self.hypervisor.save()), "saved_agent": dict(self.agent.save())}

    async def start(self) -> None:
        """Let the VM run. Raises HypervisorError."""
        await self.hypervisor.start(VM_TIMEOUT)

    async def connect(self, timeout: float) -> None:
        """Wait until the agent in a guest that boots, or in a clone, answers, ``timeout`` seconds at most.

        Raises AgentError with the end of the guest's console, VMStartError when the VM ends first.
        """
        reach = self.agent.wake if self.template else self.agent.connect
        try:
            await self.while_alive(reach(self.hypervisor.open_channel, timeout))
        except AgentError as error:
            console = self._console_tail() or "; the guest's console is empty"
            raise type(error)(f"the guest did not get ready: {error}{console}") from error

    async def reconnect(self, timeout: float) -> None:
        """Reach the agent in a guest that runs, within ``timeout`` seconds. Raises AgentError, HypervisorError."""
        await self.while_alive(self.agent.connect(self.hypervisor.open_channel, timeout))

    async def start_pod(self, pod_root: str) -> None:
        """Prepare the guest for containers.

        ``pod_root``: where the pod's own root lies below the shared directory, "" when it has none.
        Raises NotSupportedError, AgentError, VMStartError.
        """
        network = guest_network(self.hypervisor, self._interfaces, clone=bool(self.template))
        if network is not None and AgentCapability.NETWORK not in self.agent.capabilities:
            raise NotSupportedError(
                f"{self._ledger.name} has a network, which its agent {self._ledger.record.agent!r} cannot configure in "
                "the guest; leave it out"
            )
        config = self._ledger.config
        check_sysctls(self.agent, self._ledger.name, config.sysctls)
        hostname = config.hostname or self._ledger.record.id
        await self.while_alive(self.agent.start_pod(hostname, pod_root, START_TIMEOUT, network))
        if config.sysctls:
            await self.while_alive(self.agent.set_sysctls(config.sysctls, START_TIMEOUT))

    async def exec(
        self,
        container_id: str,
        cmd: Cmd,
        io: ProcessIO,
        terminal: TerminalSize | None,
        on_started: Callable[[GuestProcessId], None] | None,
    ) -> int:
        """Run a further command in a container, or for an empty id in the pod, and return its exit code.

        ``on_started`` is called with the process once it has started. Cancelling kills the process.
        Raises CommandError and other AgentErrors, NotSupportedError, HypervisorError when the VM ends first.
        """
        check_command(self.agent, "the command", cmd)
        return await self._finish(
            lambda: self.agent.exec(container_id, completed(cmd), io, AGENT_TIMEOUT, terminal), on_started
        )

    async def copy(
        self,
        container_id: str,
        copy: GuestCopy,
        io: ProcessIO,
        on_started: Callable[[GuestProcessId], None] | None,
    ) -> int:
        """Copy files of a container, or for an empty id of the pod, and return 0, or another exit code for a failure.

        ``on_started`` is called as by :meth:`exec`. Cancelling ends the copy. Raises NotSupportedError, AgentError,
        HypervisorError when the VM ends first.
        """
        if AgentCapability.COPY not in self.agent.capabilities:
            agent = self._ledger.record.agent
            raise NotSupportedError(
                f"the agent {agent!r} of {self._ledger.name} cannot copy files; mount a directory, or "
                "execute a program such as tar in the container"
            )
        return await self._finish(lambda: self.agent.copy(container_id, copy, io, AGENT_TIMEOUT), on_started)

    async def _finish(
        self, start: Callable[[], Awaitable[GuestProcessId]], on_started: Callable[[GuestProcessId], None] | None
    ) -> int:
        """Start a further process, and return its exit code. Cancelling kills it."""
        async with self._start_turn:
            process = await started(self.while_alive(start()), self._kill)
        failpoints.reach("engine.exec.started")
        self._commands.add(process)
        try:
            if on_started is not None:
                on_started(process)
            return await self.while_alive(self.agent.wait(process))
        except asyncio.CancelledError:
            await finish(self._kill(process))
            raise
        finally:
            self._commands.discard(process)

    async def _kill(self, process: GuestProcessId) -> None:
        with suppress(VCError):
            await self.agent.signal(process, SIGKILL, AGENT_TIMEOUT)

    async def end_commands(self) -> None:
        """Send SIGTERM to the commands that run. Called before their containers are ended, whose ends kill them."""
        for process in list(self._commands):
            with suppress(VCError):
                await self.agent.signal(process, SIGTERM, AGENT_TIMEOUT)

    async def wait(self) -> VMExit:
        """Return how the VM ended, once it has. Called once; :meth:`while_alive` relies on it."""
        vm_exit = await self.hypervisor.wait()
        self._vm_exit.set_result(vm_exit)
        return vm_exit

    async def while_alive(self, work: Awaitable[_T]) -> _T:
        """Await ``work``, but no longer than the VM lives.

        Raises HypervisorError when the VM ends first, VMStartError if that is during the pod's start.
        """
        loop = asyncio.get_running_loop()
        try:
            # In this task, and not in one of its own: an operation of a client calls this several times.
            async with asyncio.timeout(None) as scope:

                def end(_: object) -> None:
                    scope.reschedule(loop.time())

                self._vm_exit.add_done_callback(end)
                try:
                    return await work
                except _CHANNEL_ERRORS:
                    if not await self.is_ending():
                        raise
                finally:
                    self._vm_exit.remove_done_callback(end)
        except TimeoutError:
            if not scope.expired():
                raise
        starting, reason = self._ledger.record.intent == "start", self._vm_exit.result().reason
        console = self._console_tail() if starting else ""
        kind = VMStartError if starting else HypervisorError
        raise kind(f"the VM of {self._ledger.name} ended: {reason}{console}")

    async def is_ending(self) -> bool:
        """Return whether the VM has ended or ends at once: its channels break a moment before its process ends."""
        done, _ = await asyncio.wait({self._vm_exit}, timeout=_VM_EXIT_GRACE)
        return bool(done)

    async def pause(self) -> None:
        """Stop the VM's CPUs. Raises NotSupportedError, HypervisorError."""
        if HypervisorCapability.PAUSE not in self.hypervisor.capabilities:
            hypervisor = self._ledger.record.hypervisor
            raise NotSupportedError(
                f"the hypervisor {hypervisor!r} of {self._ledger.name} cannot pause a VM; stop the pod"
            )
        await self.while_alive(self.hypervisor.pause())

    async def resume(self) -> None:
        """Start the VM's CPUs again; no error if they run. Raises HypervisorError."""
        await self.while_alive(self.hypervisor.resume())

    async def set_clock(self) -> None:
        """Set the guest's clock, which stood still, if the agent can. Called after :meth:`resume`.

        A failure is only logged.
        """
        if AgentCapability.CLOCK in self.agent.capabilities:
            try:
                await self.while_alive(self.agent.set_clock(AGENT_TIMEOUT))
            except VCError as error:
                _log.warning("pod %s: its clock is behind: %s", self._ledger.record.id, error)

    async def take_down(self, timeout: float, ask_guest: bool) -> None:
        """End guest and VM within about ``timeout`` seconds. With ``ask_guest`` the guest may end by itself first.

        Raises HypervisorError: the VM may live on, and this may be called again.
        """
        began = time.monotonic()
        # A guest whose VM is no process here does not end with it: it is asked in any case.
        if ask_guest or not self._ledger.record.supervised:
            try:
                # Half of the time is for the guest; the other half is for processes that must be killed.
                await self.while_alive(self.agent.stop_pod(timeout / 2))
            except VCError as error:
                if not self._vm_exit.done():
                    _log.warning("pod %s: the guest did not stop by itself: %s", self._ledger.record.id, error)
        failpoints.reach("engine.take_down.guest_stopped")
        await self.hypervisor.stop(max(_VM_STOP_MIN, timeout - (time.monotonic() - began)))

    async def release(self) -> None:
        """Release the drivers' objects; a VM that runs goes on running. Failures are logged."""
        for driver in (self.agent, self.hypervisor):
            try:
                await driver.aclose()
            except VCError as error:
                _log.warning("pod %s: %s", self._ledger.record.id, error)

    def _console_tail(self) -> str:
        """Return the last lines of the guest's console as the end of a sentence, or "" if there are no lines."""
        lines = [line.strip() for line in self.hypervisor.console_tail().splitlines() if line.strip()]
        return f"; the guest's console ends with: {' | '.join(lines[-_CONSOLE_LINES:])}" if lines else ""


async def finish(work: Awaitable[Any]) -> None:
    """Wait for the end of what must be done whole; cancelling the waiting task, once or more, does not end the wait.

    Raises what ``work`` raises.
    """
    task = asyncio.ensure_future(work)
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.shield(task)
    task.result()


async def started(
    start: Awaitable[GuestProcessId], undo: Callable[[GuestProcessId], Awaitable[None]]
) -> GuestProcessId:
    """Return the process that an agent starts. If this is cancelled, ``undo`` is called with one that it did start.

    The cancellation does not reach the agent at once: if it has the guest's answer already, the process would run on,
    and nothing could name it.
    """
    task = asyncio.ensure_future(start)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await finish(_undo(task, undo))
        raise


async def _undo(task: asyncio.Future[GuestProcessId], undo: Callable[[GuestProcessId], Awaitable[None]]) -> None:
    await asyncio.wait({task}, timeout=_START_GRACE)
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled() and task.exception() is None:
        await undo(task.result())
