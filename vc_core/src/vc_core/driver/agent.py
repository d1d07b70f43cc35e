"""The Agent interface: what a driver's ``vc_agent_create`` returns."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from vc_core.config.container import Cmd
from vc_core.config.limits import DEFAULT_CAPABILITIES, RLimit
from vc_core.driver.devices import Device, DiskLocation
from vc_core.driver.kinds import PluginKind, unsupported
from vc_core.results import ContainerUsage


@dataclass(frozen=True, slots=True)
class GuestInterface:
    """A network interface as an agent configures it in the guest; addresses have a prefix length."""

    device: str
    addresses: tuple[str, ...]
    mtu: int = 0


@dataclass(frozen=True, slots=True)
class GuestRoute:
    """A route in the guest; ``destination`` is a network with prefix length, or "default"."""

    destination: str
    gateway: str
    device: str


@dataclass(frozen=True, slots=True)
class GuestNetwork:
    """The network that an agent configures in the guest. ``dns``: what containers find in /etc/resolv.conf."""

    interfaces: tuple[GuestInterface, ...] = ()
    routes: tuple[GuestRoute, ...] = ()
    dns: tuple[str, ...] = ()


#: Returns a connected, non-blocking socket to the channel of that name (``Hypervisor.open_channel``).
OpenChannel = Callable[[str], Awaitable[socket.socket]]


class AgentCapability(StrEnum):
    """What an agent can do beyond starting and stopping a pod's containers."""

    EXEC = "exec"  #: exec really runs commands
    STREAMS = "streams"  #: output arrives and input is delivered
    SIGNAL = "signal"  #: signals reach any process, not only a container's first
    TERMINAL = "terminal"  #: processes can have a terminal
    POD = "pod"  #: processes can run in the pod itself, outside of its containers
    MOUNTS = "mounts"  #: containers can have mounts
    ADD_CONTAINER = "add-container"  #: containers can be started on a running pod
    DISKS = "disks"  #: root file systems can be disks
    LIMITS = "limits"  #: containers have limits, chosen capabilities, and roots that cannot be written
    STATS = "stats"  #: stats works
    NETWORK = "network"  #: the pod's network is configured in the guest
    REATTACH = "reattach"  #: another process can take over with containers and exit codes intact


class ProcessIO(ABC):
    """Where one process' input comes from and its output goes; given by the core to the agent.

    The agent awaits each call: a write that takes long is how a slow reader holds back this one stream, and the agent
    must not let it hold back any other.
    """

    #: False if the input is at its end from the start; an agent may then tell the guest so at once.
    has_input: bool = True

    #: For a process that is taken over: bytes of output and of error output that a former owner has taken, where that
    #: is known. An agent that can tell goes on after them.
    taken: tuple[int, int] | None = None

    @abstractmethod
    async def read_stdin(self) -> bytes:
        """Return the next bytes for the process (64 KiB at most), empty at the end of input."""

    @abstractmethod
    async def write_stdout(self, data: bytes) -> None:
        """Take output of the process. Never raises: a reader that has gone swallows what follows."""

    @abstractmethod
    async def write_stderr(self, data: bytes) -> None:
        """Take error output of the process. Never raises."""


@dataclass(frozen=True, slots=True)
class TerminalSize:
    """The size of a process' terminal in characters; zeros mean unknown."""

    rows: int = 0
    columns: int = 0


@dataclass(frozen=True, slots=True)
class Process:
    """Names one process in the guest: of ``container_id``, ``process_id`` chosen by the agent."""

    container_id: str
    process_id: str


@dataclass(frozen=True, slots=True)
class GuestMount:
    """A file or directory of the host in a container: ``source`` below the shared directory ("c1/mounts/0").

    ``target`` is an absolute path in the container, made if it is missing. Unless ``read_only``, ``source`` lies below
    the pod's writable shared directory instead.
    """

    source: str
    target: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class GuestDisk:
    """A disk that is a container's root: where the guest finds it, and its file system ("ext4", "squashfs"...)."""

    location: DiskLocation
    fstype: str


@dataclass(frozen=True, slots=True)
class Confinement:
    """What a container's processes may do, those started in it later too; fields as those of ContainerConfig."""

    read_only: bool = False
    overlay_size: int = 0  #: MiB
    memory: int = 0  #: MiB
    pids: int = 0
    rlimits: tuple[RLimit, ...] = ()
    capabilities: tuple[str, ...] = DEFAULT_CAPABILITIES  #: full names, such as CAP_CHOWN
    no_new_privs: bool = True


@dataclass(frozen=True, slots=True)
class GuestContainer:
    """A container as the agent sees it.

    ``root_fs`` is where the container's root is found below the pod's shared directory ("c1/rootfs"); it is "" when the
    root is a ``disk``, which the container writes to itself with ``writable_root_fs``, and not to an overlay. ``cmd``
    is what to run; ``terminal`` the size of the terminal that it runs on, None for no terminal.
    """

    id: str
    root_fs: str
    cmd: Cmd
    terminal: TerminalSize | None = None
    mounts: tuple[GuestMount, ...] = ()
    disk: GuestDisk | None = None
    writable_root_fs: bool = False
    confinement: Confinement = Confinement()


class Agent(ABC):
    """Reaches into one pod's running guest.

    The core makes one through the driver's hook, gives the devices it names to the hypervisor, starts the VM, then
    calls :meth:`connect` and :meth:`start_pod`. A later process makes another with ``saved``: :meth:`connect` then
    takes over the same guest, and the core calls :meth:`adopt` for each container that ran.

    Every method raises only ``VCError`` subclasses. ``timeout`` arguments are seconds from the call.
    """

    @property
    @abstractmethod
    def capabilities(self) -> frozenset[AgentCapability]:
        """What this agent can do. May grow after connect, when the guest has told what it is."""

    @abstractmethod
    def devices(self) -> Sequence[Device]:
        """Return the devices that the agent needs in the VM. Called before the VM is prepared."""

    async def prepare(self) -> None:  # noqa: B027
        """Make on the host what the guest finds when it boots, such as keys in a directory that :meth:`devices` shares.

        Called at each start of a pod, before its VM is prepared; by default there is nothing to make. What is made
        belongs below the pod's ``run_dir``. Raises AgentError, StorageError.
        """

    @abstractmethod
    async def connect(self, open_channel: OpenChannel, timeout: float) -> None:
        """Reach the agent in the guest, and make sure that it is there.

        Called once per object: after the VM's start, or with ``saved`` on a VM that runs.
        Raises AgentConnectError, AgentTimeoutError, AgentProtocolError.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Drop the connection; guest and containers run on. Pending calls fail with AgentConnectError."""

    @abstractmethod
    async def start_pod(self, hostname: str, root_fs: str, timeout: float, network: GuestNetwork | None = None) -> None:
        """Prepare the guest for containers (host name, shared directory, network). Called once per VM, after connect.

        ``root_fs``: where the pod's own root file system lies below the shared directory, "" when it has none.
        ``network``: what to configure, None when the pod has no network; only with Capability NETWORK.
        Raises NotSupportedError when the agent cannot give a pod a root of its own.
        """

    @abstractmethod
    async def stop_pod(self, timeout: float) -> None:
        """Ask the guest to end everything and power off. The core stops the VM afterwards in any case."""

    @abstractmethod
    async def start_container(self, container: GuestContainer, io: ProcessIO, timeout: float) -> Process:
        """Start a container's process, wired to ``io``, and return its name.

        Raises CommandError when the guest says why the command cannot start.
        """

    @abstractmethod
    async def exec(
        self, container_id: str, cmd: Cmd, io: ProcessIO, timeout: float, terminal: TerminalSize | None = None
    ) -> Process:
        """Start a further process in a running container, wired to ``io``; with ``terminal`` on one of that size.

        An empty ``container_id`` means the pod itself: its own root file system, else the guest's.
        Raises CommandError when the guest says why the command cannot start, NotSupportedError for the pod itself
        without Capability POD.
        """

    @abstractmethod
    async def wait(self, process: Process) -> int:
        """Return the exit code (128+n for death by signal n) once the process ended and all its output was taken.

        Any number of callers may wait, before and after the end. Raises AgentError when the guest is lost.
        """

    @abstractmethod
    async def signal_container(self, container_id: str, signal: int, timeout: float) -> None:
        """Send a signal to a container's first process; no error if it has just ended."""

    async def signal(self, process: Process, signal: int, timeout: float) -> None:
        """Send a signal to a process; no error if it has just ended. Only with Capability SIGNAL."""
        raise _unsupported(self, "send signals to single processes")

    async def resize(self, process: Process, rows: int, columns: int, timeout: float) -> None:
        """Tell a process' terminal its size. Only with Capability TERMINAL."""
        raise _unsupported(self, "resize terminals")

    async def adopt(self, process: Process, io: ProcessIO) -> None:
        """Wire a process that an earlier owner started to ``io``. Only with Capability REATTACH, after connect.

        :meth:`wait` then works as if this object had started it. Raises AgentError if the guest does not know it.
        """
        raise _unsupported(self, "take over running processes")

    async def remove_container(self, container_id: str, timeout: float) -> None:  # noqa: B027
        """Free what the guest holds for a container that ended. Called before it is started again or deleted."""

    async def stats(self, container_id: str, timeout: float) -> ContainerUsage:
        """Return what a running container used so far. Only with Capability STATS."""
        raise _unsupported(self, "tell what containers use")

    async def wait_lost(self) -> str:
        """Return one sentence when the guest can no longer be reached; never returns on a good connection."""
        import asyncio

        await asyncio.Event().wait()
        raise AssertionError("an event that nobody sets was set")

    @property
    def warnings(self) -> Sequence[str]:
        """Say in one sentence each what this guest does less well than callers expect; shown by status.

        Valid from connect on. By default there is nothing to say.
        """
        return ()

    @abstractmethod
    def save(self) -> Mapping[str, object]:
        """Return JSON-able facts from which the driver's create hook makes an object for the same guest."""


_unsupported = partial(unsupported, PluginKind.AGENT)
