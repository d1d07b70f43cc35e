"""The agent ``sshd``: reaches into a guest through its SSH daemon.

asyncssh takes 80 ms to import. A client that creates a pod needs it not, so this module and those that it imports at
once do without; the supervisor imports it while the VM starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import socket
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from vc_agent_sshd import shell, waking
from vc_agent_sshd.calls import Calls, SessionRefusedError
from vc_agent_sshd.config import SshdConfig
from vc_agent_sshd.containers import FIRST, LIVE_TAG, ROOTS_TAG, SHARE_TAG, WRITABLE_TAG, Containers
from vc_agent_sshd.exec import Commands
from vc_core.driver import (
    Agent,
    AgentCapability,
    Cmd,
    Device,
    GuestContainer,
    GuestNetwork,
    GuestPort,
    GuestProcessId,
    OpenChannel,
    PodContext,
    ProcessIO,
    SharedDirectory,
    Spawner,
    TerminalSize,
)
from vc_core.errors import AgentConnectError, NotSupportedError, VCError

if TYPE_CHECKING:
    from vc_agent_sshd.connection import Connection
    from vc_agent_sshd.keys import ManagedKeys

#: The name of the guest's SSH port as a channel, and the port.
PORT_NAME, PORT = "ssh", 22

#: The pod's directory in the guest is below this for root and, below the home directory, for other users.
_HOME, _USERS_HOME = "/run/vc-sshd", ".vc-sshd"

#: The file with the daemon's pid in a guest of the pod's own, which powers off when the daemon ends.
_DAEMON = "/run/ssh/pid"

#: Seconds to connect again after a loss, before the guest counts as lost.
_RECONNECT_TIMEOUT = 5.0


class SshdAgent(Agent):
    """Reaches into one pod's guest over one SSH connection with a session for each process.

    Containers run on without a connection, so a lost one is made again; only when that fails is the guest lost.
    """

    def __init__(
        self, pod: PodContext, config: SshdConfig, spawner: Spawner | None, saved: Mapping[str, object] | None
    ) -> None:
        self._pod, self._config = pod, config
        self._user = config.username or (getpass.getuser() if config.server else "root")
        self._hostname = str((saved or {}).get("hostname", pod.id))
        self._has_keys = bool(saved)  # a former host has given the guest its keys
        self._importing: asyncio.Future[Any] | None = None
        self._calls = Calls(pod.id, f"{_HOME if self._user == 'root' else _USERS_HOME}/{pod.id}")
        self._containers = Containers(self._calls)
        self._commands = Commands(pod.id, self._calls, self._containers, spawner)
        self._lost: asyncio.Future[str] | None = None
        self._broken = False  #: the connection was lost and the containers are not attached again yet

    @property
    def capabilities(self) -> frozenset[AgentCapability]:
        """What this agent can do; only a guest of the pod's own has a network and a clock to set, and can be cloned."""
        can = {
            AgentCapability.EXEC,
            AgentCapability.STREAMS,
            AgentCapability.SIGNAL,
            AgentCapability.TERMINAL,
            AgentCapability.POD,
            AgentCapability.MOUNTS,
            AgentCapability.WRITABLE_ROOTS,
            AgentCapability.ADD_CONTAINER,
            AgentCapability.LIMITS,
            AgentCapability.ISOLATION,
            AgentCapability.REATTACH,
        }
        own = {AgentCapability.NETWORK, AgentCapability.CLONES, AgentCapability.CLOCK}
        return frozenset(can if self._config.server else can | own)

    def devices(self) -> Sequence[Device]:
        """Return the shared directories and, for a guest of the pod's own, its SSH port and where it gets its keys."""
        pod = self._pod
        shares = [SharedDirectory(tag, pod.share_dir) for tag in (SHARE_TAG, LIVE_TAG)]
        if pod.writable_dir is not None:
            shares.append(SharedDirectory(WRITABLE_TAG, pod.writable_dir, read_only=False))
        if pod.roots_dir is not None:
            shares.append(SharedDirectory(ROOTS_TAG, pod.roots_dir, read_only=False, owners=True))
        if self._config.server:
            return shares
        return [GuestPort(PORT_NAME, PORT), waking.CHANNEL, *shares]

    async def prepare(self) -> None:
        """Begin to import what :meth:`connect` needs, which is ready when the VM is."""
        self._importing = asyncio.ensure_future(asyncio.to_thread(import_module, "vc_agent_sshd.connection"))

    # The connection.

    async def connect(self, open_channel: OpenChannel, timeout: float) -> None:
        """Give a guest of the pod's own its keys, and log in; attempts go on until one succeeds, or is refused.

        ``timeout`` is in seconds. Raises AgentConnectError, AgentTimeoutError, StorageError, ConfigError for keys that
        cannot be read.
        """
        began = time.monotonic()
        self._lost = asyncio.get_running_loop().create_future()
        if self._importing is not None:
            await self._importing
        if self._config.server:
            connection = self._to_server()
        else:
            from vc_agent_sshd.keys import ManagedKeys

            keys = ManagedKeys(self._pod.run_dir)
            if not self._has_keys:
                await waking.send(self._guest, open_channel, timeout, await asyncio.to_thread(keys.make))
                self._has_keys, timeout = True, timeout - (time.monotonic() - began)
            connection = self._to_guest(open_channel, keys)
        connection.on_lost = self._on_lost
        self._calls.connection = connection
        await connection.open(timeout)

    async def wake(self, open_channel: OpenChannel, timeout: float) -> None:
        """Do what :meth:`connect` does: the guest of a clone waits for its keys, as one that boots does."""
        await self.connect(open_channel, timeout)

    async def settle(self, open_channel: OpenChannel, timeout: float) -> None:
        """Wait until the guest waits for its keys. Raises AgentConnectError, AgentTimeoutError."""
        await waking.send(self._guest, open_channel, timeout)

    def _to_server(self) -> Connection:
        from vc_agent_sshd.connection import Connection
        from vc_agent_sshd.keys import given_keys

        config = self._config
        families = {"tcp": socket.AF_UNSPEC, "tcp4": socket.AF_INET, "tcp6": socket.AF_INET6}
        where = {"host": config.server, "port": config.port, "family": families[config.protocol]}

        async def dial() -> dict[str, Any]:
            return where

        what = f"server {config.server!r} port {config.port}"
        return Connection(what, self._user, dial, lambda: given_keys(config), keepalive=True)

    def _to_guest(self, open_channel: OpenChannel, keys: ManagedKeys) -> Connection:
        from vc_agent_sshd.connection import Connection

        async def dial() -> dict[str, Any]:
            return {"sock": await open_channel(PORT_NAME), "host": self._pod.id}

        return Connection(self._guest, self._user, dial, keys.read, keepalive=False)

    @property
    def _guest(self) -> str:
        return f"the guest of pod {self._pod.id!r}"

    async def aclose(self) -> None:
        """Close the connection; containers run on, other processes lose their streams."""
        self._containers.close()
        if (connection := self._calls.connection) is not None:
            if not self._broken:
                await self._containers.detach_all()
            await connection.aclose()
        await self._calls.aclose()
        self._containers.fail_all(AgentConnectError(f"the agent of pod {self._pod.id!r} was closed"))

    async def wait_lost(self) -> str:
        """Return why the connection could not be made again, once that happens."""
        assert self._lost is not None, "the core connects first"
        return await asyncio.shield(self._lost)

    def _on_lost(self) -> None:
        """Connect again at once: until then the containers' output waits in the guest."""
        if not self._broken:
            self._broken = True
            self._calls.spawn(self._recover())

    async def _recover(self) -> None:
        assert self._lost is not None
        try:
            connection = self._calls.connected()
            attached = False
            while not (attached and connection.alive):
                await connection.open(_RECONNECT_TIMEOUT)
                try:
                    await self._containers.attach_all()
                    attached = True
                except AgentConnectError:  # it was lost again; a call may have made the next one already
                    attached = False
            self._broken = False
        except VCError as error:
            if not self._lost.done():
                self._lost.set_result(str(error))
            self._containers.fail_all(AgentConnectError(f"the connection to the guest was lost: {error}"))

    # The pod.

    async def start_pod(self, hostname: str, root_fs: str, timeout: float, network: GuestNetwork | None = None) -> None:
        """Write the scripts into a given server, or give a guest of the pod's own its host name and network.

        Raises NotSupportedError for a root file system of the pod's own, AgentError.
        """
        if root_fs:
            raise NotSupportedError("agent sshd gives a pod no root file system of its own; leave root_fs empty")
        self._hostname = hostname
        if self._config.server:
            line = shell.setup(self._calls.home)
        else:
            line = shell.configure(hostname, network, self._calls.home)
        await self._calls.run("the set-up of the pod", line, timeout)

    async def set_clock(self, timeout: float) -> None:
        """Execute date(1) in a guest of the pod's own. Raises NotSupportedError for a given server, AgentError."""
        if self._config.server:
            raise NotSupportedError("agent sshd does not set the clock of a given server")
        await self._calls.run("the setting of the clock", f"date -s @{time.time():.0f} >/dev/null", timeout)

    async def stop_pod(self, timeout: float) -> None:
        """End all containers, and power off a guest of the pod's own. Raises AgentError."""
        with contextlib.suppress(AgentConnectError):  # it may power off before its answer has left
            try:
                await self._calls.run_script(timeout, "remove_all")
            except SessionRefusedError:
                self._broken = True  # no container is attached again, so all sessions of the next connection are free
                await self._calls.connected().drop()
                await self._calls.run_script(timeout, "remove_all")
                self._containers.fail_all(AgentConnectError(f"pod {self._pod.id!r} was stopped"))
            if not self._config.server:
                await self._calls.run("power-off", f"kill $(cat {_DAEMON})", timeout)

    # Containers.

    async def start_container(self, container: GuestContainer, io: ProcessIO, timeout: float) -> GuestProcessId:
        """Start a container in namespaces of its own.

        Raises NotSupportedError, ConfigError, CommandError if its program cannot be executed, else AgentError.
        """
        return await self._containers.start(container, io, self._hostname, timeout)

    async def adopt(self, process: GuestProcessId, io: ProcessIO) -> None:
        """Attach to the streams of a container that a former host started. Raises AgentError."""
        await self._containers.attach(process.container_id, io)

    async def signal_container(self, container_id: str, signal: int, timeout: float) -> None:
        """Send a signal to a container's first process. Raises AgentError."""
        await self._containers.signal(container_id, signal, timeout)

    async def remove_container(self, container_id: str, timeout: float) -> None:
        """Remove all that the guest has of a container. Raises AgentError."""
        await self._containers.remove(container_id, timeout)

    # Processes.

    async def exec(
        self, container_id: str, cmd: Cmd, io: ProcessIO, timeout: float, terminal: TerminalSize | None = None
    ) -> GuestProcessId:
        """Run a command in a container through the spawner, or without a container in the guest itself.

        Raises ConfigError, NotSupportedError, AgentError.
        """
        return await self._commands.start(container_id, cmd, io, timeout, terminal)

    async def wait(self, process: GuestProcessId) -> int:
        """Return a process' exit code once it has ended and its output was written. Raises AgentError."""
        if process.process_id == FIRST:
            return await self._containers.wait(process)
        return await self._commands.wait(process)

    async def signal(self, process: GuestProcessId, signal: int, timeout: float) -> None:
        """Send a signal to a process. Raises AgentError."""
        if process.process_id == FIRST:
            await self._containers.signal(process.container_id, signal, timeout)
        else:
            await self._commands.signal(process, signal, timeout)

    async def resize(self, process: GuestProcessId, rows: int, columns: int, timeout: float) -> None:
        """Set the size of a process' terminal. Raises AgentError."""
        owner = self._containers if process.process_id == FIRST else self._commands
        owner.resize(process, TerminalSize(rows, columns))

    def save(self) -> Mapping[str, object]:
        """Return the host name; all else is in the guest, or below the pod's run directory."""
        return {"hostname": self._hostname}
