"""Options of the spawner ``nsenter``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from vc_core.errors import ConfigError

#: Value of ``root`` and ``work_dir``: that of the container's first process.
TARGET = "target"

#: Largest number of a user or group; the kernel reserves the next one (setuid(2)).
_ID_MAX = 2**32 - 2


@dataclass(frozen=True, slots=True, kw_only=True)
class NsenterConfig:
    """Options of the spawner ``nsenter``; mount, UTS, IPC, network and PID namespaces are always entered."""

    user_namespace: Annotated[bool, "enter the user namespace too"] = False
    cgroup: Annotated[bool, "enter the cgroup namespace too"] = False
    root: Annotated[
        str,
        "root directory: target for that of the container's first process, or a directory of the guest; without it, "
        "the root of the mount namespace",
    ] = ""
    work_dir: Annotated[
        str,
        "working directory: target for that of the container's first process, or a directory of the guest; without "
        "it, the root",
    ] = ""
    user: Annotated[int | None, "number of the user to run as; without it, unchanged"] = None
    group: Annotated[int | None, "number of the group to run as; without it, unchanged"] = None
    program: Annotated[str, "nsenter in the guest: a name or a path"] = "nsenter"

    def __post_init__(self) -> None:
        for name in ("root", "work_dir"):
            value = getattr(self, name)
            if "\0" in value or not (value in ("", TARGET) or value.startswith("/")):
                raise _bad(name, value, f"{TARGET!r} or an absolute path")
        for name in ("user", "group"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= _ID_MAX:
                raise _bad(name, value, f"a number from 0 to {_ID_MAX}")
        if not self.program or "\0" in self.program:
            raise _bad("program", self.program, "a name or a path")


def _bad(name: str, value: object, give: str) -> ConfigError:
    return ConfigError(f"option {name} of spawner nsenter is {value!r}; give {give}")
