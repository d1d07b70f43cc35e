"""RLimit, and the names of capabilities: what limits a container's processes in the guest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Annotated

import msgspec

from vc_core.config.fields import check_fields
from vc_core.config.values import set_fields
from vc_core.errors import ConfigError
from vc_core.frozen import frozen

_IN_ORDER = """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
    NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
    SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
    MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
_USUAL = """
    CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD AUDIT_WRITE
    SETFCAP
"""
_RESOURCES = "as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack"

#: All capabilities, in the order of their numbers (linux/capability.h of Linux 5.9 and later).
CAPABILITIES = tuple(f"CAP_{name}" for name in _IN_ORDER.split())

#: Capabilities of containers by default: those of Docker, which Podman and containerd share but for one or two.
DEFAULT_CAPABILITIES = tuple(f"CAP_{name}" for name in _USUAL.split())

#: A value of a resource limit.
_Limit = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]

#: Names of resource limits: those of setrlimit(2) in lower case without ``RLIMIT_``.
RLIMITS = frozenset(_RESOURCES.split())


@frozen
class RLimit:
    """A resource limit (setrlimit(2)) of each process of a container."""

    name: str  #: such as "nofile"
    soft: _Limit | None  #: what applies; None: no limit
    hard: _Limit | None  #: up to which a process may raise it; None: no limit

    def __post_init__(self) -> None:
        check_fields(self)
        if self.name not in RLIMITS:
            raise ConfigError(
                f"resource limit {self.name!r} is unknown; it can be {', '.join(sorted(RLIMITS))}", field="name"
            )
        if self.hard is not None and (self.soft is None or self.soft > self.hard):
            raise ConfigError(
                f"limit {str(self)!r} has a soft value above the hard value; give SOFT at most HARD", field="soft"
            )

    @classmethod
    def parse(cls, text: str) -> RLimit:
        """Return the limit given as ``NAME=VALUE`` or ``NAME=SOFT:HARD``; "unlimited": no limit. Raises ConfigError."""
        match = re.fullmatch(r"(\w+)=(\d{1,19}|unlimited)(?::(\d{1,19}|unlimited))?", text, re.ASCII)
        if not match:
            raise ConfigError(f"limit {text!r} is not of the form NAME=VALUE or NAME=SOFT:HARD")
        soft, hard = (None if part == "unlimited" else int(part) for part in (match[2], match[3] or match[2]))
        return cls(match[1], soft, hard)

    def __str__(self) -> str:
        soft, hard = ("unlimited" if value is None else str(value) for value in (self.soft, self.hard))
        return f"{self.name}={soft}:{hard}"


@frozen(kw_only=True)
class CapabilitySets:
    """The five sets of capabilities(7) that a command begins with, each as names; "ALL" for all.

    A command of root gets those of ``bounding`` at its execve, as execve(2) has it; one of another user the ``ambient``
    ones.
    """

    bounding: Sequence[str] = ()  #: what it, and what it executes, can get at most
    effective: Sequence[str] = ()  #: what it uses
    permitted: Sequence[str] = ()  #: what it may make effective
    inheritable: Sequence[str] = ()  #: what files that inherit them give to what it executes
    ambient: Sequence[str] = ()  #: what it keeps at an execve though it is not root

    def __post_init__(self) -> None:
        check_fields(self)
        for one in fields(self):
            set_fields(self, **{one.name: full_capabilities(getattr(self, one.name), one.name)})
        for name, among in (
            ("effective", "permitted"),
            ("inheritable", "bounding"),
            ("ambient", "permitted"),
            ("ambient", "inheritable"),
        ):
            if extra := [one for one in getattr(self, name) if one not in getattr(self, among)]:
                raise ConfigError(
                    f"capability {extra[0]!r} is {name} but not {among}, which the kernel refuses; add it there",
                    field=name,
                )


def full_capabilities(names: Iterable[str], field: str = "capabilities") -> tuple[str, ...]:
    """Return the full names of capabilities, in the kernel's order; "ALL" is all of them.

    ``field``: the one that has them, for errors. Raises ConfigError.
    """
    wanted = {f"CAP_{name.upper().removeprefix('CAP_')}" for name in names}
    if unknown := sorted(wanted - {"CAP_ALL", *CAPABILITIES}):
        raise ConfigError(f"capability {unknown[0]!r} is unknown; see capabilities(7) for their names", field=field)
    return tuple(name for name in CAPABILITIES if name in wanted or "CAP_ALL" in wanted)
