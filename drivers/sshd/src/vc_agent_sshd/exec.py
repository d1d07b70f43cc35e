"""Further processes, in containers and in the guest itself: starting, signalling and waiting for them."""

from __future__ import annotations

import asyncio
import secrets
import signal as signals
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vc_agent_sshd import shell
from vc_agent_sshd.calls import UNATTENDED_TIMEOUT, Calls
from vc_agent_sshd.containers import Containers, no_process
from vc_core.driver import Cmd, GuestProcessId, ProcessIO, Spawner, SpawnTarget, TerminalSize
from vc_core.errors import AgentConnectError, AgentError, NotSupportedError

if TYPE_CHECKING:
    from vc_agent_sshd.session import Session

#: Processes that have ended whose exit codes are kept.
_ENDED_MAX = 256


@dataclass(slots=True)
class _Command:
    """A further process: the pid of the shell that runs it in the guest, its session, and its end."""

    pid: int
    session: Session
    end: asyncio.Task[int]


class Commands:
    """The further processes of one pod. Calls of the agent end here; ``timeout`` is in seconds."""

    def __init__(self, pod_id: str, calls: Calls, containers: Containers, spawner: Spawner | None) -> None:
        self._pod_id, self._calls, self._containers, self._spawner = pod_id, calls, containers, spawner
        self._commands: dict[str, _Command] = {}

    async def start(
        self, container_id: str, cmd: Cmd, io: ProcessIO, timeout: float, terminal: TerminalSize | None
    ) -> GuestProcessId:
        """Run a command in a container through the spawner, or without a container in the guest itself.

        Raises ConfigError, NotSupportedError, AgentError.
        """
        what = f"{cmd.args[0][:200]!r}" if cmd.args else "a command"
        line = self._line(container_id, cmd)

        async def undo(pid: str) -> None:
            if pid.isdecimal():
                await self._calls.run_script(UNATTENDED_TIMEOUT, "signal_command", pid, str(int(signals.SIGKILL)))

        session, first = await self._calls.begin(what, line, timeout, undo, terminal)
        if not first.isdecimal():
            session.close()
            raise AgentError(f"cannot run {what} in the guest: {first or await session.error_output()}")
        process = GuestProcessId(container_id, secrets.token_hex(8))
        end = self._calls.spawn(session.carry(io))
        end.add_done_callback(lambda task: task.cancelled() or task.exception())  # there need not be a waiter
        self._forget_ended()
        self._commands[process.process_id] = _Command(int(first), session, end)
        return process

    def _line(self, container_id: str, cmd: Cmd) -> str:
        if not container_id:
            return shell.in_guest(cmd, f"{self._calls.home}/tools")
        if self._spawner is None:
            raise NotSupportedError(
                f"agent sshd cannot enter container {container_id!r} without a spawner; install vc-spawner-nsenter, or "
                "name another driver in the option spawner"
            )
        container = self._containers.running(container_id)
        confinement = container.spec.confinement
        limited = confinement.memory or confinement.pids
        names = {variable.var for variable in cmd.envs}
        inherited = tuple(variable for variable in container.spec.envs if variable.var not in names)
        return shell.in_container(
            self._spawner,
            SpawnTarget(container_id, container.pid),
            replace(cmd, envs=(*inherited, *cmd.envs)),
            confinement,
            f"/sys/fs/cgroup/vc-{self._pod_id}-{container_id}" if limited else "",
        )

    def _forget_ended(self) -> None:
        """Keep the latest of the processes that have ended, for a wait that comes late."""
        ended = [name for name, one in self._commands.items() if one.end.done()]
        for name in ended[:-_ENDED_MAX]:
            del self._commands[name]

    async def wait(self, process: GuestProcessId) -> int:
        """Return a process' exit code once it has ended and its output was written.

        Raises AgentError for a process that there is not, AgentConnectError when the connection is lost or closed.
        """
        command = self._find(process)
        try:
            return await asyncio.shield(command.end)
        except asyncio.CancelledError:
            if command.end.cancelled():
                raise AgentConnectError(f"the agent of pod {self._pod_id!r} was closed") from None
            raise

    async def signal(self, process: GuestProcessId, signal: int, timeout: float) -> None:
        """Send a signal to a process, unless it has ended. Raises AgentError."""
        command = self._find(process)
        if not command.end.done():
            await self._calls.run_script(timeout, "signal_command", str(command.pid), str(int(signal)))

    def resize(self, process: GuestProcessId, size: TerminalSize) -> None:
        """Set the size of a process' terminal, unless it has ended. Raises AgentError."""
        command = self._find(process)
        if not command.end.done():
            command.session.resize(size)

    def _find(self, process: GuestProcessId) -> _Command:
        command = self._commands.get(process.process_id)
        if command is None:
            raise no_process(process)
        return command
