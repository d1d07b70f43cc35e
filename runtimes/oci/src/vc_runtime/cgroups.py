"""The control groups of a container on the host: its shim, supervisor and VM are in them, where engines measure.

No limits are set there: the container's own are set in the guest, and a VM is larger than its containers. But when the
guest's kernel has killed a container for its memory, that of the host kills its shim in the same way: engines look for
this in the container's control group (:func:`memory_limit`).
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_MOUNTS = Path("/sys/fs/cgroup")

#: Where distributions mount version 2 beside version 1. Engines that use version 1 make and remove no groups there.
_HYBRID = "unified"

#: The files of version 2 and 1 that limit memory, and swap.
_MEMORY = (("memory.max", "memory.swap.max"), ("memory.limit_in_bytes", "memory.swappiness"))

#: Seconds for the processes of a group to end, which are being killed, on a busy host.
_EMPTY_TIMEOUT = 10.0


def directory(cgroups_path: str) -> str:
    """Return the path of a container's groups below each mount; "" for none.

    ``SLICE:PREFIX:NAME`` is the form of engines that use systemd.
    """
    if cgroups_path.count(":") == 2:
        within, prefix, name = cgroups_path.split(":")
        return f"{within or 'system.slice'}/{prefix}-{name}.scope"
    path = os.path.normpath("/" + cgroups_path).strip("/")
    return "" if path == "." else path


def make(path: str) -> None:
    """Make the groups of a path, unless they are there; what the host refuses is left out.

    Groups above are made too, and are the engine's to remove; where the engine removes none, none are made.
    """
    for mount in _hierarchies() if path else ():
        group = mount / path
        with suppress(OSError):
            group.mkdir(parents=mount.name != _HYBRID, exist_ok=True)
            if mount.name == "cpuset":
                _inherit_cpuset(mount, group)
            _inherit_controllers(group)


def join(path: str, pid: int) -> None:
    """Put a process of one thread into the groups of a path, which are made; what the host refuses is left out."""
    make(path)
    for mount in _hierarchies() if path else ():
        # In version 1 by the file for threads: to move a process the kernel waits some 10 ms (cgroup_attach_lock).
        threads = mount / path / "tasks"
        members = threads if threads.exists() else mount / path / "cgroup.procs"
        with suppress(OSError):
            members.write_text(f"{pid}\n", encoding="utf-8")


def memory_limit(path: str) -> int | None:
    """Return a descriptor of the file that limits the memory of a path's groups; None if the host has no such file.

    From now on the kernel swaps no process of these groups, which are shims alone: it kills one that exceeds a limit.
    """
    for mount in _hierarchies() if path else ():
        for limit, swap in _MEMORY:
            with suppress(OSError):
                fd = os.open(mount / path / limit, os.O_WRONLY | os.O_CLOEXEC)
                with suppress(OSError):  # a host without swap may lack it
                    (mount / path / swap).write_text("0", encoding="utf-8")
                return fd
    return None


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
            found.update(map(int, (mount / path / "cgroup.procs").read_text(encoding="utf-8").split()))
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


def _inherit_controllers(group: Path) -> None:
    """Give a new group of version 2 the controllers of the one above, without which no engine can measure there."""
    with suppress(FileNotFoundError):  # version 1
        for one in (group.parent / "cgroup.controllers").read_text(encoding="utf-8").split():
            with suppress(OSError), (group.parent / "cgroup.subtree_control").open("a", encoding="utf-8") as enabled:
                enabled.write(f"+{one}\n")


def _inherit_cpuset(mount: Path, group: Path) -> None:
    """Give a new group of version 1 the processors of the one above: no process can be in one without."""
    above = mount
    for part in group.relative_to(mount).parts:
        below = above / part
        for name in ("cpuset.cpus", "cpuset.mems"):
            if not (below / name).read_text(encoding="utf-8").strip():
                (below / name).write_text((above / name).read_text(encoding="utf-8"), encoding="utf-8")
        above = below
