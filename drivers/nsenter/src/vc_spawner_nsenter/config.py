"""Options of the spawner ``nsenter``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vc_core.driver import read_options
from vc_core.errors import ConfigError

#: Value of ``root`` and ``work_dir``: that of the container's first process.
TARGET = "target"

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

    @classmethod
    def from_mapping(cls, options: Mapping[str, object]) -> NsenterConfig:
        """Return the configuration that ``options`` describe.

        Raises ConfigError for an unknown option or a bad value, naming both.
        """
        return read_options(cls, options, "spawner nsenter")


def _bad(name: str, value: object, give: str) -> ConfigError:
    return ConfigError(f"option {name} of spawner nsenter is {value!r}; give {give}")
