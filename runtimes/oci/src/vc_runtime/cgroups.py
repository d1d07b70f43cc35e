"""The control groups of a container on the host: its shim, supervisor and VM are in them, where engines measure.

No limits are set there: the container's own are set in the guest, and a VM is larger than its containers.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_MOUNTS = Path("/sys/fs/cgroup")

#: Seconds for the processes of a group to end, which are being killed.
_EMPTY_TIMEOUT = 2.0


def directory(cgroups_path: str) -> str:
    """Return the path of a container's groups below each mount; "" for none.

    ``SLICE:PREFIX:NAME`` is the form of engines that use systemd.
    """
    if cgroups_path.count(":") == 2:
        within, prefix, name = cgroups_path.split(":")
        return f"{within or 'system.slice'}/{prefix}-{name}.scope"
    path = os.path.normpath("/" + cgroups_path).strip("/")
    return "" if path == "." else path


def join(path: str, pid: int) -> None:
    """Put a process into the groups of a path, which are made; what the host refuses is left out."""
    for mount in _hierarchies() if path else ():
        group = mount / path
        with suppress(OSError):
            group.mkdir(parents=True, exist_ok=True)
            if mount.name == "cpuset":
                _inherit_cpuset(mount, group)
            (group / "cgroup.procs").write_text(f"{pid}\n", encoding="ascii")


def remove(path: str) -> None:
    """Remove the groups of a path, once the processes in them have ended; those that others use are left."""
    deadline = time.monotonic() + _EMPTY_TIMEOUT
    for pid in processes(path):
        with suppress(ProcessLookupError):
            pidfd = os.pidfd_open(pid)
            select.select([pidfd], [], [], max(deadline - time.monotonic(), 0.0))
            os.close(pidfd)
    for mount in _hierarchies() if path else ():
        with suppress(OSError):
            (mount / path).rmdir()


def processes(path: str) -> list[int]:
    """Return the processes in the groups of a path."""
    found: set[int] = set()
    for mount in _hierarchies() if path else ():
        with suppress(OSError):
            found.update(map(int, (mount / path / "cgroup.procs").read_text(encoding="ascii").split()))
    return sorted(found)


def _hierarchies() -> Iterator[Path]:
    """Yield where hierarchies are mounted: one of version 2, or one for each controller of version 1."""
    if (_MOUNTS / "cgroup.controllers").exists():
        yield _MOUNTS
        return
    with suppress(OSError):
        for entry in sorted(_MOUNTS.iterdir()):
            if entry.is_dir() and not entry.is_symlink() and (entry / "cgroup.procs").exists():
                yield entry


def _inherit_cpuset(mount: Path, group: Path) -> None:
    """Give a new group of version 1 the processors of the one above: no process can be in one without."""
    above = mount
    for part in group.relative_to(mount).parts:
        below = above / part
        for name in ("cpuset.cpus", "cpuset.mems"):
            if not (below / name).read_text(encoding="ascii").strip():
                (below / name).write_text((above / name).read_text(encoding="ascii"), encoding="ascii")
        above = below
