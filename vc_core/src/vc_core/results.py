"""Results of operations: frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vc_core.config.network import PortForward
from vc_core.states import State


@dataclass(frozen=True, slots=True)
class ExecResult:
    """The exit code of a command and its captured output in bytes, empty where the output was not captured.

    ``truncated``: there was more than ``max_output``, and what came after it was discarded.
    """

    exit_code: int
    stdout: bytes = b""
    stderr: bytes = b""
    truncated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerStatus:
    """The state of a container. Times are seconds since the epoch; ``log_path`` is "" when it has no log."""

    id: str
    state: State
    reason: str = ""
    exit_code: int | None = None
    started_at: float | None = None
    ended_at: float | None = None
    log_path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodStatus:
    """The state of a pod, derived from its record and from whether its VM's process exists.

    ``changed_at``: when ``state`` and ``reason`` became what they are, in seconds since the epoch; None if unknown.
    ``acceleration`` ("kvm", "tcg", ...), ``isolation`` ("hardware", "none") and ``jail`` ("full", "namespaces",
    "landlock", "none") are "" until the pod was started once. ``jail_missing``: one sentence for each reason why
    the jail is not full. ``strict``: it starts only in a full jail.
    ``console_path``: the log of the guest's console, "" when there is none. ``forwards``: ports of 127.0.0.1 that are
    forwarded to the guest while it runs. ``template``: the kind of the template of which it was started as a clone, ""
    if its guest booted. ``warnings``: one sentence for each limitation of the agent with this guest.
    ``pool``: the name of the pool in which the pod waits to be taken, else "".
    """

    id: str
    state: State
    reason: str = ""
    changed_at: float | None = None
    hypervisor: str = ""
    agent: str = ""
    acceleration: str = ""
    isolation: str = ""
    jail: str = ""
    jail_missing: tuple[str, ...] = ()
    strict: bool = False
    template: str = ""
    created_at: float | None = None
    console_path: str = ""
    forwards: tuple[PortForward, ...] = ()
    warnings: tuple[str, ...] = ()
    pool: str = ""
    containers: tuple[ContainerStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class Repair:
    """Something in which the record, the processes and the files of a pod disagree.

    ``found`` and ``remedy`` are phrases; without a remedy it cannot be mended. ``mended``: that was done. ``problem``:
    the sentence that says why not.
    """

    pod: str
    found: str
    remedy: str
    mended: bool = False
    problem: str = ""

    def done(self) -> Repair:
        """Return the same, mended."""
        return replace(self, mended=True)

    def failed(self, error: Exception) -> Repair:
        """Return the same, not mended because of an error."""
        return replace(self, problem=str(error))


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateStatus:
    """A template, of which pods start as clones. Times are seconds since the epoch.

    ``kind`` names all that its VM has in common with its clones. ``memory`` (MiB) and ``vcpus`` are those of the
    configuration, 0 for the default of the hypervisor driver. ``size``: bytes that it takes on the disk.
    """

    kind: str
    hypervisor: str
    agent: str
    memory: int
    vcpus: int
    created_at: float
    used_at: float
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageStatus:
    """An image that is stored on this host.

    ``digest``: that of its manifest, which names its content. ``references``: its names. ``size``: bytes of its files.
    ``pulled_at``: seconds since the epoch. ``pods``: the ids of those that have a container of it, running or not.
    ``entrypoint`` to ``stop_signal``: what its containers get unless their configuration says otherwise; ``user``:
    NAME or NAME:GROUP, each may be a number. ``root_fs``: the directory with its files, which nobody may change.
    """

    digest: str
    references: tuple[str, ...] = ()
    size: int = 0
    pulled_at: float = 0.0
    pods: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    user: str = ""
    work_dir: str = ""
    stop_signal: str = ""
    root_fs: str = ""


@dataclass(frozen=True, slots=True)
class ContainerUsage:
    """Resources that a container's processes have used and use now; None where the guest does not report a value."""

    cpu_seconds: float | None = None  #: seconds of processor time used so far
    memory: int | None = None  #: bytes in use now
    memory_limit: int | None = None  #: bytes; None: limited by the VM only
    pids: int | None = None  #: processes and threads that exist now
    read: int | None = None  #: bytes read from disks
    written: int | None = None  #: bytes written to disks
