"""An agent without a guest: the processes of containers are records."""

from __future__ import annotations

import asyncio
import signal as signals
from collections.abc import Mapping, Sequence

from vc_core.driver import (
    Agent,
    AgentCapability,
    Cmd,
    Device,
    GuestContainer,
    GuestNetwork,
    GuestProcessId,
    OpenChannel,
    ProcessIO,
    TerminalSize,
)
from vc_core.errors import AgentConnectError, AgentError

#: Process ids: of a container's first process, and of all others, which have ended when they are started.
_FIRST = "first"
_COMMAND = "command"

#: Signals that do not end a process without handlers (signal(7): "Ign", "Stop" and "Cont"), and 0, which is no signal.
_HARMLESS = frozenset(
    {
        0,
        signals.SIGCHLD,
        signals.SIGURG,
        signals.SIGWINCH,
        signals.SIGCONT,
        signals.SIGSTOP,
        signals.SIGTSTP,
        signals.SIGTTIN,
        signals.SIGTTOU,
    }
)


class _Record:
    """A container's first process. ``changed`` is set when it has ended or its agent was closed."""

    def __init__(self, exit_code: int | None = None) -> None:
        self.exit_code: int | None = None
        self.changed = asyncio.Event()
        if exit_code is not None:
            self.end(exit_code)

    def end(self, exit_code: int) -> None:
        if self.exit_code is None:
            self.exit_code = exit_code
            self.changed.set()


class NoopAgent(Agent):
    """Every call succeeds and does nothing.

    There is no guest, so the core's record is the only one: :meth:`adopt` accepts every container. ``saved`` holds the
    exit codes of those that have ended and were not removed yet.
    """

    def __init__(self, saved: Mapping[str, object] | None) -> None:
        exit_codes = (saved or {}).get("exit_codes", {})
        assert isinstance(exit_codes, dict), "the core passes what save() returned"
        self._records = {container_id: _Record(exit_code) for container_id, exit_code in exit_codes.items()}

    @property
    def capabilities(self) -> frozenset[AgentCapability]:
        """Containers can be added and adopted; commands are not run, so they have neither streams nor terminals."""
        return frozenset({AgentCapability.ADD_CONTAINER, AgentCapability.REATTACH})

    def devices(self) -> Sequence[Device]:
        """Return no devices."""
        return ()

    async def connect(self, open_channel: OpenChannel, timeout: float) -> None:
        """Do nothing."""

    async def aclose(self) -> None:
        """Make pending waits raise AgentConnectError; the containers run on in the core's records."""
        for record in self._records.values():
            record.changed.set()

    async def start_pod(self, hostname: str, root_fs: str, timeout: float, network: GuestNetwork | None = None) -> None:
        """Do nothing."""

    async def stop_pod(self, timeout: float) -> None:
        """End every container with the exit code of SIGKILL, as a guest that powers off does."""
        for record in self._records.values():
            record.end(128 + signals.SIGKILL)

    async def start_container(self, container: GuestContainer, io: ProcessIO, timeout: float) -> GuestProcessId:
        """Add a record of a running container. Raises AgentError if there is one already."""
        record = self._records.get(container.id)
        if record is not None and record.exit_code is None:
            raise AgentError(f"container {container.id!r} runs already; stop it before it is started again")
        self._records[container.id] = _Record()
        return GuestProcessId(container.id, _FIRST)

    async def exec(
        self, container_id: str, cmd: Cmd, io: ProcessIO, timeout: float, terminal: TerminalSize | None = None
    ) -> GuestProcessId:
        """Return a process that has ended with exit code 0."""
        return GuestProcessId(container_id, _COMMAND)

    async def wait(self, process: GuestProcessId) -> int:
        """Return 0 for a command; for a container its exit code, once a signal or the pod's stop has ended it.

        Raises AgentError for an unknown container, AgentConnectError when the agent is closed.
        """
        if process.process_id == _COMMAND:
            return 0
        record = self._records.get(process.container_id)
        if record is None:
            raise AgentError(f"agent noop has no container {process.container_id!r}; start or adopt it first")
        await record.changed.wait()
        if record.exit_code is None:
            raise AgentConnectError(f"agent noop was closed while container {process.container_id!r} ran")
        return record.exit_code

    async def signal_container(self, container_id: str, signal: int, timeout: float) -> None:
        """End a container with exit code 128 + signal, unless the default action of the signal is harmless."""
        record = self._records.get(container_id)
        if record is not None and signal not in _HARMLESS:
            record.end(128 + signal)

    async def adopt(self, process: GuestProcessId, io: ProcessIO) -> None:
        """Add a container of a former host: one that runs, unless ``saved`` holds its exit code."""
        self._records.setdefault(process.container_id, _Record())

    async def remove_container(self, container_id: str, timeout: float) -> None:
        """Remove the container's record."""
        self._records.pop(container_id, None)

    def save(self) -> Mapping[str, object]:
        """Return the exit codes of the containers that have ended and were not removed."""
        return {
            "exit_codes": {
                container_id: record.exit_code
                for container_id, record in self._records.items()
                if record.exit_code is not None
            }
        }
