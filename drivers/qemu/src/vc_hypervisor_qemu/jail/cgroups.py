"""Control groups that limit the memory and the processes of QEMU, where this process may make some.

Version 1: a directory below this process' own in the hierarchies of memory and pids. Version 2: the same in the one
hierarchy; limits exist there only if the parent delegates the controllers.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from vc_core.driver import frozen
from vc_hypervisor_qemu.config import TRANSLATED_MAX

_ROOT, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")

#: Where distributions mount version 2 beside version 1.
_HYBRID = "unified"

#: MiB that QEMU needs beyond its guest's memory, and more for translated code under emulation: its buffer, and a
#: quarter as much for the index of what is in there.
_BESIDE, _TRANSLATED = 128, TRANSLATED_MAX * 5 // 4

_MIB = 1024 * 1024

#: Where the kernel counts the processes of a group that it has killed for lack of memory, in version 2 and in version 1
#: (cgroup-v2.rst and cgroup-v1/memory.rst in Linux' Documentation/admin-guide).
_COUNTS = ("memory.events", "memory.oom_control")
_OOM_KILLS = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


@frozen
class Cgroups:
    """The directories made for one VM."""

    directories: tuple[Path, ...] = ()

    @property
    def members(self) -> list[str]:
        """The files to which a process writes 0 to become a member."""
        return [str(directory / "cgroup.procs") for directory in self.directories]

    def oom_kills(self) -> int | None:
        """Return how many of their processes the kernel has killed for lack of memory; None if it does not count them.

        That is of any lack, of the group or of the host. Called when QEMU has ended, before :meth:`remove`.
        """
        for directory in self.directories:
            for name in _COUNTS:
                with suppress(OSError):
                    if found := _OOM_KILLS.search((directory / name).read_text(encoding="ascii")):
                        return int(found[1])
        return None

    def remove(self) -> None:
        """Remove the directories, once their processes have ended; what cannot be removed is left."""
        for directory in self.directories:
            with suppress(OSError):
                directory.rmdir()


def memory_limit(guest: int, accelerator: str) -> int:
    """Return the bytes that QEMU may use for a guest with ``guest`` MiB."""
    return (guest + _BESIDE + (0 if accelerator == "kvm" else _TRANSLATED)) * _MIB


def make(uuid: str, memory: int, processes: int) -> Cgroups:
    """Return control groups for the VM of a pod, with limits in bytes and in processes; none where none can be made.

    Called before QEMU starts. Groups of the same VM that an interrupted start has left are used.
    """
    group = f"vc-{uuid}"
    made: list[Path] = []
    limits = {"memory": {"memory.limit_in_bytes": memory}, "pids": {"pids.max": processes}}
    version_2 = {"memory.max": memory, "memory.swap.max": 0, "pids.max": processes}
    for line in _lines():
        _, controllers, path = line.split(":", 2)
        for name in controllers.split(",") if controllers else ("",):
            if controllers and name not in limits:
                continue
            directory = _mount_point(controllers) / path.lstrip("/") / group
            if _make(directory, limits[name] if controllers else version_2):
                made.append(directory)
            break
    return Cgroups(tuple(made))


def _lines() -> list[str]:
    """Return the groups of this process (cgroups(7), /proc/PID/cgroup): "0::/path" is that of version 2."""
    try:
        lines = _OWN.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []
    return [line for line in lines if re.match(r"\d+:[^:]*:/", line)]


def _mount_point(controllers: str) -> Path:
    if controllers:
        return _ROOT / controllers
    return _ROOT / _HYBRID if (_ROOT / _HYBRID / "cgroup.procs").exists() else _ROOT


def _make(directory: Path, limits: dict[str, int]) -> bool:
    """Make a group with those of the limits that it can have; return False if it can have none."""
    try:
        directory.mkdir(mode=0o755, exist_ok=True)
    except OSError:
        return False
    set_ = 0
    for name, value in limits.items():
        with suppress(OSError):
            fd = os.open(directory / name, os.O_WRONLY | os.O_CLOEXEC)  # not created where there is no controller
            try:
                os.write(fd, str(value).encode())
                set_ += name != "memory.swap.max"
            finally:
                os.close(fd)
    if not set_:
        with suppress(OSError):
            directory.rmdir()
    return bool(set_)
