"""The containers of :mod:`vc_agent_hyperstart.testing.fake_guest`: what their processes see and may do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vc_core.driver import CAPABILITIES
from vc_core.testing.rootfs import GROUP, PASSWD

#: What the processes of a container without a limit may open, as Linux has it (INR_OPEN_CUR of linux/fs.h).
_OPEN_FILES = 1024

#: Directories that there are in each container.
_DIRECTORIES = ("/", "/etc", "/tmp")


def capability_mask(names: Iterable[str]) -> int:
    """Return a set of capabilities as the kernel shows it."""
    return sum(1 << CAPABILITIES.index(name) for name in names)


class FakeContainer:
    """What one container is, by its NEWCONTAINER; the pod itself is one without limits.

    ``share`` and ``writable`` are the directories of the host from which its mounts come, ``roots`` that of roots that
    containers write to, ``kernel`` the parameters of the guest's kernel, ``memory`` the files of the pod's /dev/shm.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        share: Path | None,
        writable: Path | None,
        roots: Path | None,
        kernel: Mapping[str, str],
        memory: dict[str, bytes],
    ) -> None:
        self._spec = spec
        self._kernel, self._memory = kernel, memory
        self.own_pids: bool = spec.get("ownPids", False)
        self.no_new_privs: bool = spec.get("noNewPrivs", False)
        self.frozen = False
        self.memory_limit: int = spec.get("memory", 0)  #: MiB
        self.worked = 0  #: nanoseconds
        self._read_only: bool = spec.get("readOnly", False)
        self._written: dict[str, bytes] = {}
        self._root = roots / spec["image"] / spec["rootfs"] if roots and spec.get("writableRoot") else None
        self._mounts = {
            mount["path"]: (writable if mount.get("writable") else share, mount["source"], mount["readOnly"])
            for mount in spec.get("fsmap", ())
            if not mount.get("tmpfs")
        }

    @property
    def open_files(self) -> int:
        """How many files a process may open."""
        limits = {limit["name"]: limit["soft"] for limit in self._spec.get("rlimits", ())}
        return int(limits.get("nofile", _OPEN_FILES))

    @property
    def bounding(self) -> int:
        """The capabilities that a process can have at most, as /proc/PID/status has them."""
        return capability_mask(self._spec.get("capabilities") or CAPABILITIES)

    def _find(self, path: str) -> tuple[Path, bool] | None:
        """Return the host's file for a path on a mount, and whether it is read-only."""
        for target, (top, source, read_only) in self._mounts.items():
            if path.startswith(f"{target}/") and top is not None:
                return top / source / path.removeprefix(f"{target}/"), read_only
        if self._root is not None and not self._is_shared(path):
            return self._root / path.removeprefix("/"), self._read_only
        return None

    def read(self, path: str) -> bytes | None:
        """Return the content of a file, None if there is none."""
        if path.startswith("/proc/sys/"):
            value = self._kernel.get(path.removeprefix("/proc/sys/").replace("/", "."))
            return None if value is None else value.encode()
        if path == "/proc/self/status":
            return b"Seccomp:\t%d\n" % (2 if "seccomp" in self._spec else 0)
        devices = [one["path"] for one in self._spec.get("devices", ())]  # of /dev/null, whatever their numbers
        if path in (*devices, *self._spec.get("maskedPaths", ())):
            return b""
        if (found := self._find(path)) is not None:
            return found[0].read_bytes() if found[0].exists() else None
        return (self._memory if self._is_shared(path) else self._written).get(path)

    def _is_shared(self, path: str) -> bool:
        return path.startswith("/dev/shm/") and "sharedMemory" in self._spec

    def write(self, path: str, data: bytes) -> bool:
        """Write a file, and return whether the container may."""
        found = self._find(path)
        if any(path.startswith(f"{one}/") for one in self._spec.get("readonlyPaths", ())):
            return False
        if found is None:
            if not self._read_only:
                (self._memory if self._is_shared(path) else self._written)[path] = data
            return not self._read_only
        file, read_only = found
        if not read_only:
            file.write_bytes(data)
        return not read_only


@dataclass(frozen=True)
class Identity:
    """Who a process is, in numbers, by its specification and the tables that all containers have."""

    user: int
    group: int
    groups: frozenset[int]

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Identity:
        """Return who a process is. Raises LookupError for a user or group that is neither known nor a number."""
        users = [line.split(":") for line in PASSWD.splitlines()]
        groups = [line.split(":") for line in GROUP.splitlines()]

        def group(wanted: str) -> int:
            return next((int(one[2]) for one in groups if wanted in (one[0], one[2])), None) or _number(wanted)

        wanted = spec.get("user") or "0"
        entry = next((one for one in users if wanted in (one[0], one[2])), None)
        user, own = (int(entry[2]), int(entry[3])) if entry else (_number(wanted), 0)
        listed = spec.get("user") and entry and not spec.get("exactGroups")
        member = {int(one[2]) for one in groups if listed and entry and entry[0] in one[3].split(",")}
        first = group(spec["group"]) if spec.get("group") else own
        return cls(user, first, frozenset({first, *member, *map(group, spec.get("additionalGroups", ()))}))


def refusal(spec: Mapping[str, Any]) -> str:
    """Return why a process cannot start, besides a missing program; "" if it can."""
    if (directory := spec.get("workdir") or "/") not in _DIRECTORIES:
        return f"working directory {directory} cannot be entered"
    try:
        Identity.of(spec)
    except LookupError as error:
        return str(error)
    return ""


def _number(wanted: str) -> int:
    if not wanted.isdecimal():
        raise LookupError(f"there is no user or group {wanted}")
    return int(wanted)
