"""What operations return: frozen data."""

from __future__ import annotations

from dataclasses import dataclass

from vc_core.config.network import PortForward
from vc_core.states import State


@dataclass(frozen=True, slots=True)
class ExecResult:
    """How a command ended; captured output in bytes (empty where the caller took it elsewhere)."""

    exit_code: int
    stdout: bytes = b""
    stderr: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerStatus:
    """A container's state. Times are seconds since the epoch; ``log_path`` is "" when nothing was logged."""

    id: str
    state: State
    reason: str = ""
    exit_code: int | None = None
    started_at: float | None = None
    ended_at: float | None = None
    log_path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodStatus:
    """A pod's state, derived from its record and from whether its VM lives.

    ``acceleration`` ("kvm", "tcg", ...) and ``isolation`` ("hardware", "none") are "" until the pod ran once.
    ``console_path`` names the log of the guest's console, "" when there is none. ``forwards``: ports of
    127.0.0.1 that lead into the guest while it runs. ``warnings``: what its agent does less well with this guest than
    callers expect, in one sentence each.
    """

    id: str
    state: State
    reason: str = ""
    hypervisor: str = ""
    agent: str = ""
    acceleration: str = ""
    isolation: str = ""
    created_at: float | None = None
    console_path: str = ""
    forwards: tuple[PortForward, ...] = ()
    warnings: tuple[str, ...] = ()
    containers: tuple[ContainerStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerUsage:
    """What a container's processes used so far, and use now. None where the guest cannot tell."""

    cpu_seconds: float | None = None
    memory: int | None = None  #: bytes, in use now
    memory_limit: int | None = None  #: bytes; None: no limit but the VM's
    pids: int | None = None  #: processes and threads that there are now
    read: int | None = None  #: bytes read from disks
    written: int | None = None  #: bytes written to disks
