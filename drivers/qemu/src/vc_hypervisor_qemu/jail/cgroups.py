"""Control groups that limit the memory and the processes of QEMU, where this process may make some.

Version 1: a directory below this process' own in the hierarchies of memory and pids. Version 2: the same in the one
hierarchy; limits exist there only if the parent delegates the controllers.

Who owns a VM holds a shared lock (flock) on its groups. What is empty, not locked and old was left by a process that
was killed, and the next start of any VM beside it removes it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

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
_OOM_KILLS = r"(?m)^oom_kill (\d+)$"


#: Times that a group is made anew because another process has just removed it, and seconds between them.
_TRIES, _BETWEEN = 100, 0.001

#: Seconds for processes that have ended to leave their group, and between two tries to remove it: the kernel may report
#: the end of a process first.
_LEAVE_TIMEOUT, _RETRY_INTERVAL = 1.0, 0.005

#: Seconds after which an empty group that nobody has locked is taken for one whose owner was killed: owners of versions
#: before 0.1.0 hold no lock.
_ABANDONED = 60.0

#: The name of a VM's group, and the pattern of all such names.
_NAME, _NAMES = "vc-{}", "vc-" + "-".join("?" * length for length in (8, 4, 4, 4, 12))


class Cgroups:
    """The directories made for one VM."""

    def __init__(self, directories: Sequence[Path] = ()) -> None:
        self.directories = tuple(directories)
        self._locks: list[int] = []

    @property
    def members(self) -> list[str]:
        """The files to which a process with one thread writes 0 to become a member.

        In version 1 that is the one for threads: before the kernel moves a whole process it waits until each CPU has
        noticed that no process of the host may start a thread or end, which takes 6 to 14 ms (``cgroup_attach_lock`` in
        Linux' kernel/cgroup/cgroup.c).
        """
        every = ((directory / "tasks", directory / "cgroup.procs") for directory in self.directories)
        return [str(threads if threads.exists() else processes) for threads, processes in every]

    def hold(self, locks: Sequence[int] = ()) -> None:
        """Keep others from removing the groups, also while they are empty. ``locks``: those that the caller has."""
        held = locks or [lock for one in self.directories if (lock := _lock(one, fcntl.LOCK_SH)) is not None]
        self._locks.extend(held)

    def close(self) -> None:
        """Hold them no more."""
        while self._locks:
            os.close(self._locks.pop())

    def oom_kills(self) -> int | None:
        """Return how many of their processes the kernel has killed for lack of memory; None if it does not count them.

        That is of any lack, of the group or of the host. Called when QEMU has ended, before :meth:`remove`.
        """
        for directory in self.directories:
            for name in _COUNTS:
                with suppress(OSError):
                    if found := re.search(_OOM_KILLS, (directory / name).read_text(encoding="utf-8")):
                        return int(found[1])
        return None

    def remove(self) -> None:
        """Remove the directories, once their processes have ended; what cannot be removed is left."""
        end = time.monotonic() + _LEAVE_TIMEOUT
        for directory in self.directories:
            while _is_busy(directory) and time.monotonic() < end:
                threading.Event().wait(_RETRY_INTERVAL)  # no event says that a group is empty, in version 1
        self.close()


def _is_busy(directory: Path) -> bool:
    """Remove a group; return whether that has to wait for its processes."""
    try:
        directory.rmdir()
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def memory_limit(guest: int, accelerator: str) -> int:
    """Return the bytes that QEMU may use for a guest with ``guest`` MiB."""
    return (guest + _BESIDE + (0 if accelerator == "kvm" else _TRANSLATED)) * _MIB


def make(uuid: str, memory: int, processes: int) -> Cgroups:
    """Return control groups for the VM of a pod, with limits in bytes and in processes; none where none can be made.

    Called before QEMU starts. Groups of the same VM that an interrupted start has left are used, and those of others
    beside them are removed.
    """
    made: list[Path] = []
    locks: list[int] = []
    limits = {"memory": {"memory.limit_in_bytes": memory}, "pids": {"pids.max": processes}}
    version_2 = {"memory.max": memory, "memory.swap.max": 0, "pids.max": processes}
    for controller, _, parent in _parents():
        for group in parent.glob(_NAMES):
            with suppress(FileNotFoundError):
                if time.time() - group.stat().st_mtime >= _ABANDONED:
                    _remove_unheld(group)
        directory = parent / _NAME.format(uuid)
        if (lock := _make(directory)) is None:
            continue
        if _limit(directory, limits[controller] if controller else version_2):
            made.append(directory)
            locks.append(lock)
        else:
            with suppress(OSError):
                directory.rmdir()
            os.close(lock)
    groups = Cgroups(made)
    groups.hold(locks)
    return groups


def remove_left(uuid: str) -> None:
    """Remove the groups of a pod's VM that are on no record, in whichever groups they were made.

    Called when a start was interrupted: the process that had begun it may have been in another group than this one.
    """
    name = _NAME.format(uuid)
    for top in dict.fromkeys(top for _, top, _ in _parents()):
        for path, names, _ in os.walk(top):
            if name in names:
                _remove_unheld(Path(path, name))


def _remove_unheld(group: Path) -> None:
    """Remove a group if it is empty and nobody holds it."""
    if (lock := _lock(group, fcntl.LOCK_EX)) is not None:
        with suppress(OSError):  # it has processes
            group.rmdir()
        os.close(lock)


def _lock(directory: Path, how: int) -> int | None:
    """Return a descriptor that holds a lock on a group; None if it is held by another, or is there no more."""
    try:
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), directory.lstat()):
            return lock
    except OSError:
        pass
    os.close(lock)
    return None


def _parents() -> Iterator[tuple[str, Path, Path]]:
    """Yield each group of this process in which one for a VM has a use.

    That is: the controller that limits, "" in version 2; where the hierarchy is mounted; the group.
    """
    for line in _lines():
        _, controllers, path = line.split(":", 2)
        for name in [name for name in controllers.split(",") if name in ("memory", "pids", "")][:1]:
            top = _mount_point(controllers)
            yield name, top, top / path.lstrip("/")


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


def _make(directory: Path) -> int | None:
    """Make a group; return a descriptor that holds a lock on it, None if none can be made."""
    for _ in range(_TRIES):
        try:
            directory.mkdir(mode=0o700, exist_ok=True)  # others cannot lock it
        except OSError:
            return None
        if (lock := _lock(directory, fcntl.LOCK_SH)) is not None:
            return lock
        threading.Event().wait(_BETWEEN)  # another process removes it
    return None


def _limit(directory: Path, limits: dict[str, int]) -> bool:
    """Give a group those of the limits that it can have; return whether it can have one."""
    set_ = 0
    for name, value in limits.items():
        with suppress(OSError):
            fd = os.open(directory / name, os.O_WRONLY | os.O_CLOEXEC)  # not created where there is no controller
            try:
                os.write(fd, str(value).encode())
                set_ += name != "memory.swap.max"
            finally:
                os.close(fd)
    return bool(set_)
