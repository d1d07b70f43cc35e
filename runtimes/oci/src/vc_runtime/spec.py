"""The types of ``config.json`` and ``process.json`` (OCI runtime specification 1.0 to 1.2), as far as they are used.

Unknown fields are ignored, as the specification demands of runtimes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from vc_runtime.faults import RuntimeFault

_T = TypeVar("_T")

#: The version of the specification whose fields are named here.
VERSION = "1.0.2"


class _Camel(msgspec.Struct, rename="camel", kw_only=True):
    """Base of all: names in JSON are in camel case."""


class User(_Camel):
    """Who the process is, by numbers."""

    uid: int = 0
    gid: int = 0
    umask: int | None = None
    additional_gids: list[int] = []


class Size(_Camel):
    """The size of a terminal."""

    height: int = 0
    width: int = 0


class Limit(_Camel):
    """A resource limit of setrlimit(2)."""

    type: str
    soft: int
    hard: int


class Capabilities(_Camel):
    """The five sets of capabilities(7)."""

    bounding: list[str] | None = None
    effective: list[str] | None = None
    inheritable: list[str] | None = None
    permitted: list[str] | None = None
    ambient: list[str] | None = None


class Process(_Camel):
    """A process in a container: its main one, or a further command."""

    args: list[str] = []
    env: list[str] = []
    cwd: str = "/"
    terminal: bool = False
    console_size: Size | None = None
    user: User = msgspec.field(default_factory=User)
    rlimits: list[Limit] = []
    capabilities: Capabilities | None = None
    no_new_privileges: bool = False
    oom_score_adj: int | None = None
    apparmor_profile: str = ""
    selinux_label: str = ""


class Root(_Camel):
    """The root file system."""

    path: str
    readonly: bool = False


class Mount(_Camel):
    """A mount in the container."""

    destination: str
    type: str = ""
    source: str = ""
    options: list[str] = []


class Namespace(_Camel):
    """A namespace that the container is in: a new one, or for a path that one."""

    type: str
    path: str = ""


class Memory(_Camel):
    """Limits of memory, in bytes."""

    limit: int | None = None
    swap: int | None = None
    reservation: int | None = None


class Cpu(_Camel):
    """Shares and limits of the processors; quota and period in microseconds."""

    shares: int | None = None
    quota: int | None = None
    period: int | None = None
    cpus: str = ""


class Pids(_Camel):
    """The limit of processes."""

    limit: int = 0


class DeviceRule(_Camel):
    """Which devices may be used: without numbers all of a type, "a" or none for both."""

    allow: bool
    type: str = ""
    major: int | None = None
    minor: int | None = None
    access: str = ""


class Resources(_Camel):
    """What the container may use."""

    memory: Memory | None = None
    cpu: Cpu | None = None
    pids: Pids | None = None
    devices: list[DeviceRule] = []

    @property
    def every_device(self) -> bool:
        """Whether all devices of the host may be used, as in what engines call a privileged container."""
        last = self.devices[-1] if self.devices else None
        return last is not None and last.allow and last.type in ("", "a") and {last.major, last.minor} <= {None, -1}


class Device(_Camel):
    """A device node."""

    path: str
    type: str = ""
    file_mode: int = 0o666
    uid: int = 0
    gid: int = 0


class SeccompArgument(_Camel):
    """A comparison of an argument of a system call."""

    index: int
    value: int
    op: str
    value_two: int = 0


class SeccompRule(_Camel):
    """What becomes of some system calls, where all comparisons hold."""

    names: list[str]
    action: str
    errno_ret: int | None = None
    args: list[SeccompArgument] = []


class Seccomp(_Camel):
    """A filter of system calls."""

    default_action: str
    default_errno_ret: int | None = None
    architectures: list[str] = []
    syscalls: list[SeccompRule] = []


class Linux(_Camel):
    """What is of Linux alone."""

    namespaces: list[Namespace] = []
    resources: Resources | None = None
    cgroups_path: str = ""
    sysctl: dict[str, str] = {}
    seccomp: Seccomp | None = None
    masked_paths: list[str] = []
    readonly_paths: list[str] = []
    devices: list[Device] = []
    uid_mappings: list[Any] = []
    rootfs_propagation: str = ""
    intel_rdt: Any = None


class Hook(_Camel):
    """A program of the host that is run at a point of a container's life."""

    path: str
    args: list[str] = []
    env: list[str] = []
    timeout: int | None = None


class Hooks(_Camel):
    """The hooks, by their points."""

    prestart: list[Hook] = []
    create_runtime: list[Hook] = []
    create_container: list[Hook] = []
    start_container: list[Hook] = []
    poststart: list[Hook] = []
    poststop: list[Hook] = []


class Spec(_Camel):
    """A bundle's ``config.json``."""

    oci_version: str = VERSION
    process: Process | None = None
    root: Root | None = None
    hostname: str = ""
    domainname: str = ""
    mounts: list[Mount] = []
    hooks: Hooks = msgspec.field(default_factory=Hooks)
    annotations: dict[str, str] = {}
    linux: Linux = msgspec.field(default_factory=Linux)

    def namespace(self, kind: str) -> Namespace | None:
        """Return the namespace of a type, None where the container is in the runtime's own."""
        return next((one for one in self.linux.namespaces if one.type == kind), None)


def read(path: Path, kind: type[_T]) -> _T:
    """Return the document of a file. Raises RuntimeFault for one that cannot be read or is not valid."""
    try:
        return parse(path.read_bytes(), kind, str(path))
    except OSError as error:
        raise RuntimeFault(f"{path} cannot be read: {error.strerror}") from error


def parse(text: bytes, kind: type[_T], name: str) -> _T:
    """Return the document of a text; ``null`` counts as a field that is not there. Raises RuntimeFault.

    No text in it may hold a NUL character, with which no path, argument or name of the system can be made.
    """
    try:
        return msgspec.convert(_without_null(msgspec.json.decode(text)), kind)
    except msgspec.MsgspecError as error:
        raise RuntimeFault(f"{name} is not valid: {error}") from error


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_null(one) for name, one in value.items() if one is not None}
    if isinstance(value, list):
        return [_without_null(one) for one in value]
    if isinstance(value, str) and "\0" in value:
        raise msgspec.ValidationError(f"{value!r} holds a NUL character; leave it out")
    return value
