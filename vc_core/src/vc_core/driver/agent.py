"""Agent: runs containers and commands in one pod's guest. A driver's ``vc_agent_create`` returns one."""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from typing import Literal

from vc_core.config.container import Cmd, DeviceNode
from vc_core.config.limits import DEFAULT_CAPABILITIES, RLimit
from vc_core.driver.copies import GuestCopy
from vc_core.driver.devices import Device, DiskLocation
from vc_core.driver.terminal import TerminalSize
from vc_core.driver.unsupported import unsupported
from vc_core.frozen import frozen
from vc_core.results import ContainerUsage


@frozen
class GuestInterface:
    """A network interface that an agent configures in the guest.

    ``addresses``: each with its prefix length. ``mtu``: bytes; 0 leaves the guest's default. ``mac``: given in a clone,
    whose interface has the address of its template; "" leaves the address of the device.
    """

    device: str
    addresses: tuple[str, ...]
    mtu: int = 0
    mac: str = ""


@frozen
class GuestRoute:
    """A route in the guest; ``destination`` is a network with prefix length, or "default"."""

    destination: str
    gateway: str
    device: str


@frozen
class GuestNetwork:
    """The network that an agent configures in the guest. ``dns``: the name servers for containers' /etc/resolv.conf."""

    interfaces: tuple[GuestInterface, ...] = ()
    routes: tuple[GuestRoute, ...] = ()
    dns: tuple[str, ...] = ()


#: Returns a connected, non-blocking socket to the channel of that name (``Hypervisor.open_channel``). Raises
#: HypervisorError.
OpenChannel = Callable[[str], Awaitable[socket.socket]]


class AgentCapability(StrEnum):
    """What an agent can do beyond starting and stopping a pod's containers.

    The core calls an optional method only if its capability is there.
    """

    EXEC = "exec"  #: exec runs commands, and does not only pretend to
    STREAMS = "streams"  #: output arrives and input is delivered
    SIGNAL = "signal"  #: signals reach any process, not only a container's first
    TERMINAL = "terminal"  #: processes can have a terminal
    POD = "pod"  #: processes can run in the pod itself, outside of its containers
    MOUNTS = "mounts"  #: containers can have mounts
    ADD_CONTAINER = "add-container"  #: containers can be started on a running pod
    DISKS = "disks"  #: root file systems can be disks
    WRITABLE_ROOTS = "writable-roots"  #: containers can write to the directories that are their roots
    LIMITS = "limits"  #: containers have limits, chosen capabilities, and roots that cannot be written
    ISOLATION = "isolation"  #: containers can be isolated from the others of the pod
    MOUNT_OPTIONS = "mount-options"  #: mounts can be a tmpfs and have options, paths be covered, /dev/shm be the pod's
    PID_NAMESPACE = "pid-namespace"  #: containers can have a pid namespace of their own
    SECCOMP = "seccomp"  #: the system calls of a container can be filtered
    DEVICES = "devices"  #: containers can have devices besides the usual ones
    FREEZE = "freeze"  #: pause_container and resume_container work
    UPDATE = "update"  #: update_container works, and containers can have cpus
    PROCESS_LIMITS = "process-limits"  #: commands can have exact groups, and what else Cmd has after them
    SYSCTLS = "sysctls"  #: set_sysctls works
    CLOCK = "clock"  #: set_clock works
    STATS = "stats"  #: stats works
    NETWORK = "network"  #: the pod's network is configured in the guest
    REATTACH = "reattach"  #: another process can take over with containers and exit codes intact
    CLOSE_OUTPUT = "close-output"  #: the output of a process can be closed when nothing reads it any more
    COPY = "copy"  #: files can be copied into containers and out of them
    CLONES = "clones"  #: settle and wake work, and start_pod sets the MAC addresses of a clone


class ProcessIO(ABC):
    """The input and output of one process; the core passes it to the agent, which calls its methods.

    The agent awaits each call. A write waits until the reader has room: the agent then stops this one stream, and must
    not stop any other.
    """

    #: False if the input is at its end from the start; an agent may then close the process' input at once.
    has_input: bool = True

    #: For a process that is taken over: bytes of output and of error output that a former owner has read; None if the
    #: core has no record of that. An agent that counts bytes sends those after them.
    taken: tuple[int, int] | None = None

    @abstractmethod
    async def read_stdin(self) -> bytes:
        """Return the next bytes for the process (64 KiB at most), empty at the end of input."""

    @abstractmethod
    async def write_stdout(self, data: bytes) -> None:
        """Write output of the process. Raises nothing: once the reader has closed its end, output is discarded."""

    @abstractmethod
    async def write_stderr(self, data: bytes) -> None:
        """Write error output of the process. Raises nothing, like :meth:`write_stdout`."""


@frozen
class GuestProcessId:
    """Identifies one process in the guest: one of ``container_id``, by a ``process_id`` that the agent chose."""

    container_id: str
    process_id: str


@frozen
class GuestMount:
    """A file or directory of the host to mount in a container: ``source`` below the shared directory ("c1/mounts/0").

    ``target`` is an absolute path in the container, which the agent makes if it is missing. Unless ``read_only``,
    ``source`` is below the pod's writable shared directory instead. The other fields are those of ``Mount``, and need
    Capability MOUNT_OPTIONS.
    """

    source: str
    target: str
    read_only: bool = True
    type: Literal["bind", "tmpfs"] = "bind"
    size: int = 0  #: MiB of a tmpfs
    mode: int = 0o1777
    options: tuple[str, ...] = ()


@frozen
class GuestDisk:
    """A disk that is a container's root: its place in the guest, and its file system ("ext4", "squashfs"...)."""

    location: DiskLocation
    fstype: str


@frozen
class Confinement:
    """What the processes of a container may do, including those of exec. The fields are those of ContainerConfig."""

    read_only: bool = False
    overlay_size: int = 0  #: MiB
    memory: int = 0  #: MiB
    cpus: float = 0.0  #: processors
    pids: int = 0
    rlimits: tuple[RLimit, ...] = ()
    capabilities: tuple[str, ...] = DEFAULT_CAPABILITIES  #: full names, such as CAP_CHOWN
    no_new_privs: bool = True
    isolate: bool = False  #: other containers can neither see, signal and trace its processes nor use its IPC objects
    masked_paths: tuple[str, ...] = ()
    read_only_paths: tuple[str, ...] = ()
    pid_namespace: Literal["pod", "own"] = "pod"  #: "own": its first process is pid 1 of a pid namespace of its own


@frozen
class GuestContainer:
    """A container as the agent sees it.

    ``root_fs`` is the path of the container's root below the pod's shared directory (".roots/65-7"); it is "" when the
    root is a ``disk``. With ``writable_root_fs`` the container writes to that disk itself, or to the directory
    ``root_fs``, which is then below ``PodContext.roots_dir``; else to an overlay. ``cmd`` is the command to run;
    ``terminal`` the size of the terminal that it runs on, None for no terminal.
    """

    id: str
    root_fs: str
    cmd: Cmd
    terminal: TerminalSize | None = None
    mounts: tuple[GuestMount, ...] = ()
    disk: GuestDisk | None = None
    writable_root_fs: bool = False
    confinement: Confinement = Confinement()
    seccomp: bytes = b""  #: filter of the system calls of all its processes, only with Capability SECCOMP
    devices: tuple[DeviceNode, ...] = ()  #: in its /dev besides the usual ones, only with Capability DEVICES
    shm_size: int = 0  #: MiB of the /dev/shm that the containers of the pod share; 0: one of its own


class Agent(ABC):
    """Runs containers and commands in one pod's guest.

    The core makes one through the driver's hook, adds the agent's :meth:`devices` to the VM, starts the VM, then calls
    :meth:`connect` and :meth:`start_pod`. A later process makes another with ``saved``: :meth:`connect` then takes over
    the same guest, and the core calls :meth:`adopt` for each container that ran.

    Every method raises only ``VCError`` subclasses. ``timeout`` arguments are seconds from the call.
    """

    @property
    @abstractmethod
    def capabilities(self) -> frozenset[AgentCapability]:
        """Return what this agent can do. Read when a pod is created and before each optional operation.

        After connect there may be more, because only the guest can report them.
        """

    @abstractmethod
    def devices(self) -> Sequence[Device]:
        """Return the devices that the agent needs in the VM. Called before the VM is prepared; does no I/O."""

    async def prepare(self) -> None:  # noqa: B027
        """Write the files that the guest reads when it boots, such as keys in a directory that :meth:`devices` shares.

        Called at each start of a pod, before its VM is prepared; by default it does nothing. The files must be below
        the pod's ``run_dir``. Raises AgentError, StorageError.
        """

    @abstractmethod
    async def connect(self, open_channel: OpenChannel, timeout: float) -> None:
        """Connect to the agent in the guest, and return once it has answered.

        Called once per object: after the VM's start, or with ``saved`` when the VM runs already. ``open_channel``
        connects to one of :meth:`devices`, and may be called again after a lost connection.
        Raises AgentConnectError, AgentTimeoutError, AgentProtocolError.
        """

    async def settle(self, open_channel: OpenChannel, timeout: float) -> None:
        """Wait until the agent in a guest that boots is ready for :meth:`wake`, and close the connection.

        Called once, in the place of connect, on the VM that becomes a template; only :meth:`aclose` is called
        afterwards. Raises NotSupportedError if clones of this guest cannot be woken (the default), AgentConnectError,
        AgentTimeoutError, AgentProtocolError. Only with Capability CLONES.
        """
        raise unsupported("agent", self, "be saved with its guest")

    async def wake(self, open_channel: OpenChannel, timeout: float) -> None:
        """Connect to the agent in a clone, and give its guest what must not be that of its template.

        Called once per object, in the place of connect, when a clone was started. Before anything else runs in the
        guest, its clock is set and its random number generator gets new entropy; :meth:`start_pod` then gives it the
        pod's host name and MAC addresses. Raises what connect raises; NotSupportedError by default. Only with
        Capability CLONES.
        """
        raise unsupported("agent", self, "wake a clone")

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connection; guest and containers run on. Pending calls fail with AgentConnectError.

        Called before the owning process ends, and after the VM has ended.
        """

    @abstractmethod
    async def start_pod(self, hostname: str, root_fs: str, timeout: float, network: GuestNetwork | None = None) -> None:
        """Prepare the guest for containers (host name, shared directory, network). Called once per VM, after connect.

        ``root_fs``: the path of the pod's own root file system below the shared directory, "" when it has none.
        ``network``: what to configure, None when the pod has no network; only with Capability NETWORK.
        Raises NotSupportedError when the agent cannot give a pod a root of its own, AgentError.
        """

    async def set_sysctls(self, sysctls: Mapping[str, str], timeout: float) -> None:
        """Set parameters of the guest's kernel by their names in sysctl(8), in the namespaces of the pod.

        Called after :meth:`start_pod`, before any container starts. Only with Capability SYSCTLS. Raises AgentError
        with the guest's reason; NotSupportedError by default.
        """
        raise unsupported("agent", self, "set parameters of the guest's kernel")

    async def set_clock(self, timeout: float) -> None:
        """Set the guest's clock to the time of this host.

        Called when a VM goes on that was paused. Only with Capability CLOCK. Raises AgentError; NotSupportedError by
        default.
        """
        raise unsupported("agent", self, "set the guest's clock")

    @abstractmethod
    async def stop_pod(self, timeout: float) -> None:
        """Ask the guest to end all processes and power off. The core stops the VM afterwards in any case.

        Called when a running pod is stopped. Raises AgentError.
        """

    @abstractmethod
    async def start_container(self, container: GuestContainer, io: ProcessIO, timeout: float) -> GuestProcessId:
        """Start a container's first process, connected to ``io``, and return its identifier.

        Called when a pod or a container starts. Raises CommandError with the guest's reason when the command cannot
        start, AgentError.
        """

    @abstractmethod
    async def exec(
        self, container_id: str, cmd: Cmd, io: ProcessIO, timeout: float, terminal: TerminalSize | None = None
    ) -> GuestProcessId:
        """Start a further process in a running container, connected to ``io``, and return its identifier.

        Called for each command that a client executes. An empty ``container_id`` means the pod itself: its own root
        file system, else the guest's. ``terminal``: the size of the terminal that it runs on, None for no terminal.
        Raises CommandError with the guest's reason when the command cannot start, AgentError, NotSupportedError for
        the pod itself without Capability POD.
        """

    async def copy(self, container_id: str, copy: GuestCopy, io: ProcessIO, timeout: float) -> GuestProcessId:
        """Start a process in a running container that copies files, and return its identifier.

        Called when a client copies files. It reads the archive from its input or writes it to its output, needs no
        program of the container, and has the container's rights and limits. No name and no link in an archive leads it
        out of ``copy.path``. It ends with 0, or else with another exit code and the reason, one sentence, as error
        output. An empty ``container_id`` means the pod itself, as for :meth:`exec`. Only with Capability COPY.
        Raises AgentError; NotSupportedError by default.
        """
        raise unsupported("agent", self, "copy files")

    @abstractmethod
    async def wait(self, process: GuestProcessId) -> int:
        """Return the exit code (128+n for death by signal n) once the process ended and all its output was written.

        Any number of callers may wait, before and after the end. Raises AgentError when the connection is lost.
        """

    @abstractmethod
    async def signal_container(self, container_id: str, signal: int, timeout: float) -> None:
        """Send a signal to a container's first process; no error if it has just ended.

        Called when a client signals or stops a container. Raises AgentError.
        """

    async def signal(self, process: GuestProcessId, signal: int, timeout: float) -> None:
        """Send a signal to a process; no error if it has just ended. Only with Capability SIGNAL.

        Called when the client of a command forwards a signal, and to kill a command whose client has disconnected or
        whose timeout has passed. Raises AgentError; NotSupportedError by default.
        """
        raise unsupported("agent", self, "send signals to single processes")

    async def close_output(self, process: GuestProcessId, errors: bool, timeout: float) -> None:
        """Close the guest's end of a process' output, or with ``errors`` of its error output.

        Called when the reader on the host has gone. The process then gets SIGPIPE or EPIPE when it writes, as in a
        pipeline, and what the guest still holds of that output is dropped. A process that has ended is ignored. Only
        with Capability CLOSE_OUTPUT. Raises AgentError, NotSupportedError for a process on a terminal; by default
        NotSupportedError.
        """
        raise unsupported("agent", self, "close the output of processes")

    async def resize(self, process: GuestProcessId, rows: int, columns: int, timeout: float) -> None:
        """Set the size, in characters, of a process' terminal. Only with Capability TERMINAL.

        Called when the size of the client's terminal has changed. Raises AgentError; NotSupportedError by default.
        """
        raise unsupported("agent", self, "resize terminals")

    async def adopt(self, process: GuestProcessId, io: ProcessIO) -> None:
        """Connect ``io`` to a process that an earlier owner started. Only with Capability REATTACH.

        Called after connect for each container that ran. :meth:`wait` then works as if this object had started it.
        Raises AgentError if the guest has no such process; NotSupportedError by default.
        """
        raise unsupported("agent", self, "take over running processes")

    async def remove_container(self, container_id: str, timeout: float) -> None:  # noqa: B027
        """Release what the guest holds for a container that has ended. By default there is nothing to release.

        Called before such a container is started again or deleted, and after a start that failed; again after a
        process died before it recorded that, so that there is nothing to release is no error. Raises AgentError.
        """

    async def pause_container(self, container_id: str, timeout: float) -> None:
        """Suspend all processes of a running container. Only with Capability FREEZE.

        Called when a client pauses a container; until :meth:`resume_container` nothing is started in it. Raises
        AgentError; NotSupportedError by default.
        """
        raise unsupported("agent", self, "pause containers")

    async def resume_container(self, container_id: str, timeout: float) -> None:
        """Let the processes of a paused container go on; no error for one that is not paused.

        Called when a client resumes a container, or stops one that is paused. Only with Capability FREEZE. Raises
        AgentError; NotSupportedError by default.
        """
        raise unsupported("agent", self, "resume containers")

    async def update_container(
        self, container_id: str, memory: int | None, pids: int | None, cpus: float | None, timeout: float
    ) -> None:
        """Change the limits of a running container: MiB, processes, processors. None: as it is; 0: no limit.

        Called when a client updates a container. Only with Capability UPDATE. Raises AgentError; NotSupportedError by
        default.
        """
        raise unsupported("agent", self, "change the limits of running containers")

    async def stats(self, container_id: str, timeout: float) -> ContainerUsage:
        """Return the CPU time, memory and processes of a running container. Only with Capability STATS.

        Called when a client asks for a container's statistics. Raises AgentError; NotSupportedError by default.
        """
        raise unsupported("agent", self, "measure what containers use")

    async def wait_lost(self) -> str:
        """Return one sentence once the connection to the guest is lost and cannot be made again.

        Called once after connect; the core then marks the pod as failed. By default it never returns.
        """
        await asyncio.Event().wait()
        raise AssertionError("an event without a setter was set")

    @property
    def warnings(self) -> Sequence[str]:
        """Return one sentence for each limitation of this guest that callers do not expect; status shows them.

        Read after connect. By default there are none.
        """
        return ()

    @abstractmethod
    def save(self) -> Mapping[str, object]:
        """Return a JSON-able mapping from which the driver's create hook makes an object for the same guest.

        Called after each operation that may change it, and committed to disk. Does no I/O.
        """
