"""Results of operations: frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, field, fields, replace
from enum import StrEnum
from typing import Any, Literal

from vc_core.config.network import PortForward
from vc_core.frozen import frozen
from vc_core.states import State

#: Bytes of an output that the text of a result shows.
_SHOWN_MAX = 1000


def _text_of(result: Any) -> str:
    """Return a result as the expression that makes it, without the fields that have their default values."""
    given = [(one, getattr(result, one.name)) for one in fields(result)]
    shown = [f"{one.name}={value!r}" for one, value in given if value != _default(one)]
    return f"{type(result).__name__}({', '.join(shown)})"


def _default(field: Field[Any]) -> object:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _shortened(data: bytes) -> str:
    return repr(data) if len(data) <= _SHOWN_MAX else f"<{len(data)} bytes: {data[:_SHOWN_MAX]!r}...>"


@frozen
class ExecResult:
    """The exit code of a command and its captured output in bytes, empty where the output was not captured.

    ``truncated``: there was more than ``max_output``, and what came after it was discarded.
    """

    exit_code: int
    stdout: bytes = b""
    stderr: bytes = b""
    truncated: bool = False

    def __repr__(self) -> str:
        stdout, stderr = _shortened(self.stdout), _shortened(self.stderr)
        return f"ExecResult(exit_code={self.exit_code}, stdout={stdout}, stderr={stderr}, truncated={self.truncated})"

    def _repr_html_(self) -> str:
        from vc_core import notebook  # here, because few callers are notebooks

        note = ", and more output than was kept" if self.truncated else ""
        streams = notebook.stream("stdout", self.stdout) + notebook.stream("stderr", self.stderr)
        return f"<div>exit code {self.exit_code}{note}</div>{streams}"


@frozen(kw_only=True)
class ContainerStatus:
    """The state of a container. Times are seconds since the epoch; ``log_path`` is "" when it has no log."""

    id: str
    state: State
    reason: str = ""
    exit_code: int | None = None
    started_at: float | None = None
    ended_at: float | None = None
    log_path: str = ""

    def __repr__(self) -> str:
        return _text_of(self)

    def _repr_html_(self) -> str:
        from vc_core import notebook

        rows = [("state", self.state), ("reason", self.reason), ("exit code", self.exit_code), ("log", self.log_path)]
        return notebook.details(f"container {self.id}", rows)


@frozen(kw_only=True)
class PodStatus:
    """The state of a pod, derived from its record and from whether its VM's process exists.

    ``changed_at``: when ``state`` and ``reason`` became what they are, in seconds since the epoch; None if unknown.
    ``acceleration`` ("kvm", "tcg", ...), ``isolation`` ("hardware", "none") and ``jail`` ("full", "namespaces",
    "landlock", "none") are "" until the pod was started once. ``jail_missing``: one sentence for each reason why
    the jail is not full. ``strict``: it starts only in a full jail.
    ``console_path``: the log of the guest's console, "" when there is none. ``forwards``: ports of 127.0.0.1 that are
    forwarded to the guest while it runs. ``template``: the kind of the template of which it was started as a clone, ""
    if its guest booted. ``warnings``: one sentence for each limitation of the agent with this guest.
    ``pool``: the name of the pool in which the pod waits to be taken, else "". ``labels``: those of its configuration.
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
    labels: Mapping[str, str] = field(default_factory=dict)
    containers: tuple[ContainerStatus, ...] = ()

    def __repr__(self) -> str:
        return _text_of(self)

    def _repr_html_(self) -> str:
        from vc_core import notebook

        forwards = [f"127.0.0.1:{one.host_port} to {one.guest_port}/{one.protocol}" for one in self.forwards]
        rows = [
            ("state", self.state),
            ("reason", self.reason),
            ("hypervisor", self.hypervisor),
            ("agent", self.agent),
            ("isolation", self.isolation),
            ("jail", self.jail),
            ("warnings", "; ".join(self.warnings)),
            ("ports", ", ".join(forwards)),
        ]
        containers = [
            (one.id, one.state, "" if one.exit_code is None else one.exit_code, one.reason) for one in self.containers
        ]
        return notebook.details(f"pod {self.id}", rows) + notebook.table(
            ("container", "state", "exit code", "reason"), containers
        )


@frozen
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


@frozen
class LogLine:
    """A line that a container wrote.

    ``time``: when its first byte arrived, in seconds since the epoch. ``data``: its bytes, with the newline at its end;
    a line that is very long, or that the container did not end, is without one.
    """

    time: float
    stream: Literal["stdout", "stderr"]
    data: bytes


@frozen(kw_only=True)
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


@frozen(kw_only=True)
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


class EventKind(StrEnum):
    """What became of a pod or a container."""

    CREATED = "created"
    STARTED = "started"
    PAUSED = "paused"
    RESUMED = "resumed"
    OOM = "oom"  #: the guest's kernel ended it, because memory was used up; ``STOPPED`` follows
    STOPPED = "stopped"
    FAILED = "failed"  #: an operation failed and its clean-up failed too
    DELETED = "deleted"


@frozen
class PodEvent:
    """An event of a pod, or of its container ``container_id`` if that is not empty.

    ``time``: seconds since the epoch. ``exit_code``: of a container that stopped and has one. ``reason``: why it
    stopped or failed, "" if by itself or on request.
    """

    time: float
    kind: EventKind
    pod_id: str
    container_id: str = ""
    exit_code: int | None = None
    reason: str = ""


@frozen
class ContainerUsage:
    """Resources that a container's processes have used and use now; None where the guest does not report a value."""

    cpu_seconds: float | None = None  #: seconds of processor time used so far
    memory: int | None = None  #: bytes of the working set, without file pages that the kernel takes back first
    memory_limit: int | None = None  #: bytes; None: limited by the VM only
    pids: int | None = None  #: processes and threads that exist now
    read: int | None = None  #: bytes read from disks
    written: int | None = None  #: bytes written to disks
    memory_total: int | None = None  #: bytes with all file pages, which count for the limit
    memory_cache: int | None = None  #: bytes of file pages among them
    oom_kills: int | None = None  #: processes that the kernel has killed because memory was used up


@frozen
class VMUsage:
    """Resources of this host that a pod's VM and supervisor have used and use now; None for what cannot be read."""

    cpu_seconds: float | None = None  #: seconds of processor time used so far
    memory: int | None = None  #: bytes of the processes' memory, of shared pages their part (PSS)
    pids: int | None = None  #: threads that exist now
    read: int | None = None  #: bytes read from disks
    written: int | None = None  #: bytes written to disks


@frozen(kw_only=True)
class PodUsage:
    """What a pod uses. ``time``: of the measurement, seconds since the epoch. ``vm``: on this host, None without a VM.

    ``containers``: those that run, by their ids.
    """

    pod_id: str
    time: float
    vm: VMUsage | None
    containers: dict[str, ContainerUsage]
