"""Options of the spawner ``nsenter``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from vc_core.errors import ConfigError

#: Value of ``root`` and ``work_dir``: that of the container's first process.
TARGET = "target"

_FLAGS = {"true": True, "false": False}

#: Largest number of a user or group; the kernel reserves the next one (setuid(2)).
_ID_MAX = 2**32 - 2


@dataclass(frozen=True, slots=True, kw_only=True)
class NsenterConfig:
    """Options of the spawner ``nsenter``; mount, UTS, IPC, network and PID namespaces are always entered.

    ``user_namespace``, ``cgroup``: enter these namespaces too. ``root``, ``work_dir``: "target" for those of the
    container's first process, or a directory of the guest; empty means the root of the mount namespace.
    ``user``, ``group``: numbers to run as; None leaves them unchanged. ``program``: nsenter in the guest.
    """

    user_namespace: bool = False
    cgroup: bool = False
    root: str = ""
    work_dir: str = ""
    user: int | None = None
    group: int | None = None
    program: str = "nsenter"

    def __post_init__(self) -> None:
        for name in ("user_namespace", "cgroup"):
            if not isinstance(value := getattr(self, name), bool):
                raise ConfigError(f"nsenter option {name} is {value!r}; give true or false")
        for name in ("root", "work_dir"):
            value = getattr(self, name)
            if not isinstance(value, str) or "\0" in value or not (value in ("", TARGET) or value.startswith("/")):
                raise ConfigError(f"nsenter option {name} is {value!r}; give {TARGET!r} or an absolute path")
        for name in ("user", "group"):
            value = getattr(self, name)
            number = isinstance(value, int) and not isinstance(value, bool)
            if value is not None and not (number and 0 <= value <= _ID_MAX):
                raise ConfigError(f"nsenter option {name} is {value!r}; give a number from 0 to {_ID_MAX}")
        if not isinstance(self.program, str) or not self.program or "\0" in self.program:
            raise ConfigError(f"nsenter option program is {self.program!r}; give a name or a path")

    @classmethod
    def from_mapping(cls, options: Mapping[str, Any]) -> NsenterConfig:
        """Return the configuration that ``options`` describe, values as text too. Raises ConfigError."""
        known = {field.name for field in fields(cls)}
        values = dict(options)
        for name, value in options.items():
            if name not in known:
                raise ConfigError(f"nsenter option {name!r} is unknown; use one of {', '.join(sorted(known))}")
            if name in ("user_namespace", "cgroup") and isinstance(value, str):
                values[name] = _FLAGS.get(value.lower(), value)
            elif name in ("user", "group") and isinstance(value, str) and value.isdecimal():
                values[name] = int(value)
        return cls(**values)
